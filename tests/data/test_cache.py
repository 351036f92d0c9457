import json
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data import open_images
from darts_ray.data.cache import CachedImages, cached_images, cached_json
from darts_ray.data.sources import Decoded
from darts_ray.errors import DataError
from tests.data.files import pixels

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


class Decoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Decoded:
        self.calls += 1
        return Decoded(pixels(7), np.arange(7), tuple("abcdefg"))


def check(cached: CachedImages) -> None:
    assert torch.equal(cached.images, torch.from_numpy(pixels(7)))
    assert cached.labels.tolist() == list(range(7))
    assert cached.class_names == tuple("abcdefg")


def test_decodes_once_and_maps_afterwards(tmp_path: Path) -> None:
    decode = Decoder()
    first = cached_images(tmp_path / "new" / "cache", "key", decode)
    again = cached_images(tmp_path / "new" / "cache", "key", decode)
    check(first)
    check(again)
    assert decode.calls == 1
    assert first.fingerprint == again.fingerprint
    assert (first.images.dtype, first.labels.dtype) == (torch.uint8, torch.int64)
    cached_images(tmp_path / "new" / "cache", "other", decode)
    assert decode.calls == 2


def cut(content: bytearray) -> bytes:
    return bytes(content[: len(content) // 2])


def cut_the_end(content: bytearray) -> bytes:
    return bytes(content[:-1])


def flip_a_pixel(content: bytearray) -> bytes:
    content[content.find(pixels(7).tobytes()) + 100] ^= 1
    return bytes(content)


def flip_a_label(content: bytearray) -> bytes:
    content[content.find(np.arange(7).tobytes()) + 8] ^= 1
    return bytes(content)


def replace_by_text(content: bytearray) -> bytes:
    return b"no Arrow file at all"


def empty(content: bytearray) -> bytes:
    return b""


@pytest.mark.parametrize(
    "damage", [cut, cut_the_end, flip_a_pixel, flip_a_label, replace_by_text, empty]
)
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, damage: Callable[[bytearray], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    decode = Decoder()
    cached_images(tmp_path, "key", decode)
    file = tmp_path / "key.arrow"
    file.write_bytes(damage(bytearray(file.read_bytes())))
    with caplog.at_level(logging.WARNING):
        check(cached_images(tmp_path, "key", decode))
    assert decode.calls == 2
    assert f"{file} is damaged" in caplog.text
    caplog.clear()
    check(cached_images(tmp_path, "key", decode))
    assert (decode.calls, caplog.text) == (2, "")


def test_another_arrow_file_is_not_taken_for_a_cache(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"image": [1, 2]})
    with pa.ipc.new_file(str(tmp_path / "key.arrow"), table.schema) as writer:
        writer.write_table(table)
    check(cached_images(tmp_path, "key", Decoder()))


def test_a_failing_decoder_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> Decoded:
        raise DataError("row 3 is corrupt")

    with pytest.raises(DataError, match="row 3"):
        cached_images(tmp_path, "key", fail)
    assert [f.name for f in tmp_path.iterdir() if f.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written.*data.cache_dir"):
        cached_images(tmp_path / "file" / "cache", "key", Decoder())


def test_stray_writes_stay_in_the_process(tmp_path: Path) -> None:
    cached = cached_images(tmp_path, "key", Decoder())
    cached.images[0] = 0
    check(cached_images(tmp_path, "key", Decoder()))


def test_constant_images_can_be_normalised(tmp_path: Path) -> None:
    flat = Decoded(np.full((3, 1, 2, 2), 51, np.uint8), np.zeros(3, np.int64), ("a",))
    cached = cached_images(tmp_path, "key", lambda: flat)
    assert cached.mean == (pytest.approx(0.2),)
    assert cached.std == (1 / 255,)


def test_small_values_are_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cached_json(tmp_path, "key", lambda: {"a": (1, 2)}) == {"a": [1, 2]}
    assert cached_json(tmp_path, "key", lambda: None) == {"a": [1, 2]}
    (tmp_path / "key.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert cached_json(tmp_path, "key", lambda: 5) == 5
    assert "damaged" in caplog.text


def _open_and_log(folder: Path, log: Path) -> None:
    def decode() -> Decoded:
        with log.open("a") as sink:
            sink.write("decoded\n")
        time.sleep(0.3)
        return Decoder()()

    check(cached_images(folder, "key", decode))


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    workers = [
        context.Process(target=_open_and_log, args=(tmp_path / "cache", log)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "decoded\n"


# Opens a cache as a trial does (which touches every page), draws shuffled batches, and reports
# what that cost this process.
_TRIAL = """
import json, sys, time
import psutil, torch
from pathlib import Path
from darts_ray.data import ImageSplit
from darts_ray.data.cache import cached_images
torch.set_num_threads(1)
process = psutil.Process()
warm = cached_images(Path(sys.argv[1]), "warm", None)  # code that is loaded on first use
int(warm.images[::97].sum()), warm.labels.bincount()
private = process.memory_full_info().uss
start = time.perf_counter()
cached = cached_images(Path(sys.argv[1]), "key", None)
seconds = time.perf_counter() - start
split = ImageSplit(cached.images, cached.labels)
for images, labels in split.read(torch.randperm(4000) * 12, 96, device=torch.device("cpu")):
    pass
used = process.memory_full_info()
print(json.dumps({"seconds": seconds, "private": used.uss - private}), flush=True)
sys.stdin.readline()
used = process.memory_full_info()
print(json.dumps({"pss": used.pss, "uss": used.uss}), flush=True)
sys.stdin.readline()
"""


def measure_trials(folder: Path, num: int) -> list[dict[str, float]]:
    """Run trial processes side by side; sizes in bytes."""
    trials = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _TRIAL, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(num)
    ]
    try:
        found = [json.loads(trial.stdout.readline()) for trial in trials]
        # All have read all pages by now; only then is the proportional size that of four.
        for trial in trials:
            trial.stdin.write("\n")
            trial.stdin.flush()
        for one, trial in zip(found, trials, strict=True):
            one.update(json.loads(trial.stdout.readline()))
    finally:
        for trial in trials:
            trial.stdin.close()
            trial.wait(60)
            trial.stdout.close()
    return found


def test_cifar_size_opens_fast_and_is_shared_by_four_processes(tmp_path: Path) -> None:
    images = pixels(50_000, 32, 32)
    decoded = Decoded(images, np.arange(50_000) % 10, tuple("0123456789"))
    small = Decoded(images[:200], np.arange(200) % 10, tuple("0123456789"))
    cached_images(tmp_path, "key", lambda: decoded)
    cached_images(tmp_path, "warm", lambda: small)
    trials = measure_trials(tmp_path, 4)
    # About 0.02 s on an idle machine; the fastest of four shields from a busy one.
    assert min(trial["seconds"] for trial in trials) < 0.1
    # 30 MB is the limit; the data are 154 MB, so a private copy could not hide.
    assert max(trial["private"] for trial in trials) < 30e6
    # The proportional size counts each of the four at a quarter of the shared pages.
    for trial in trials:
        assert trial["pss"] - trial["uss"] > images.nbytes / 4


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="shared data are not here")
def test_cifar10_opens_fast_the_second_time(tmp_path: Path) -> None:
    config = DataConfig(source="parquet", path=str(CIFAR), cache_dir=str(tmp_path))
    open_images(config)
    start = time.perf_counter()
    data = open_images(config)
    assert time.perf_counter() - start < 0.1
    assert data.info.num_train == 50_000
