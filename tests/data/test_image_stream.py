import pickle
from dataclasses import replace
from io import BytesIO

import pytest
import torch

from darts_ray.config import AugmentConfig, ColorJitter
from darts_ray.data import ImageInfo, ImageSplit, ImageStream, evaluation_batches
from darts_ray.errors import CheckpointError, DataError

CPU = torch.device("cpu")
NUM = 23
INFO = ImageInfo(10, tuple("0123456789"), 3, (6, 5), (0.4,) * 3, (0.2,) * 3, NUM, "")
PLAIN = AugmentConfig(crop_padding=0, horizontal_flip=False)
FULL = AugmentConfig(crop_padding=2, cutout=2)
RESIZED = AugmentConfig(random_resized_crop=True, color_jitter=ColorJitter())


def numbered_split() -> ImageSplit:
    """Image number n is filled with the value n and has the label n % 10."""
    numbers = torch.arange(NUM)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 6, 5).contiguous()
    return ImageSplit(images, numbers % 10)


def random_split() -> ImageSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (NUM, 3, 6, 5), dtype=torch.uint8, generator=generator)
    return ImageSplit(images, torch.arange(NUM) % 10)


def make_stream(
    augment: AugmentConfig | None = FULL,
    *,
    seed: int = 0,
    batch_size: int = 5,
    drop_last: bool = False,
    split: ImageSplit | None = None,
) -> ImageStream:
    return ImageStream(
        split or random_split(),
        torch.arange(NUM),
        batch_size,
        info=INFO,
        augment=augment,
        seed=seed,
        device=CPU,
        drop_last=drop_last,
    )


def numbers(batch: torch.Tensor) -> list[int]:
    """Undo the normalisation of `numbered_split`."""
    return ((batch[:, 0, 0, 0] * 0.2 + 0.4) * 255).round().int().tolist()


def equal(one: list[tuple[torch.Tensor, ...]], other: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("augment", [None, PLAIN])
def test_an_epoch_is_a_new_permutation_with_the_right_labels(augment: AugmentConfig) -> None:
    stream = make_stream(augment, split=numbered_split())
    orders = []
    for _ in range(3):
        order = []
        for images, targets in stream.epoch():
            order += numbers(images)
            assert targets.tolist() == [n % 10 for n in numbers(images)]
        assert sorted(order) == list(range(NUM))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != list(range(NUM))


def test_only_the_given_indices_are_drawn() -> None:
    indices = torch.tensor([3, 5, 8, 13])
    stream = ImageStream(numbered_split(), indices, 2, info=INFO, augment=None, seed=0, device=CPU)
    seen = [n for images, _ in stream.epoch() for n in numbers(images)]
    assert sorted(seen) == indices.tolist()


def test_next_cycles_and_reshuffles_at_each_wrap() -> None:
    stream = make_stream(None, split=numbered_split())
    passes = [[n for _ in range(5) for n in numbers(stream.next()[0])] for _ in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(NUM))
    assert passes[0] != passes[1]


def test_last_batch_is_partial_or_dropped() -> None:
    assert [len(t) for _, t in make_stream().epoch()] == [5, 5, 5, 5, 3]
    dropping = make_stream(drop_last=True)
    assert len(dropping) == 4
    assert [len(t) for _, t in dropping.epoch()] == [5, 5, 5, 5]
    assert len(make_stream()) == 5


@pytest.mark.parametrize("augment", [FULL, RESIZED, None])
def test_the_seed_decides_everything(augment: AugmentConfig | None) -> None:
    one, same, other = (list(make_stream(augment, seed=s).epoch()) for s in (1, 1, 2))
    assert equal(one, same)
    assert not equal(one, other)


@pytest.mark.parametrize(
    ("taken", "augment"), [(0, FULL), (3, FULL), (5, FULL), (7, FULL), (3, RESIZED)]
)
def test_resume_is_bitwise_exact(taken: int, augment: AugmentConfig) -> None:
    stream, resumed = make_stream(augment), make_stream(augment)
    for _ in range(taken):
        stream.next()
    sink = BytesIO()
    torch.save(stream.state_dict(), sink)
    sink.seek(0)
    resumed.load_state_dict(torch.load(sink, weights_only=True))
    expected = [stream.next() for _ in range(8)] + list(stream.epoch())
    assert equal([resumed.next() for _ in range(8)] + list(resumed.epoch()), expected)


def test_resume_after_an_epoch_that_was_cut_short() -> None:
    stream, resumed = make_stream(), make_stream()
    for _ in zip(range(2), stream.epoch(), strict=False):
        pass
    resumed.load_state_dict(stream.state_dict())
    expected = list(stream.epoch())
    assert len(expected) == 5
    assert equal(list(resumed.epoch()), expected)


def test_global_generator_is_neither_read_nor_changed() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = list(make_stream().epoch())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert equal(list(make_stream().epoch()), first)


def test_augmentation_is_fresh_in_every_pass() -> None:
    split = random_split()
    alone = ImageSplit(split.images[:1], split.labels[:1])
    stream = ImageStream(alone, torch.tensor([0]), 1, info=INFO, augment=FULL, seed=0, device=CPU)
    seen = {stream.next()[0].numpy().tobytes() for _ in range(30)}
    assert len(seen) > 15


def test_cutout_comes_after_normalisation() -> None:
    augment = replace_augment(cutout=4)
    images = torch.cat([images for images, _ in make_stream(augment).epoch()])
    # (0 / 255 - 0.4) / 0.2 = -2 would be a black pixel; the erased ones are exactly 0.
    assert ((images == 0).all(1).sum((1, 2)) >= 4).all()


def replace_augment(**changes: int) -> AugmentConfig:
    return PLAIN.model_copy(update=changes)


def test_layout_and_type() -> None:
    stream = ImageStream(
        random_split(),
        torch.arange(NUM),
        4,
        info=INFO,
        augment=FULL,
        seed=0,
        device=CPU,
        channels_last=True,
        dtype=torch.float64,
    )
    images, targets = stream.next()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (images.dtype, targets.dtype) == (torch.float64, torch.int64)


def test_random_resized_crop_replaces_the_padding() -> None:
    # All pixels are 200: black padding would show, resized crops do not.
    split = ImageSplit(torch.full((NUM, 3, 6, 5), 200, dtype=torch.uint8), torch.zeros(NUM).long())
    augment = AugmentConfig(random_resized_crop=True, crop_padding=3)
    for images, _ in make_stream(augment, split=split).epoch():
        assert len(images.unique()) == 1


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"batch of 24 does not fit into 23 images.*batch_size"):
        make_stream(batch_size=24)
    assert len(make_stream(batch_size=23)) == 1


