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
from darts_ray.search.step.relaxing import relaxed_weights
from darts_ray.space import Genotype, SearchSpace
from darts_ray.space.topology import CellSpace, EdgeSpace
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
] + [(f"darts_pt on {name}", "image") for name in ("pc_darts", "gdas", "oles")]
MEASURED = ("seconds", "samples_per_second", "peak_memory_bytes")


def make(name: str, kind: str, **values: Any) -> SearchRun:
    config, data = {"image": (image_config, image_data), "text": (text_config, text_data)}[kind]
    if name == "lambda_darts":  # it compares two normal cells
        values["network"] = {"channels": 2, "layers": 4, "stem_multiplier": 1}
    base = name.removeprefix("darts_pt on ")
    method = {"name": base, **SMALL.get(base, {})}
    if base != name:
        method = {"name": "darts_pt", "interval": 2, "base": method}
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
    # each state goes on for one epoch, and is then the next one, bit for bit
    for file in states:
        file.seek(0)
    loaded = [torch.load(file, weights_only=True) for file in states]
    for index, following in enumerate([*loaded[1:], whole.state_dict()]):
        resumed = make(name, kind)
        resumed.load_state_dict(loaded[index])
        row = resumed.run_epoch()
        assert {k: v for k, v in row.items() if k not in MEASURED} == expected[index]
        assert_identical(following, resumed.state_dict())


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
    assert make(name, "image").config.method.name == name


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


@pytest.mark.parametrize("space", ["s1", "s3", "nasbench201"])
@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_every_method_on_the_published_spaces(name: str, space: str) -> None:
    method: dict[str, Any] = {"name": name, **SMALL.get(name, {})}
    layers = 4 if name == "lambda_darts" and space != "nasbench201" else 3
    config = image_config(
        space=space,
        method=method,
        network={"channels": 4, "layers": layers},
        epochs=1,
        max_steps=1,
        optim={},
    )
    run = SearchRun(config, image_data(num=20), CPU)
    row = run.run_epoch()
    shown = {cell: row["alphas"][cell] for cell in config.search_space().cell_names}
    shapes = {cell: (len(rows), len(rows[0])) for cell, rows in shown.items()}
    assert shapes == config.search_space().alpha_shapes
    genotype = Genotype.from_json(row["genotype"])
    if space == "nasbench201":
        assert genotype.skeleton == "nasbench201"
    else:
        assert "none" not in genotype.counts()


def test_early_stopping_and_drop_path_with_any_method() -> None:
    run = make("pc_darts", "image", early_stop="eigenvalue", drop_path=0.5)
    rows = rows_of(run)
    assert all("signed_eigenvalue" in row for row in rows)
    plain = rows_of(make("pc_darts", "image"))
    # the ramp begins at 0: nothing is dropped, nothing erased in the first epoch
    assert rows[0]["train_loss"] == pytest.approx(plain[0]["train_loss"])
    assert rows[1]["train_loss"] != pytest.approx(plain[1]["train_loss"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": {"name": "pc_darts", "channels": 3}}, "3 does not divide network.channels"),
        ({"method": "gdas", "compile": True}, "compile: 'gdas' chooses the operations"),
        ({"method": "gdas", "graphs": True}, "graphs: 'gdas' changes its mixing weights"),
        ({"method": {"name": "darts_pt", "base": "random"}}, "method.base: 'random' derives"),
        ({"method": "lambda_darts"}, "increase network.layers"),
        ({"method": "random", "early_stop": "eigenvalue"}, "has no alphas to watch"),
        ({"method": "darts_pt", "early_stop": "eigenvalue"}, "early_stop: .* decides"),
        ({"drop_path": 0.2, "augment": {"cutout": 4}}, "drop_path.cutout"),
        ({"drop_path": 0.2, "graphs": True}, "graphs: drop path draws"),
    ],
)
def test_combinations_that_mean_nothing(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_config(**values)


def test_drop_path_is_for_conv_searches() -> None:
    with pytest.raises(ValueError, match="drop_path: is for conv searches"):
        text_config(drop_path=0.2)


def test_a_method_of_ones_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_method.py").write_text(
        "from darts_ray.config.methods import MethodConfig\n"
        "from darts_ray.search import methods\n"
        "from darts_ray.search.parts import Method\n"
        "class Mine(MethodConfig):\n"
        "    scale: float = 1.0\n"
        "methods.register('mine', lambda config: Method('mine'), Mine)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    method = {"name": "mine", "imports": ["my_own_method"], "scale": 2.0}
    config = image_config(method=method, epochs=1, max_steps=1)
    try:
        assert config.method.model_dump()["scale"] == 2.0
        assert SearchRun(config, image_data(), CPU).run_epoch()["epoch"] == 1
        with pytest.raises(ConfigError, match="is a method of the package"):
            methods.register("gdas", lambda config: methods["darts"])
    finally:
        methods.unregister("mine")


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
def test_text_batches_of_one_column_fail_before_the_first_epoch(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: at least 2"):
        SearchRun(text_config(**{name: 1}), text_data(), CPU)


def test_relaxed_weights_of_edges_with_fewer_primitives_sum_to_one() -> None:
    edges = (EdgeSpace(0, 0, ("skip_connect", "sep_conv_3x3")), EdgeSpace(1, 0, ("skip_connect",)))
    cells = tuple(CellSpace(name, 2, edges) for name in ("normal", "reduce"))
    sizes = {"channels": 2, "num_classes": 3, "layers": 3, "in_channels": 1}
    supernet = methods.supernet("darts", space=SearchSpace("ragged", cells), **sizes)
    for rows in relaxed_weights(methods["darts"], supernet).values():
        assert rows[1] == [1.0, 0.0]
        assert sum(rows[0]) == pytest.approx(1)
