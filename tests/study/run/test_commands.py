"""The commands that run a study, from words to exit code; Ray and the export are stood in for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from darts_ray.bench import BenchReport, StepCost
from darts_ray.cli import app, run
from darts_ray.config import to_yaml
from darts_ray.data import open_data
from darts_ray.space import zoo
from darts_ray.study import load_study
from darts_ray.study.plan.settings import search_trials
from darts_ray.train import RetrainRun
from tests.docs.material import exported
from tests.study.run.conftest import FakeRay, searches, tiny

# What a command is called with, and what it says comes next: {study} is a finished study, {config}
# its file, {place} the folder that both are in.
NEXT = {
    "init": ("", "init quickstart"),
    "doctor": ("--output {place}", "init"),
    "plan": ("{config}", "study {config}"),
    "bench": ("{config}", "study {config}"),
    "version": ("", "doctor"),
    "study": ("{config} --resume", None),
    "resume": ("{study}", None),
    "export": ("{study}", None),
    "report": ("{study}", None),
    "search": ("{config} --set name=other", "resume {place}/runs/other"),
    "retrain": ("{config} --set name=v2 --genotype DARTS_V2", None),
    "status": ("{study}", "report {study}"),
    "list": ("{place}/runs", "status {study}"),
    "compare": ("{study} {place}/runs/copy", "{words} -o comparison.html"),
    "predict": ("{place}/best.onnx {place}/picture.png", "{words} --json"),
    "evaluate": ("{place}/best.pt --data {config}", "{words} --json"),
}
"""None: the page is opened, as the platform does."""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration file of a tiny study."""
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(tiny(tmp_path / "runs")))
    return str(file)


@pytest.fixture
def finished(config: str, tmp_path: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]) -> str:
    """The folder of a finished study."""
    assert run(["study", config]) == 0
    capsys.readouterr()
    ray.started.clear()
    return str(tmp_path / "runs" / "tiny")


