import json
import logging
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data import ImageSplit, open_images
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


# Workers are forked from a small server that has imported this module once: quick, and safe
# whatever threads the test process runs.
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload([__name__])


def run_together(target: Callable[..., None], *arguments: object, num: int) -> None:
    workers = [WORKERS.Process(target=target, args=arguments) for _ in range(num)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * num


def open_and_log(folder: Path, log: Path) -> None:
    def decode() -> Decoded:
        with log.open("a") as sink:
            sink.write("decoded\n")
        time.sleep(0.3)
        return Decoder()()

    check(cached_images(folder, "key", decode))


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_together(open_and_log, tmp_path / "cache", log, num=3)
    assert log.read_text() == "decoded\n"


def use_as_a_trial(folder: Path, barrier: Barrier) -> None:
    """Open the cache, which touches every page, draw shuffled batches, and note the cost."""
    torch.set_num_threads(1)
    process = psutil.Process()

    def use(key: str, num: int) -> tuple[ImageSplit, float]:
        start = time.process_time()
        cached = cached_images(folder, key, Decoder())
        seconds = time.process_time() - start
        split = ImageSplit(cached.images, cached.labels)
        for _ in split.read(torch.randperm(num), 96, device=torch.device("cpu")):
            pass
        return split, seconds

    warm = use("warm", 200)  # memory of code and buffers that any use of data needs
    before = process.memory_full_info()
    split, seconds = use("key", 4800)
    barrier.wait(120)  # all have touched all pages by now, and hold them
    cost = {"seconds": seconds, "uss": process.memory_full_info().uss - before.uss}
    mapped = next(m for m in process.memory_maps() if m.path == str(folder / "key.arrow"))
    cost.update(rss=mapped.rss, pss=mapped.pss, dirty=mapped.private_dirty)
    barrier.wait(120)
    (folder / f"{process.pid}.json").write_text(json.dumps(cost))
    assert len(split) > len(warm[0])


def test_cifar_size_opens_fast_and_is_shared_by_four_processes(tmp_path: Path) -> None:
    images = pixels(50_000, 32, 32)
    decoded = Decoded(images, np.arange(50_000) % 10, tuple("0123456789"))
    small = Decoded(images[:200], np.arange(200) % 10, tuple("0123456789"))
    cached_images(tmp_path, "key", lambda: decoded)
    cached_images(tmp_path, "warm", lambda: small)
    run_together(use_as_a_trial, tmp_path, WORKERS.Barrier(4), num=4)
    costs = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len(costs) == 4
    # Seconds of processor time, which other work on the machine does not stretch; about 0.02.
    assert min(cost["seconds"] for cost in costs) < 0.1
    # Memory of its own per process: under 30 MB, while the data are 154 MB.
    assert max(cost["uss"] for cost in costs) < 30e6
    # All pages of the file are in all four, and the proportional size counts each a quarter.
    for cost in costs:
        assert cost["rss"] >= images.nbytes
        assert cost["pss"] == pytest.approx(cost["rss"] / 4, rel=0.01)
        assert cost["dirty"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="shared data are not here")
def test_cifar10_opens_fast_the_second_time(tmp_path: Path) -> None:
    config = DataConfig(source="parquet", path=str(CIFAR), cache_dir=str(tmp_path))
    open_images(config)
    start = time.perf_counter()
    data = open_images(config)
    assert time.perf_counter() - start < 0.1
    assert data.info.num_train == 50_000
