"""The script for SLURM, run on this machine with stand-ins for SLURM's own commands."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from darts_ray.study import load_study

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "configs" / "cluster" / "slurm.sh"
SMALL = (
    "retrain.seeds=[0]",
    "search=null",
    "select=null",
    "retrain.genotype=DARTS_V2",
    "retrain.epochs=20",
    "retrain.max_steps=2",
    "data.max_train=128",
    "data.max_test=64",
    "export=null",
    "resources.workers_per_trial=2",
)
COMMANDS = {
    # each named node is this machine; a step that is ended ends its tasks
    "srun": """
        import os, signal, subprocess, sys
        options = [word for word in sys.argv[1:] if word.startswith("--")]
        options = options[: next(i for i, w in enumerate(sys.argv[1:]) if not w.startswith("--"))]
        command = sys.argv[1 + len(options) :]
        named = dict(option[2:].partition("=")[::2] for option in options)
        nodes = named["nodelist"].split(",")
        assert int(named["nodes"]) == int(named["ntasks"]) == len(nodes), named
        assert "overlap" in named, named
        if command[0] == "hostname":
            print("127.0.0.1 10.0.0.1")
            raise SystemExit
        with open(os.environ["STEPS"], "a") as file:
            print(*nodes, *command, file=file)
        tasks = [subprocess.Popen(command) for _ in nodes]
        signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
        raise SystemExit(max(abs(task.wait()) for task in tasks))
        """,
    "scontrol": """
        import os, sys
        if sys.argv[1:3] == ["show", "hostnames"]:
            assert sys.argv[3] == "node[1-2]"
            print("node1", "node2", sep="\\n")
        else:
            with open(os.environ["STEPS"], "a") as file:
                print("scontrol", *sys.argv[1:], file=file)
        """,
    "darts-ray": """
        import sys
        from darts_ray.cli import main
        main()
        """,
}


@pytest.fixture
def environment(tmp_path: Path, short_folder: Path) -> dict[str, str]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in COMMANDS.items():
        lines = [line[8:] for line in text.strip("\n").splitlines()]
        (commands / name).write_text("\n".join([f"#!{sys.executable}", *lines]))
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "STEPS": str(tmp_path / "steps.txt"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
    }


def command(tmp_path: Path, *settings: str) -> list[str]:
    values = (*SMALL, f"output={tmp_path / 'runs'}", "name=slurm", *settings)
    config = str(REPOSITORY / "configs/quickstart.yaml")
    return [str(SCRIPT), config, *(word for value in values for word in ("--set", value))]


def test_the_script_is_sound() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if (checker := shutil.which("shellcheck")) is not None:
        subprocess.run([checker, SCRIPT], check=True)
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr


@pytest.mark.slow  # two Ray nodes and a study, twice
@pytest.mark.timeout(1200)
def test_a_job_queues_again_before_its_time_is_up_and_goes_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    log, steps, folder = tmp_path / "log.txt", tmp_path / "steps.txt", tmp_path / "runs/slurm"
    with log.open("wb") as file:
        job = subprocess.Popen(
            command(tmp_path), env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    end = time.monotonic() + 400
    while not list(folder.glob("retrain/*/checkpoint_*/manifest.json")):
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)  # as SLURM's --signal does
    assert job.wait(200) in (130, 143), log.read_text()
    head, others, requeued = steps.read_text().splitlines()
    assert head.startswith("node1 ray start --head --node-ip-address=127.0.0.1 --port=")
    assert others.startswith("node2 ray start --address=127.0.0.1:")
    assert requeued == f"scontrol requeue {environment['SLURM_JOB_ID']}"
    assert "test_accuracy" not in load_study(folder).results().columns

    done = subprocess.run(
        command(tmp_path),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    results = load_study(folder).results()
    assert results.epoch.to_list() == list(range(1, 21))
    assert results.test_accuracy.count() == 1
    assert (folder / "report.html").exists()
    with sqlite3.connect(folder.parent / "mlflow.db") as database:
        told = database.execute(
            "select count(distinct step) from metrics where key = 'train_loss'"
        ).fetchone()
    assert told == (20,)
    assert "requeue" not in steps.read_text().split(requeued)[1]
    ours = [p for p in psutil.process_iter(["environ"]) if _is_ours(p, steps)]
    assert ours == []


def _is_ours(process: psutil.Process, steps: Path) -> bool:
    return (process.info["environ"] or {}).get("STEPS") == str(steps)
