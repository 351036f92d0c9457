import numpy as np
import pytest
import torch
from scipy import stats

from darts_ray.config import AugmentConfig, ColorJitter
from darts_ray.data.augment import Normalise, crop_and_flip, cutout_, sample_transform

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(batch: int, height: int, width: int) -> torch.Tensor:
    """Every pixel holds its own number plus one, so that zero can only be padding."""
    image = torch.arange(1, height * width + 1, dtype=torch.int32).view(1, 1, height, width)
    return image.expand(batch, 2, -1, -1)


def crop_offsets(images: torch.Tensor, padding: int) -> list[tuple[int, int, bool]]:
    """Find which window each image is, by comparing with all of them."""
    original = torch.nn.functional.pad(numbered(1, *images.shape[2:])[0], (padding,) * 4)
    height, width = images.shape[2:]
    windows = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = original[:, top : top + height, left : left + width]
            windows[window.numpy().tobytes()] = (top, left, False)
            windows[window.flip(2).numpy().tobytes()] = (top, left, True)
    return [windows[image.contiguous().numpy().tobytes()] for image in images]


def test_crops_are_uniform_over_all_offsets_and_half_are_mirrored() -> None:
    # 4 x 7 pixels: a mix-up of height and width would match no window and raise KeyError.
    found = crop_offsets(crop_and_flip(numbered(4000, 4, 7), 2, True, seeded()), 2)
    offsets = np.zeros((5, 5))
    for top, left, _ in found:
        offsets[top, left] += 1
    assert stats.chisquare(offsets.ravel()).pvalue > 1e-3
    mirrored = sum(flipped for _, _, flipped in found)
    assert stats.binomtest(mirrored, 4000, 0.5).pvalue > 1e-3
    # Mirroring does not depend on the offset.
    table = np.zeros((5, 2))
    for _, left, flipped in found:
        table[left, int(flipped)] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_samples_of_a_batch_differ() -> None:
    found = crop_offsets(crop_and_flip(numbered(64, 4, 4), 4, True, seeded()), 4)
    assert len(set(found)) > 20  # of 162 possible; one draw for the whole batch would give 1


def test_no_padding_and_no_flip_leave_images_alone() -> None:
    images = numbered(3, 4, 5)
    torch.testing.assert_close(crop_and_flip(images, 0, False, seeded()), images)


def test_crop_keeps_channels_apart_and_pads_with_black() -> None:
    images = torch.stack([torch.full((4, 4), 10), torch.full((4, 4), 20)])[None].to(torch.uint8)
    changed = crop_and_flip(images.expand(200, -1, -1, -1), 3, True, seeded())
    assert set(changed[:, 0].unique().tolist()) == {0, 10}
    assert set(changed[:, 1].unique().tolist()) == {0, 20}


@pytest.mark.parametrize("side", [2, 3, 4])
def test_cutout_erases_a_square_around_a_uniform_centre(side: int) -> None:
    height, width, num = 6, 8, 6000
    holes = cutout_(torch.ones(num, 3, height, width), side, seeded())
    assert torch.equal(holes[:, 0], holes[:, 2])
    # Hand computation: along an axis of n pixels the square covers first .. first+side-1 with
    # first = centre - side//2, clipped to 0..n-1; the mean area is the product of the means.
    expected = 1.0
    for size in (height, width):
        lengths = [min(c - side // 2 + side, size) - max(c - side // 2, 0) for c in range(size)]
        expected *= np.mean(lengths)
    area = (holes[:, 0] == 0).sum((1, 2)).double()
    assert area.max() == side * side
    error = area.std() / num**0.5
    assert abs(area.mean() - expected) < 4 * error
    # Each sample's hole is one rectangle.
    rows, columns = (holes[:, 0] == 0).any(2).sum(1), (holes[:, 0] == 0).any(1).sum(1)
    assert torch.equal(rows * columns, area.long())
    assert len({hole.numpy().tobytes() for hole in holes[:100]}) > 10


def test_cutout_of_the_paper_matches_the_original_code() -> None:
    # Original: rows clip(y-8, 0, 32) to clip(y+8, 0, 32); all centres y = 0..31 give the area's
    # expectation (sum over y of the clipped length / 32)^2.
    length = sum(min(y + 8, 32) - max(y - 8, 0) for y in range(32)) / 32
    area = (cutout_(torch.ones(4000, 1, 32, 32), 16, seeded()) == 0).sum((1, 2, 3)).double()
    assert length == 14
    assert abs(area.mean() - length**2) < 4 * area.std() / 4000**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalise(dtype: torch.dtype) -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, -1, 4, 4)
    normalise = Normalise(
        (0.5, 0.1, 0.0), (0.5, 0.2, 2.0), device=CPU, dtype=dtype, channels_last=True
    )
    result = normalise(images)
    # (0 - .5)/.5, (51/255 - .1)/.2, 1/2
    expected = torch.tensor([-1, 0.5, 0.5], dtype=dtype).view(1, 3, 1, 1).expand(2, -1, 4, 4)
    torch.testing.assert_close(result, expected)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_crop_and_colours_come_from_the_seed_and_leave_the_global_generator() -> None:
    augment = AugmentConfig(random_resized_crop=True, color_jitter=ColorJitter())
    transform = sample_transform(augment, (8, 8))
    assert transform is not None
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=seeded())
    state = torch.get_rng_state()
    first, again, other = transform(image, 1), transform(image, 1), transform(image, 2)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (3, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_jitter_alone_keeps_the_size_and_nothing_asked_is_no_transform() -> None:
    jitter = sample_transform(AugmentConfig(color_jitter=ColorJitter(brightness=0.9)), (8, 8))
    assert jitter is not None
    assert jitter(torch.full((3, 5, 6), 100, dtype=torch.uint8), 0).shape == (3, 5, 6)
    assert sample_transform(AugmentConfig(), (8, 8)) is None
