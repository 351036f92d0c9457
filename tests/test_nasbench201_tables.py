"""Tables of accuracies that a user has: NATS-Bench's own files, and columns like ours."""

from __future__ import annotations

import bz2
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darts_ray.benchmarks import nasbench201
from darts_ray.errors import ConfigError

CELLS = [nasbench201.ALL_SKIP, nasbench201.RESNET_LIKE, nasbench201.ALL_CONV3X3]
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}


def accuracy_of(number: int, hp: str, dataset: str, evaluated: str, seed: int) -> float:
    """An accuracy that no other training or set has, in percent."""
    names = list(SETS)
    return (
        10 * (number + 1)
        + (5 if hp == "200" else 0)
        + names.index(dataset)
        + 0.25 * sorted({"ori-test", "x-test", "x-valid"}).index(evaluated)
        + 0.01 * (seed - 777) / 111
    )


def cell_state(number: int, drop: tuple[str, ...] = ()) -> OrderedDict[str, Any]:
    """What a cell's file holds: the state of `nats_bench`'s ArchResults, by epochs."""
    states: OrderedDict[str, Any] = OrderedDict()
    for hp, seeds in (("12", [777]), ("200", [777, 888])):
        datasets = [name for name in SETS if name not in drop]
        states[hp] = {
            "arch_index": number,
            "arch_str": CELLS[number],
            "all_results": {
                (name, seed): result_state(number, hp, name, seed)
                for name in datasets
                for seed in seeds
            },
            "dataset_seed": {name: seeds for name in datasets},
            "clear_net_done": True,
        }
    return states


def result_state(number: int, hp: str, dataset: str, seed: int) -> dict[str, Any]:
    last = int(hp) - 1
    ends = {
        f"{name}@{last}": accuracy_of(number, hp, dataset, name, seed) for name in SETS[dataset]
    }
    # an epoch in between was better: it is the last one that counts
    between = {f"{name}@{last // 2}": 99.0 for name in SETS[dataset]}
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": {last: 100.0},
        "train_acc5es": np.array([100.0]),
        "train_losses": {last: np.float32(0.5)},
        "train_times": OrderedDict((epoch, 1.5) for epoch in range(int(hp))),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": CELLS[number]},
        "params": np.float64(0.07),
        "flop": 12.5,
        "seed": seed,
        "epochs": int(hp),
        "latency": [0.02],
        "eval_names": list(SETS[dataset]),
        "eval_acc1es": {**between, **ends},
        "eval_times": {},
        "eval_losses": dict.fromkeys({**between, **ends}, 0.1),
    }


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with bz2.open(path, "wb") as stream:
        pickle.dump(content, stream, protocol=4)
    return path


def write_folder(path: Path, drop: tuple[str, ...] = ()) -> Path:
    write(path / "meta.pickle.pbz2", {"meta_archs": CELLS, "total_archs": len(CELLS)})
    for number in range(len(CELLS)):
        write(path / f"{number:06d}.pickle.pbz2", cell_state(number, drop))
    return path


def write_file(path: Path) -> Path:
    cells = {number: cell_state(number) for number in range(len(CELLS))}
    content = {"meta_archs": CELLS, "arch2infos": cells, "evaluated_indexes": {0, 1, 2}}
    return write(path, content)