def values(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    """Run a command with --json and return what it printed."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_results_and_progress_go_different_ways(
    config: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", config]) == 0
    printed = capsys.readouterr()
    assert "Test accuracy: 90.00 ± 0.00 %" in printed.out
    assert "Next: " in printed.out
    assert "search: starts" not in printed.out
    assert "search: starts" in printed.err


def test_the_result_as_values(
    config: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    result = values(["study", config], capsys)
    assert result["test_scores"] == {"0": 0.9, "1": 0.9}
    assert result["folder"].endswith("runs/tiny")
    assert set(result["winner"]["cells"]) == {"normal", "reduce"}
    assert result["failed"] == []


def test_stages_alone(config: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]) -> None:
    result = values(["search", config], capsys)
    assert ray.started == ["search"]
    assert result["onnx"] is None
    result = values(["retrain", config, "--set", "name=v2", "--genotype", "DARTS_V2"], capsys)
    assert ray.started == ["search", "retrain"]
    assert result["onnx"].endswith("runs/v2/best.onnx")
    result = values(["export", result["folder"]], capsys)
    assert result["onnx"].endswith("runs/v2/best.onnx")
    assert ray.started == ["search", "retrain"]


def test_failed_trials_are_code_3_and_a_resume_tries_them_again(
    config: str, tmp_path: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.failing = {searches(tiny(tmp_path / "runs"))[0]}
    result = values(["study", config], capsys, code=3)
    assert [failure["error"] for failure in result["failed"]] == ["RuntimeError: <boom>"]
    assert run(["resume", result["folder"]]) == 3
    printed = capsys.readouterr()
    assert "RuntimeError: <boom>" in printed.err
    assert f"Next: darts-ray resume {result['folder']}" in printed.out
    ray.failing = set()
    assert values(["resume", result["folder"]], capsys)["failed"] == []


def test_ctrl_c_is_code_130_and_says_how_to_go_on(
    config: str, tmp_path: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.interrupt = "select"
    assert run(["study", config]) == 130
    assert f"darts-ray resume {tmp_path / 'runs' / 'tiny'}" in capsys.readouterr().err
    ray.interrupt = None
    assert run(["resume", str(tmp_path / "runs" / "tiny")]) == 0
    assert ray.started == ["search", "select", "select", "retrain"]


def test_resume_with_what_may_change_at_any_time(
    finished: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["resources.max_concurrent=1", "tune.max_failures=7", "tracking.experiment=mine"]
    assert run(["resume", finished, *(w for word in words for w in ("--set", word))]) == 0
    config = load_study(finished).config
    assert config.resources.max_concurrent == 1
    assert config.tune.max_failures == 7
    assert config.tracking.experiment == "mine"
    assert ray.started == []  # what is finished stays finished


def test_resume_with_another_export_does_it_again(
    finished: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["resume", finished, "--set", "export.tolerance=0.001"]) == 0
    assert "export: export.tolerance changed" in capsys.readouterr().err
    assert ray.started == []


def test_resume_with_more_seeds_and_methods(
    finished: str, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["resume", finished, "--set", "seeds=0..2"]) == 0
    assert ray.started == ["search", "select", "retrain"]
    assert len(search_trials(load_study(finished).config)) == 3
    method = "search.method={grid: [darts, random]}"
    result = values(["resume", finished, "--set", method], capsys)
    assert [row["seeds"] for row in result["rows"]] == ["3 of 3", "3 of 3"]


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("search.epochs=9", "search. It would lose the searches"),
        ("seeds=[0]", "seeds. It would lose the searches -, seed 1"),
        ("retrain.epochs=9", "retrain.epochs (may change until the stage of this section has"),
        ("retrain.seeds=[1]", "retrain.seeds (may gain trials; those that are there must stay)"),
        ("tune.scheduler=asha", "tune.scheduler (may change until the search stage has begun)"),
        ("data.max_train=64", "data.max_train (another value is another study)"),
        ("name=other", "has its name and output from its folder"),
        ("output=/elsewhere", "has its name and output from its folder"),
        ("resources.max_concurent=1", "Did you mean 'max_concurrent'?"),
        ("tune.max_failures=-1", "tune.max_failures: Input should be"),
    ],
)
def test_what_may_not_change_is_refused(
    override: str,
    part: str,
    finished: str,
    ray: FakeRay,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = Path(finished, "study.yaml").read_bytes()
    assert run(["resume", finished, "--set", override]) == 2
    assert part in capsys.readouterr().err.replace("\n", " ")
    assert ray.started == []
    assert Path(finished, "study.yaml").read_bytes() == before


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_ends_with_what_to_do_next(
    command: str,
    finished: str,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if command == "compare":
        shutil.copytree(finished, tmp_path / "runs" / "copy")
    if command == "predict":
        exported(tmp_path)
    if command == "bench":  # which starts processes to measure in, and has tests of its own
        cost = StepCost("as configured", "first", "CPU", 0.1, 640.0, 2**30, 0.1)
        report = BenchReport((cost,), "no advice", 2, 0.2)
        monkeypatch.setattr("darts_ray.bench.bench", lambda *_, **__: report)
    if command == "evaluate":
        retraining = tiny(tmp_path).retrain_config(zoo["DARTS_V2"].to_dict(), 0)
        RetrainRun(retraining, open_data(retraining.data)).save(tmp_path / "best.pt")
        capsys.readouterr()
    words, after = NEXT[command]
    where = {"study": finished, "config": config, "place": tmp_path}
    words = f"{command} {words}".format(**where)
    assert run(words.split()) == 0
    printed = capsys.readouterr()
    # values are all that these print to standard output
    values_only = command in ("predict", "evaluate", "version")
    last = (printed.err if values_only else printed.out).splitlines()[-1]
    if after is None:
        assert last.startswith("Next: xdg-open ")
    else:
        assert last == f"Next: darts-ray {after}".format(**where, words=words)
    assert "Next:" not in (printed.out if values_only else printed.err)