def test_a_state_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CheckpointError, match="batch 5, but a pass has 3"):
        make_stream(batch_size=9).load_state_dict({"pass": 0, "position": 5})


def test_source_pixels_are_never_written() -> None:
    split = random_split()
    before = split.images.clone()
    for augment in (None, PLAIN, FULL, RESIZED):
        list(make_stream(augment, split=split).epoch())
    list(evaluation_batches(split, None, 7, info=INFO, device=CPU))
    assert torch.equal(split.images, before)


def test_evaluation_batches_are_plain_and_in_order() -> None:
    split = numbered_split()
    batches = list(evaluation_batches(split, None, 10, info=INFO, device=CPU))
    assert [n for images, _ in batches for n in numbers(images)] == list(range(NUM))
    assert [len(targets) for _, targets in batches] == [10, 10, 3]
    expected = (split.images / 255 - 0.4) / 0.2
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), expected)
    chosen = torch.tensor([7, 2, 11])
    ((images, targets),) = evaluation_batches(split, chosen, 10, info=INFO, device=CPU)
    assert numbers(images) == [7, 2, 11]
    assert targets.tolist() == [7, 2, 1]


def test_info_and_transform_survive_pickling() -> None:
    # Worker processes that are not forked get them that way.
    from darts_ray.data.augment import ImageNetTransform

    image = random_split().images[0]
    transform = ImageNetTransform(RESIZED, (4, 4))
    assert torch.equal(pickle.loads(pickle.dumps(transform))(image, 3), transform(image, 3))
    assert pickle.loads(pickle.dumps(INFO)) == replace(INFO)


@pytest.mark.gpu
def test_batches_do_not_wait_for_the_gpu() -> None:
    device = torch.device("cuda")
    stream = ImageStream(
        random_split(), torch.arange(NUM), 5, info=INFO, augment=FULL, seed=0, device=device
    )
    stream.next()  # the pass's order goes to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [stream.next() for _ in range(4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert batches[0][0].is_cuda