def write_columns(path: Path) -> Path:
    columns = {
        "arch": CELLS,
        "cifar10_test": [10.5, 90.0, 80.0],
        "cifar100_test": [1, 70, None],
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(params=["folder", "file"])
def nats(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        return write_folder(tmp_path / "NATS-tss-v1_0-3ffb9-simple")
    return write_file(tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2")


@pytest.mark.parametrize(
    ("budget", "dataset", "theirs", "evaluated", "seeds"),
    [
        ("200", "cifar10", "cifar10", "ori-test", [777, 888]),
        ("200", "cifar100", "cifar100", "x-test", [777, 888]),
        ("200", "ImageNet16-120", "ImageNet16-120", "x-test", [777, 888]),
        ("12", "cifar10", "cifar10-valid", "x-valid", [777]),
        ("12", "cifar100", "cifar100", "x-valid", [777]),
        ("12", "imagenet16-120", "ImageNet16-120", "x-valid", [777]),
    ],
)
def test_the_benchmarks_own_files_are_read(
    nats: Path,
    budget: nasbench201.Budget,
    dataset: str,
    theirs: str,
    evaluated: str,
    seeds: list[int],
) -> None:
    table = nasbench201.open_table(nats)
    assert table.archs == tuple(CELLS)
    for number, cell in enumerate(CELLS):
        expected = np.mean([accuracy_of(number, budget, theirs, evaluated, s) for s in seeds])
        value = nasbench201.accuracy(cell, dataset, budget=budget, table=table)
        assert value == pytest.approx(expected, abs=1e-9)
        assert nasbench201.accuracies(dataset, budget=budget, table=table)[number] == value


def test_every_question_is_answered_by_the_given_table(nats: Path) -> None:
    table = nasbench201.open_table(nats)
    values = nasbench201.accuracies(table=table)
    assert nasbench201.index(nasbench201.RESNET_LIKE, table=table) == 1
    assert nasbench201.rank(nasbench201.RESNET_LIKE, table=table) == 2
    best, value = nasbench201.optimum(table=table)
    assert best == nasbench201.genotype(2, table=table)
    assert value == values.max()
    assert nasbench201.quantiles(shares=[0.5], table=table)[0.5] == np.median(values)
    assert nasbench201.random_mean_and_std(table=table) == (values.mean(), values.std())
    assert str(nats) in nasbench201.source(table)
    with pytest.raises(ConfigError, match="numbered from 0 to 2"):
        nasbench201.genotype(3, table=table)
    absent = nasbench201.ALL_SKIP.replace("skip_connect~2", "none~2")
    with pytest.raises(ConfigError, match=r"lacks the cell \|skip.*complete table"):
        nasbench201.accuracy(absent, table=table)


def test_columns_of_our_own_are_read_and_written(nats: Path, tmp_path: Path) -> None:
    table = nasbench201.open_table(nats)
    pq.write_table(table.to_arrow(), tmp_path / "mine.parquet")
    again = nasbench201.open_table(tmp_path / "mine.parquet")
    assert again.archs == table.archs
    assert again.source == table.source
    for dataset in nasbench201.DATASETS:
        for budget in ("200", "12"):
            assert np.array_equal(
                again.accuracies(dataset, budget), table.accuracies(dataset, budget)
            )


def test_of_a_folder_only_the_cells_own_file_is_opened(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "nats")
    for number in (0, 1):
        (folder / f"{number:06d}.pickle.pbz2").write_bytes(b"never opened")
    table = nasbench201.open_table(folder)
    assert nasbench201.accuracy(CELLS[2], table=table) > 0
    with pytest.raises(ConfigError, match=r"000000\.pickle\.pbz2: is not readable"):
        nasbench201.accuracies(table=table)


def test_what_a_table_lacks_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "nats", drop=("cifar100",))
    table = nasbench201.open_table(folder)
    table.require(CELLS, ["cifar10"])
    there = "It has test accuracies on cifar10 after 200 epochs; test accuracies on imagenet16-120"
    with pytest.raises(ConfigError, match="has no test accuracies on cifar100.*" + there):
        table.require(CELLS, ["cifar10", "cifar100"])
    (folder / "000001.pickle.pbz2").unlink()
    with pytest.raises(ConfigError, match=r"lacks 1 of 3 cells, such as \|nor_conv"):
        table.require(CELLS, ["cifar10"])
    with pytest.raises(ConfigError, match=r"has no test accuracies on cifar10 .*number 1"):
        nasbench201.accuracies(table=table)

    columns = nasbench201.open_table(write_columns(tmp_path / "columns.parquet"))
    assert nasbench201.accuracy(CELLS[0], table=columns) == 10.5
    assert nasbench201.accuracy(CELLS[1], "cifar100", table=columns) == 70
    columns.require(CELLS, ["cifar10"])
    with pytest.raises(ConfigError, match="lacks 1 of 3 cells"):
        columns.require(CELLS, ["cifar100"])
    with pytest.raises(ConfigError, match="has no test accuracies on imagenet16-120"):
        nasbench201.optimum("imagenet16-120", table=columns)
    with pytest.raises(ConfigError, match="has no validation accuracies on cifar10"):
        nasbench201.accuracy(CELLS[0], budget="12", table=columns)


class Dangerous:
    """A pickle of this makes a folder when a careless reader loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    meta = {"meta_archs": CELLS, "arch2infos": {}, "more": Dangerous(trace)}
    file = write(tmp_path / "bad.pickle.pbz2", meta)
    with pytest.raises(ConfigError, match=r"names posix\.mkdir, .*could run code"):
        nasbench201.open_table(file)
    folder = write_folder(tmp_path / "nats")
    write(folder / "000000.pickle.pbz2", {"200": Dangerous(trace)})
    with pytest.raises(ConfigError, match=r"000000.*names posix\.mkdir"):
        nasbench201.accuracy(CELLS[0], table=nasbench201.open_table(folder))
    assert not trace.exists()
    # a made-up dtype would let NumPy's own functions follow any pointer
    with pytest.raises(ConfigError, match="scalar of type 'O8'"):
        nasbench201.open_table(write(file, {"meta_archs": np.dtype("f8").type(1), "b": Pointer()}))


class Pointer:
    def __reduce__(self) -> tuple[Any, ...]:
        scalar = np.float64(1).__reduce__()[0]
        return scalar, (np.dtype("O"), b"12345678")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "is not readable as results"),
        (lambda p: p.write_bytes(b"something else"), "is not readable as results"),
        (lambda p: write(p, ["a list"]), "000000.pickle.pbz2: is no file of NATS-Bench"),
        (lambda p: write(p, cell_state(1)), "it holds the cell .*, not "),
        (lambda p: write(p, {"200": {"dataset_seed": {"cifar10": [777]}}}), "KeyError: 'arch_str"),
        (lambda p: p.unlink(), "has no test accuracies on cifar10 .*number 0"),
    ],
)
def test_a_damaged_cell_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = write_folder(tmp_path / "nats")
    spoil(folder / "000000.pickle.pbz2")
    with pytest.raises(ConfigError, match=message):
        nasbench201.accuracy(CELLS[0], table=nasbench201.open_table(folder))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file or folder\. It must be a folder"):
        nasbench201.open_table(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"without meta\.pickle\.pbz2"):
        nasbench201.open_table(tmp_path)
    other = tmp_path / "table.csv"
    other.write_text("arch,accuracy")
    with pytest.raises(ConfigError, match="is no table of accuracies"):
        nasbench201.open_table(other)
    other.rename(tmp_path / "table.parquet")
    with pytest.raises(ConfigError, match="not readable as Parquet"):
        nasbench201.open_table(tmp_path / "table.parquet")
    for columns, message in (
        ({"cell": CELLS}, "no column `arch`"),
        ({"arch": CELLS}, "none of the columns cifar10_test"),
        ({"arch": CELLS, "cifar10_test": ["a", "b", "c"]}, "column cifar10_test"),
        ({"arch": CELLS, "cifar10_test": [1.0, 2.0, 101.0]}, "in percent"),
        ({"arch": [*CELLS[:2], CELLS[0]], "cifar10_test": [1.0, 2.0, 3.0]}, "each once"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "table.parquet")
        with pytest.raises(ConfigError, match=message):
            nasbench201.open_table(tmp_path / "table.parquet")
    sizes = write(tmp_path / "sss.pickle.pbz2", {"meta_archs": ["8:8:8:8:8"], "arch2infos": {}})
    with pytest.raises(ConfigError, match="it is the topology space"):
        nasbench201.open_table(sizes)
    for content in ({}, {"meta_archs": CELLS}, {"meta_archs": CELLS, "arch2infos": {7: {}}}):
        with pytest.raises(ConfigError, match="is no file of NATS-Bench's topology space"):
            nasbench201.open_table(write(tmp_path / "wrong.pickle.pbz2", content))
