"""The command line answers bad input with one message and exit code 2, and starts nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from darts_ray import __version__
from darts_ray.cli import app, run
from darts_ray.cli.next_step import command, opening, trying

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
ORDERS = str(ROOT / "configs" / "digits" / "orders.yaml")


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command line that must fail with code 2 and return its message."""
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "darts-ray study quickstart.yaml" in capsys.readouterr().out
    assert run(["version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["study", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["study", QUICKSTART, "--set", "serch.epochs=1"], "Did you mean 'search'?"),
        (["study", QUICKSTART, "--set", "search.epochs=-1"], "search.epochs: Input should be"),
        (["study", QUICKSTART, "--set", "name"], "--set name: must look like"),
        (["study"], "Missing argument"),
        (["fly"], "No such command"),
        (
            ["retrain", QUICKSTART, "--genotype", "DARTS_V3"],
            "--genotype DARTS_V3: is no published",
        ),
    ],
)
def test_bad_input(
    arguments: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in failing(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [["resume"], ["report"], ["export"], ["retrain", QUICKSTART, "--genotype"]],
    ids=lambda words: words[0],
)
def test_a_study_is_not_named_with_a_password(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = failing([*command, "s3://key:secret@bucket/runs/digits"], capsys)
    assert "s3://***@bucket/runs/digits must not hold a user or a password" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "key:secret" not in said


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["data={source: parquet, path: absent}"], "absent"),
        (["resources.gpus_per_trial=64"], "GPU"),
        (["tracking.uri=http://127.0.0.1:9"], "127.0.0.1:9"),
        (["search.batch_size=100000"], "batch"),
    ],
)
def test_what_the_machine_lacks_is_said_before_anything_is_written(
    overrides: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        w for override in [*overrides, f"output={tmp_path}/runs"] for w in ("--set", override)
    ]
    assert run(["study", QUICKSTART, *words]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "runs" / "quickstart").exists()


def test_doctor_reports_packages(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["doctor", "--json"])
    findings = {item["subject"]: item for item in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["value"]
    # whoever runs the tests has everything; tests/test_doctor.py takes it away and gets a 2
    assert [item for item in findings.values() if item["blocking"]] == []
    assert code == 0


def test_plan_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plan", QUICKSTART, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    counts = {stage["stage"]: stage["num_trials"] for stage in planned["stages"]}
    assert counts == {"search": 18, "select": 18, "retrain": 2}
    assert planned["hours"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # tests/test_bench.py is the quick one
def test_bench_measures_both_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", ORDERS, "--json", "--no-variants", "--steps", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [cost["order"] for cost in report["costs"]] == ["first", "unrolled"]
    assert all(cost["step_seconds"] > 0 and cost["error"] is None for cost in report["costs"])
    assert report["num_searches"] == 6
    # 718 weight images in batches of 64 are 12 steps, times 6 epochs; hours of the mean order
    steps = 12 * 6 * sum(cost["step_seconds"] for cost in report["costs"]) / 2
    assert report["study_search_hours"] == pytest.approx(6 * steps / 3600, rel=1e-6)


def test_pipelines_are_the_command_line(tmp_path: Path) -> None:
    for script in sorted((ROOT / "pipelines").glob("*.py")):
        assert len(script.read_text().splitlines()) < 40
        done = subprocess.run(
            [sys.executable, str(script), "--help"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.returncode == 0
        if script.stem == "serve":  # no command of its own: it needs Ray Serve
            assert "Serve an exported image network" in done.stdout
        else:
            assert f"darts-ray {script.stem}" in done.stdout


COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_screen_and_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*filter(None, [name]), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    example = next(line for line in lines if "Example:" in line)
    assert f"darts-ray {name}" in example


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("linux", "xdg-open '/runs/my study/report.html'"),
        ("darwin", "open '/runs/my study/report.html'"),
        ("win32", 'start "" "/runs/my study/report.html"'),
    ],
)
def test_pages_are_opened_as_the_platform_does(platform: str, words: str) -> None:
    assert opening("/runs/my study/report.html", platform) == words


def test_what_lies_in_an_object_store_is_fetched_first() -> None:
    assert opening("s3://bucket/runs/report.html", "linux").startswith("fetch s3://bucket")
    assert trying("s3://bucket/q/best.onnx", "s3://bucket/q/example.png", "linux") == (
        "fetch s3://bucket/q/best.onnx and s3://bucket/q/example.png, then darts-ray predict"
        " best.onnx example.png"
    )


@pytest.mark.parametrize(
    ("platform", "quoted"), [("linux", "'/my runs/[a]'"), ("win32", '"/my runs/[a]"')]
)
def test_commands_are_quoted_as_the_platforms_shell_reads_them(platform: str, quoted: str) -> None:
    assert command(["status", "/my runs/[a]"], platform=platform) == f"darts-ray status {quoted}"


def test_plan_says_how_to_start_what_it_planned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    axis = "search.method={grid: [darts, random]}"  # no markup, whatever its brackets look like
    assert run(["plan", QUICKSTART, "--set", axis]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next: darts-ray study {QUICKSTART} --set '{axis}'"


def test_a_shell_completes_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "darts_ray.cli"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_DARTS_RAY_COMPLETE": "complete_bash",
            "COMP_WORDS": "darts-ray re",
            "COMP_CWORD": "1",
        },
    )
    assert done.stdout.split() == ["retrain", "resume", "report"]
