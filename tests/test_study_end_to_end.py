"""The quickstart's whole way, smaller, through the command line, file by file."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from darts_ray.cli import run
from darts_ray.config import load_config
from darts_ray.data import evaluation_batches, open_images
from darts_ray.space import Genotype
from darts_ray.train import load_checkpoint

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SMALLER = (
    "seeds=[0, 1]",
    "search.method={grid: [darts, random]}",
    "search.epochs=2",
    "search.max_steps=3",
    "select.epochs=1",
    "select.max_steps=4",
    "retrain.epochs=2",
    "data.max_train=400",
    "data.max_test=64",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the study once; return its folder and what it printed."""
    where = tmp_path_factory.mktemp("study")
    words = [w for value in (*SMALLER, f"output={where}") for w in ("--set", value)]
    done = subprocess.run(
        [sys.executable, "-m", "darts_ray.cli", "study", str(CONFIG), *words],
        capture_output=True,
        text=True,
        cwd=where,
        env={**os.environ, "COLUMNS": "120"},
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return where / "quickstart", done.stdout


def test_folder_is_complete(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    names = {item.name for item in folder.iterdir()}
    promised = {
        "study.yaml",
        "search",
        "select",
        "retrain",
        "results.parquet",
        "alphas.parquet",
        "genotypes.json",
        "best.onnx",
        "best.pt",
        "example.png",
        "report.html",
    }
    assert promised <= names
    assert not [name for name in names if "tmp" in name]


def test_terminal_says_where_everything_is_and_what_it_says_to_type_works(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, printed = finished
    assert str(folder) in printed.replace("\n", "")
    assert "Test accuracy" in printed
    first, last = printed.splitlines()[-2:]
    assert first == f"Next: xdg-open {folder}/report.html"
    assert last == f"Next: darts-ray predict {folder}/best.onnx {folder}/example.png"
    assert run(last.split()[2:]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}/example.png: ")


def test_tables_hold_every_epoch(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    results = pq.read_table(folder / "results.parquet").to_pandas()
    search = results[results.stage == "search"]
    assert len(search) == 2 * (2 + 1)  # seeds x epochs; a random cell takes one
    assert set(search.setting) == {"method=darts", "method=random"}
    assert search.validation_accuracy.between(0, 1).all()
    retrain = results[results.stage == "retrain"]
    assert retrain.test_accuracy.notna().sum() == 2  # once per seed, in the last epoch
    assert results[results.stage != "retrain"].get("test_accuracy", np.array([])).isna().all()
    alphas = pq.read_table(folder / "alphas.parquet").to_pandas()
    weights = alphas.groupby(["trial", "epoch", "cell", "edge"]).weight.sum()
    assert np.allclose(weights, 1.0)


def test_genotypes_have_provenance(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    record = json.loads((folder / "genotypes.json").read_text())
    assert len(record["search"]) == 4
    winner = Genotype.from_dict(record["winner"]["genotype"])
    best = max(entry["select_score"] for entry in record["search"])
    chosen = [e for e in record["search"] if e["trial"] == record["winner"]["trial"]]
    assert chosen[0]["select_score"] == best
    assert Genotype.from_dict(chosen[0]["genotype"]) == winner
    assert record["failed"] == []


def test_study_yaml_loads_back(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    text = (folder / "study.yaml").read_text()
    assert "torch" in text
    assert "fingerprint" in text
    assert yaml.safe_load(text)


def test_onnx_and_torch_agree_on_the_test_images(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    network = load_checkpoint(folder / "best.pt").network
    record = json.loads((folder / "genotypes.json").read_text())
    data = open_images(load_config(CONFIG, SMALLER).data)
    test = data.open_test()
    session = onnxruntime.InferenceSession(
        str(folder / "best.onnx"), providers=["CPUExecutionProvider"]
    )
    pixels = test.images.numpy().astype(np.float32) / 255
    (logits,) = session.run(None, {session.get_inputs()[0].name: pixels})

    batches = evaluation_batches(test, None, 64, info=data.info, device=torch.device("cpu"))
    with torch.no_grad():
        expected = torch.cat([network(images) for images, _ in batches]).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    accuracy = float((logits.argmax(1) == test.labels.numpy()).mean())
    (score,) = (
        entry["metrics"]["test_accuracy"]
        for entry in record["retrain"]
        if entry["trial"] == record["export"]["trial"]
    )
    assert accuracy == pytest.approx(score, abs=1e-6)


def test_mlflow_has_one_run_per_trial(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    database = sqlite3.connect(folder.parent / "mlflow.db")
    rows = database.execute(
        "select run_uuid from tags where key = 'mlflow.parentRunId'"
    ).fetchall()
    database.close()
    results = pq.read_table(folder / "results.parquet").to_pandas()
    assert len(rows) == results.groupby(["stage", "trial"]).ngroups


def test_report_is_self_contained(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    page = (folder / "report.html").read_text()
    assert "method=random" in page
    assert "<svg" in page or "data:image/png" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_the_same_folder_is_not_overwritten(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    before = {item.name: item.stat().st_mtime_ns for item in folder.iterdir()}
    words = ["--set", f"output={folder.parent}", "--set", "search.epochs=3"]
    assert run(["study", str(CONFIG), *words]) == 2
    assert "resume" in capsys.readouterr().err
    assert {item.name: item.stat().st_mtime_ns for item in folder.iterdir()} == before
