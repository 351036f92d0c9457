from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from darts_ray.train.convergence import Convergence


def _epochs_until_averaging(losses: list[float], patience: int) -> int | None:
    convergence = Convergence(patience, None)
    for epoch, loss in enumerate(losses, start=1):
        convergence.add(loss)
        if convergence.averaging:
            return epoch
    return None


def test_averaging_begins_when_a_loss_exceeds_the_best_before_the_last_few() -> None:
    # at the sixth epoch with patience 2 the earlier losses are [9, 8, 7], their best is 7
    assert _epochs_until_averaging([9, 8, 7, 7.2, 7.1, 7.05], 2) == 6
    assert _epochs_until_averaging([9, 8, 7, 7.2, 7.1, 7.0], 2) is None


def test_averaging_waits_for_more_epochs_than_the_patience() -> None:
    assert _epochs_until_averaging([1, 2, 2], 5) is None
    # the original compares once `len(best_val_loss) > nonmono`: at the seventh epoch for 5
    assert _epochs_until_averaging([1, 2, 2, 2, 2, 2, 2], 5) == 7


def test_no_patience_never_averages() -> None:
    convergence = Convergence(None, None)
    for loss in (1.0, 2.0, 3.0, 4.0):
        convergence.add(loss)
    assert not convergence.averaging


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 6))
def test_trigger_is_the_original_codes(losses: list[int], patience: int) -> None:
    best: list[int] = []
    expected = None
    for epoch, loss in enumerate(losses, start=1):
        if expected is None and len(best) > patience and loss > min(best[:-patience]):
            expected = epoch
        best.append(loss)
    assert _epochs_until_averaging([float(loss) for loss in losses], patience) == expected


def test_training_is_over_when_nothing_improves() -> None:
    convergence = Convergence(None, 2)
    over = []
    for loss in (5.0, 4.0, 4.0, 3.9, 4.0, 4.1):
        convergence.add(loss)
        over.append(convergence.over)
    assert over == [False, False, False, False, False, True]


def test_averaging_gets_its_own_patience() -> None:
    convergence = Convergence(1, 3)
    for loss in (5.0, 4.0, 4.5):
        convergence.add(loss)
    assert not convergence.averaging
    convergence.add(4.6)  # above the best before the last one, 4
    assert convergence.averaging
    convergence.add(4.5)
    convergence.add(4.5)
    assert not convergence.over
    convergence.add_failure()
    assert convergence.over


def test_history_survives_a_restart() -> None:
    first, second = Convergence(1, 9), Convergence(1, 9)
    for loss in (3.0, 2.0, 2.0):
        first.add(loss)
    second.load_state_dict(first.state_dict())
    for convergence in (first, second):
        assert not convergence.add(2.5)
        assert convergence.averaging
    assert first.state_dict() == second.state_dict()
