"""What every method has to do: search, derive, resume."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch

from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.errors import ConfigError
from darts_ray.search import SearchRun, methods
from darts_ray.space import Genotype
from tests.search.identical import assert_identical
from tests.search.small import image_config, image_data, text_config, text_data

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "darts_pt": {"interval": 2},
    "random_ws": {"samples": 4, "batches": 1, "finalists": 2},
    "sdarts": {"perturbation": "adversarial", "steps": 2},
    "pc_darts": {"channels": 2},
    "drnas": {"regulariser": "kl"},
    "oles": {"interval": 2, "threshold": 0.9},
}
CONV_ONLY = [name for name, model in METHOD_CONFIGS.items() if model.conv_only]
ALL = [
    (name, kind)
    for name in METHOD_CONFIGS
    for kind in ("image", "text")
    if kind == "image" or name not in CONV_ONLY
]
MEASURED = ("seconds", "samples_per_second", "peak_memory_bytes")


def make(name: str, kind: str, **values: Any) -> SearchRun:
    config, data = {"image": (image_config, image_data), "text": (text_config, text_data)}[kind]
    method = {"name": name, **SMALL.get(name, {})}
    return SearchRun(config(method=method, epochs=2, max_steps=2, **values), data(), CPU)


def rows_of(run: SearchRun) -> list[dict[str, Any]]:
    rows = []
    while not run.finished:
        row = run.run_epoch()
        rows.append({key: value for key, value in row.items() if key not in MEASURED})
    return rows


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_resume_is_exact_after_every_epoch_of_every_phase(name: str, kind: str) -> None:
    whole = make(name, kind)
    states, expected = [], []
    while not whole.finished:
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        states.append(file)
        row = whole.run_epoch()
        expected.append({key: value for key, value in row.items() if key not in MEASURED})
    json.dumps(expected)  # plain values only
    assert len(expected) == whole.epochs == whole.config.total_epochs
    assert Genotype.from_json(expected[-1]["genotype"]) == whole.genotype()
    # each state goes on for one epoch; the last of them to the end
    for index, file in enumerate(states):
        file.seek(0)
        resumed = make(name, kind)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        row = resumed.run_epoch()
        assert {k: v for k, v in row.items() if k not in MEASURED} == expected[index]
    assert_identical(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("hvp", ["finite_difference", "exact"])
@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_every_method_searches_unrolled(name: str, hvp: str) -> None:
    run = make(name, "image", optim={"order": "unrolled", "hvp": hvp, "alpha_lr": 0.05})
    run.run_epoch()


@pytest.mark.parametrize("name", CONV_ONLY)
def test_methods_for_conv_cells_refuse_text(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*is for conv searches"):
        text_config(method=name)


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_methods_by_name(name: str) -> None:
    assert methods[name].name == name
    assert methods.make({"name": name}).name == name
    assert image_config(method={"name": name, **SMALL.get(name, {})}).method.name == name


def test_unknown_methods_and_values() -> None:
    with pytest.raises(ConfigError, match=r"no method 'gdass'; there are: darts.*mean 'gdas'"):
        methods.make("gdass")
    with pytest.raises(ValueError, match=r"tau_mx: unknown key\. Did you mean 'tau_max'"):
        image_config(method={"name": "gdas", "tau_mx": 3})
    with pytest.raises(ValueError, match="must be a method's name"):
        image_config(method=3)
    with pytest.raises(ValueError, match=r"method.imports: the module 'no_such_module'"):
        image_config(method={"name": "mine", "imports": ["no_such_module"]})


def test_a_checkpoint_of_another_method_or_other_data() -> None:
    state = make("darts", "image").state_dict()
    with pytest.raises(Exception, match="is of the method 'darts'"):
        make("sdarts", "image").load_state_dict(state)
    with pytest.raises(Exception, match="other data"):
        make("darts", "image", data={"split_seed": 1}).load_state_dict(state)
    with pytest.raises(Exception, match="other data"):
        make("darts", "image", train_portion=0.6).load_state_dict(state)
    with pytest.raises(Exception, match="format 3"):
        make("darts", "image").load_state_dict({**state, "format": 3})


def test_a_checkpoint_of_the_first_format_loads() -> None:
    run = make("darts", "image")
    run.run_epoch()
    state = run.state_dict()
    old = {k: state[k] for k in ("epochs_done", "supernet", "step", "feed", "rng")}
    other = make("darts", "image")
    other.load_state_dict(old)
    assert rows_of(other) == rows_of(run)


def test_an_epoch_in_steps_equals_run_epoch() -> None:
    whole, stepped = make("darts", "image"), make("darts", "image")
    stepped.begin_epoch()
    counts = []
    while stepped.step():
        counts.append(stepped.steps)
    with pytest.raises(ConfigError, match="end_epoch first"):
        stepped.state_dict()
    row = stepped.end_epoch()
    assert counts == [(1, 2), (2, 2)]
    expected = whole.run_epoch()
    assert {k: v for k, v in row.items() if k not in MEASURED} == {
        k: v for k, v in expected.items() if k not in MEASURED
    }
    assert_identical(whole.state_dict(), stepped.state_dict())
    with pytest.raises(ConfigError, match="begin_epoch first"):
        stepped.end_epoch()
