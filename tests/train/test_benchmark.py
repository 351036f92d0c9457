"""Does it learn what it should? Minutes of training on real data; run with `-m slow -s`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_ray.config import RetrainConfig
from darts_ray.data import open_data
from darts_ray.space import ConvGenotype, spaces, zoo
from darts_ray.space.genotype import Edge
from darts_ray.train import RetrainRun

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def _random_genotype(seed: int) -> ConvGenotype:
    """Draw edges and operations uniformly, `none` left out, as the paper's random search."""
    generator = torch.Generator().manual_seed(seed)
    primitives = [name for name in spaces["darts"].primitives if name != "none"]

    def cell() -> tuple[Edge, ...]:
        edges = []
        for node in range(4):
            for predecessor in torch.randperm(node + 2, generator=generator)[:2].tolist():
                choice = int(torch.randint(len(primitives), (1,), generator=generator))
                edges.append(Edge(primitives[choice], predecessor))
        return tuple(edges)

    return ConvGenotype(cell(), (2, 3, 4, 5), cell(), (2, 3, 4, 5))


def _channels_of_equal_size(genotype: ConvGenotype, data: Any, target: int) -> RetrainRun:
    """Return the run whose number of parameters is nearest to the target."""
    runs = []
    for channels in range(4, 25):
        config = _cifar_config(genotype, channels, str(data[0]))
        run = RetrainRun(config, data[1])
        size = run.describe()["num_parameters"]
        runs.append((abs(size - target), channels, run))
        if size > target:
            break
    return min(runs, key=lambda item: item[:2])[2]


def _cifar_config(genotype: ConvGenotype, channels: int, cache: str) -> RetrainConfig:
    return RetrainConfig.model_validate(
        {
            "data": {
                "source": "parquet",
                "path": str(DATA / "cifar10"),
                "cache_dir": cache,
                "max_train": 3000,
            },
            "genotype": genotype.to_dict(),
            "network": {"channels": channels, "layers": 5, "auxiliary": False, "drop_path": 0.0},
            "augment": {"cutout": 0},
            "optim": {"lr": 0.05},
            "train_portion": 0.8,
            "epochs": 4,
            "batch_size": 64,
            "eval_batch_size": 250,
            "device": "cpu",
        }
    )


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="CIFAR-10 is not here")
def test_darts_v2_beats_random_cells_of_its_size(tmp_path: Path) -> None:
    genotype = zoo["DARTS_V2"]
    assert isinstance(genotype, ConvGenotype)
    config = _cifar_config(genotype, 8, str(tmp_path))
    data = open_data(config.data)
    ours = RetrainRun(config, data)
    size = ours.describe()["num_parameters"]
    others = [
        _channels_of_equal_size(_random_genotype(seed), (tmp_path, data), size)
        for seed in range(4)
    ]

    def accuracy(run: RetrainRun) -> float:
        rows = []
        while not run.finished:
            rows.append(run.run_epoch())
        print(
            f"{run.describe()}: validation accuracy {rows[-1]['validation_accuracy']:.3f},"
            f" {rows[-1]['samples_per_second']:.0f} images/s"
        )
        score: float = rows[-1]["validation_accuracy"]
        return score

    score = accuracy(ours)
    scores = [accuracy(run) for run in others]
    print(f"DARTS_V2 {score:.3f}; random mean {statistics.mean(scores):.3f} of {scores}")
    assert score > 0.25  # chance is 0.1
    assert score > statistics.mean(scores)


@pytest.mark.skipif(not (DATA / "wikitext-2").is_dir(), reason="WikiText-2 is not here")
def test_recurrent_darts_v2_improves_every_epoch(tmp_path: Path) -> None:
    lines = (DATA / "wikitext-2" / "valid.txt").read_text(encoding="utf-8").splitlines()
    cut = len(lines) * 9 // 10
    frequent = _frequent_words(lines[:cut], 2000)
    for name, part in (("train", lines[:cut]), ("valid", lines[cut:]), ("test", lines[cut:])):
        words = (
            " ".join(word if word in frequent else "<unk>" for word in line.split())
            for line in part
        )
        (tmp_path / f"{name}.txt").write_text("\n".join(words), encoding="utf-8")
    config = RetrainConfig.model_validate(
        {
            "data": {"source": "text", "path": str(tmp_path), "max_train": 60_000},
            "genotype": "RECURRENT_DARTS_V2",
            "network": {
                "embedding_dim": 64,
                "hidden_dim": 64,
                "dropout": {
                    "output": 0.2, "hidden": 0.1, "input": 0.2, "embedding": 0.1, "word": 0.0
                },
            },
            "optim": {
                "lr": 20.0,
                "schedule": "exponential",
                "decay": 0.5,
                "momentum": 0.0,
                "weight_decay": 5e-7,
                "grad_clip": 0.25,
            },
            "epochs": 5,
            "batch_size": 20,
            "eval_batch_size": 10,
            "device": "cpu",
        }
    )  # fmt: skip
    run = RetrainRun(config, open_data(config.data))
    rows = []
    while not run.finished:
        rows.append(run.run_epoch())
        print({key: round(float(value), 3) for key, value in rows[-1].items()})
    perplexities = [row["validation_perplexity"] for row in rows]
    assert perplexities == sorted(perplexities, reverse=True)
    assert len(set(perplexities)) == len(perplexities)


def _frequent_words(lines: list[str], num: int) -> set[str]:
    counts: dict[str, int] = {}
    for line in lines:
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    return {"<unk>", *sorted(counts, key=lambda word: -counts[word])[:num]}
