"""When a registered model becomes the champion."""

from types import SimpleNamespace

import pytest

from darts_ray.tracking import Registration


def better(score: float | None, *, data: str = "d", **changes: object) -> Registration:
    values = {"score_name": "select accuracy", "rule": "better", **changes}
    return Registration("cells", score=score, data=data, **values)  # type: ignore[arg-type]


CHAMPION = SimpleNamespace(version="3", tags={**better(0.9).tags, "darts.run_id": "theirs"})


@pytest.mark.parametrize(
    ("registration", "run_id", "reason"),
    [
        (better(0.91), "ours", ""),
        (better(0.90), "ours", "is not better than the 0.9 of version 3"),
        (better(0.90), "theirs", ""),  # a study replaces its own model by an equally good one
        (better(0.89), "theirs", "is not better"),
        (better(None), "ours", "nothing was held out"),
        (better(0.99, data="other"), "ours", "scored on something else"),
        (better(0.99, score_name="search accuracy"), "ours", "scored on something else"),
        (better(0.99, rule="never"), "ours", "never"),
        (better(None, rule="always"), "ours", ""),
        (better(0.8, more_is_better=False), "ours", ""),
    ],
)
def test_champion_moves_only_to_a_better_held_out_score(
    registration: Registration, run_id: str, reason: str
) -> None:
    said = registration.objection(CHAMPION, run_id)
    assert reason in said
    assert bool(said) == bool(reason)


def test_the_first_model_is_the_champion_unless_told_otherwise() -> None:
    assert better(None).objection(None, "ours") == ""
    assert better(0.9, rule="never").objection(None, "ours") != ""
