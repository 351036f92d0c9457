"""Does it learn what it should? Minutes of training on real data; run with `-n 0 -m slow -s`."""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from darts_ray.config import RetrainConfig
from darts_ray.data import open_data
from darts_ray.space import ConvGenotype, spaces, zoo
from darts_ray.space.edges import Edge
from darts_ray.train import RetrainRun

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def _random_genotype(seed: int) -> ConvGenotype:
    """Draw edges and operations uniformly, `none` left out, as the paper's random search."""
    generator = torch.Generator().manual_seed(seed)
    primitives = [name for name in spaces["darts"].cell("normal").primitives if name != "none"]

    def cell() -> tuple[Edge, ...]:
        edges = []
        for node in range(4):
            for predecessor in torch.randperm(node + 2, generator=generator)[:2].tolist():
                choice = int(torch.randint(len(primitives), (1,), generator=generator))
                edges.append(Edge(primitives[choice], predecessor))
        return tuple(edges)

    return ConvGenotype(cell(), (2, 3, 4, 5), cell(), (2, 3, 4, 5))


def _cifar_config(genotype: ConvGenotype, channels: int, cache: Path) -> RetrainConfig:
    return RetrainConfig.model_validate(
        {
            "data": {
                "source": "parquet",
                "path": str(DATA / "cifar10"),
                "cache_dir": str(cache),
                "max_train": 15_000,
            },
            "genotype": genotype.to_dict(),
            "network": {"channels": channels, "layers": 5, "auxiliary": False, "drop_path": 0.0},
            "augment": {"cutout": 0},
            "optim": {"lr": 0.05},
            "train_portion": 0.8,
            "epochs": 8,
            "batch_size": 64,
            "eval_batch_size": 250,
            "device": "cpu",
        }
    )


def _size(config: RetrainConfig) -> int:
    size: int = RetrainRun(config, open_data(config.data)).describe()["num_parameters"]
    return size


def _config_of_size(genotype: ConvGenotype, target: int, cache: Path) -> RetrainConfig:
    """Return the configuration whose number of parameters is nearest to the target."""
    configs = [_cifar_config(genotype, channels, cache) for channels in range(4, 25)]
    return min(configs, key=lambda config: abs(_size(config) - target))


def _accuracy(config: RetrainConfig) -> float:
    """Train in a process of its own, on one core; return the last validation accuracy."""
    torch.set_num_threads(1)
    run = RetrainRun(config, open_data(config.data))
    while not run.finished:
        row = run.run_epoch()
    print(f"{run.describe()}: {row['validation_accuracy']:.4f}", flush=True)
    accuracy: float = row["validation_accuracy"]
    return accuracy


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="CIFAR-10 is not here")
def test_darts_v2_beats_random_cells_of_its_size(tmp_path: Path) -> None:
    genotype = zoo["DARTS_V2"]
    assert isinstance(genotype, ConvGenotype)
    ours = _cifar_config(genotype, 8, tmp_path)
    size = _size(ours)
    others = [_config_of_size(_random_genotype(seed), size, tmp_path) for seed in range(6)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        score, *scores = pool.map(_accuracy, [ours, *others])
    print(f"DARTS_V2 {score:.4f}; random mean {statistics.mean(scores):.4f} of {scores}")
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
