from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy import stats

from darts_ray.data import TextStream, batchify, text_batches
from darts_ray.errors import CheckpointError, DataError

CPU = torch.device("cpu")


def make_stream(num: int = 4000, batch_size: int = 2, **changes: Any) -> TextStream:
    settings = {"bptt": 35, "seed": 0, "device": CPU, "variable": True, **changes}
    return TextStream(torch.arange(num), batch_size, **settings)


def lengths(stream: TextStream, num: int) -> list[int]:
    """Lengths of whole windows: a pass's last one is cut by the end of the text."""
    found: list[int] = []
    while len(found) < num:
        found += [len(tokens) for tokens, _ in stream.epoch()][:-1]
    return found[:num]


def test_batchify_cuts_columns_and_trims_the_remainder() -> None:
    # 11 tokens in 3 columns: 3 rows each, tokens 9 and 10 are left out.
    expected = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert batchify(torch.arange(11), 3).tolist() == expected


@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize("deviation", [0, 5])
def test_windows_follow_without_gaps_and_targets_are_one_ahead(
    variable: bool, deviation: int
) -> None:
    stream = make_stream(1000, variable=variable, deviation=deviation)
    for _ in range(2):
        windows = list(stream.epoch())
        column = torch.cat([tokens[:, 0] for tokens, _ in windows])
        assert column.tolist() == list(range(len(column)))
        # 500 rows give 499 predictions; the original leaves out a last window of one token.
        assert len(column) in (498, 499)
        for tokens, targets in windows:
            assert torch.equal(targets, tokens + 1)
            assert len(tokens) >= 2


def test_a_last_window_of_one_token_is_left_out() -> None:
    # 2 x 12 tokens, windows of 5: rows 0-4, 5-9, then only row 10 has a target, row 11.
    stream = make_stream(24, bptt=5, variable=False)
    assert [len(tokens) for tokens, _ in stream.epoch()] == [5, 5]
    assert len(stream) == 2
    longer = make_stream(26, bptt=5, variable=False)
    assert [len(tokens) for tokens, _ in longer.epoch()] == [5, 5, 2]
    assert len(longer) == 3


def test_search_lengths_are_35_or_17_in_the_papers_proportion() -> None:
    found = lengths(make_stream(), 3000)
    assert set(found) == {35, 17}
    assert stats.binomtest(found.count(17), 3000, 0.05).pvalue > 1e-3


def test_fixed_lengths() -> None:
    assert set(lengths(make_stream(variable=False), 200)) == {35}


def test_retraining_lengths_follow_the_clamped_normal_mixture() -> None:
    found = lengths(make_stream(40_000, deviation=5), 3000)
    assert min(found) >= 5
    assert max(found) <= 55
    # int() rounds down, so P(length <= k) = P(draw < k + 1).
    edges = [20, 28, 30, 32, 34, 36, 38, 40, 42]

    def below(x: float) -> float:
        return 0.95 * stats.norm.cdf(x, 35, 5) + 0.05 * stats.norm.cdf(x, 17.5, 5)

    chances = [below(b) - below(a) for a, b in pairwise(edges)]
    chances = [below(edges[0]), *chances, 1 - below(edges[-1])]
    counts = [0] * len(chances)
    for length in found:
        counts[sum(length >= edge for edge in edges)] += 1
    assert stats.chisquare(counts, [3000 * p for p in chances]).pvalue > 1e-3


@pytest.mark.parametrize(("bptt", "low", "high"), [(35, 5, 55), (3, 3, 23)])
def test_lengths_are_clamped(bptt: int, low: int, high: int) -> None:
    found = lengths(make_stream(40_000, bptt=bptt, deviation=60), 500)
    assert (min(found), max(found)) == (low, high)


def test_short_probability_zero() -> None:
    assert set(lengths(make_stream(short_probability=0.0), 300)) == {35}


@pytest.mark.parametrize("taken", [0, 1, 7, 40])
def test_resume_is_exact(taken: int) -> None:
    stream, resumed = (make_stream(1000, deviation=5) for _ in range(2))
    for _ in range(taken):
        stream.next()
    resumed.load_state_dict(stream.state_dict())
    for _ in range(40):
        one, other = stream.next(), resumed.next()
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    expected = [tokens.tolist() for tokens, _ in stream.epoch()]
    assert [tokens.tolist() for tokens, _ in resumed.epoch()] == expected


def test_next_cycles_with_new_lengths() -> None:
    stream = make_stream(1000, deviation=5)
    first = [len(tokens) for tokens, _ in stream.epoch()]
    again = stream.next()[0]
    assert again[0, 0] == 0
    assert [len(tokens) for tokens, _ in stream.epoch()] != first


def test_the_seed_decides() -> None:
    one, same, other = (lengths(make_stream(deviation=5, seed=s), 30) for s in (1, 1, 2))
    assert one == same != other


def test_a_text_too_short() -> None:
    with pytest.raises(DataError, match=r"5 tokens is too short for a batch of 2.*batch_size"):
        make_stream(5)
    assert len(list(make_stream(6).epoch())) == 1
    with pytest.raises(DataError, match="at least 2 tokens per column"):
        list(text_batches(torch.arange(3), 2, 35, device=CPU))


def test_a_state_that_does_not_fit() -> None:
    with pytest.raises(CheckpointError, match="row 300, but there are 50"):
        make_stream(100).load_state_dict({"pass": 0, "row": 300})


def test_evaluation_scores_every_prediction_once() -> None:
    windows = list(text_batches(torch.arange(23), 2, 5, device=CPU))
    # 11 rows, so 10 predictions per column; the last window may hold a single token.
    assert [len(tokens) for tokens, _ in windows] == [5, 5]
    windows = list(text_batches(torch.arange(24), 2, 5, device=CPU))
    assert [len(tokens) for tokens, _ in windows] == [5, 5, 1]
    assert torch.cat([targets[:, 1] for _, targets in windows]).tolist() == list(range(13, 24))
