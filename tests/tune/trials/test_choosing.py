"""A searcher chooses once per setting, for all of its seeds, and hears their mean score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

from darts_ray.errors import ConfigError
from darts_ray.tune.scheduling.search_space import make_searcher
from darts_ray.tune.trials import TrialSpec
from darts_ray.tune.trials.choosing import SharedChoices
from darts_ray.tune.trials.folder import TrialFolder
from tests.tune.stub import stub_study

AXIS = "optim.weight_lr"
TRIALS = [
    TrialSpec(f"search-{setting}_seed-{seed}", {}, setting, seed)
    for setting in ("a", "b")
    for seed in (0, 1)
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Optuna's study is told: state and value of each trial."""
    values: list[Any] = []
    tell, add = optuna.Study.tell, optuna.Study.add_trial

    def tell_and_note(study: Any, trial: Any, score: Any = None, state: Any = None) -> Any:
        values.append((state.name, score))
        return tell(study, trial, score, state)

    def add_and_note(study: Any, trial: Any) -> None:
        values.append((trial.state.name, trial.value, trial.params[AXIS]))
        add(study, trial)

    monkeypatch.setattr(optuna.Study, "tell", tell_and_note)
    monkeypatch.setattr(optuna.Study, "add_trial", add_and_note)
    return values


def searcher() -> Searcher:
    axes = {"optim": {"weight_lr": {"loguniform": [0.001, 0.5]}}}
    made = make_searcher(stub_study(Path("/nowhere"), search=axes, tune={"searcher": "optuna"}))
    assert made is not None
    return made


def choices(folders: dict[str, TrialFolder] | None = None) -> SharedChoices:
    return SharedChoices(searcher(), [AXIS], TRIALS, folders or {})


def ended(rate: float, score: float | None) -> TrialFolder:
    """A trial's folder; without a score it has begun and not ended."""
    last = {} if score is None else {"validation_accuracy": score}
    config = {"optim": {"weight_lr": rate}}
    return TrialFolder(history=(last,), config=config, ended=score is not None)


def test_seeds_share_a_setting_and_its_score_is_their_mean(told: list[Any]) -> None:
    shared = choices()
    a, same, b, _ = (shared.values_for(trial) for trial in TRIALS)
    assert a == same
    assert a != b
    shared.tell("search-a_seed-0", {"validation_accuracy": 0.5})
    shared.tell("search-b_seed-1", None)
    assert told == []
    shared.tell("search-a_seed-1", {"validation_accuracy": 0.75})
    assert told == [("COMPLETE", 0.625)]
    shared.tell("search-b_seed-0", {"validation_accuracy": 0.5})  # of the seed that did not fail
    assert told[1:] == [("COMPLETE", 0.5)]


def test_a_setting_whose_seeds_all_fail_has_failed(told: list[Any]) -> None:
    shared = choices()
    shared.values_for(TRIALS[0])
    shared.tell("search-a_seed-0", None)
    shared.tell("search-a_seed-1", {"validation_accuracy": float("nan")})
    assert told == [("FAIL", None)]


def test_after_an_interruption_the_rest_of_a_setting_gets_its_values(told: list[Any]) -> None:
    rate = choices().values_for(TRIALS[0])[AXIS]
    shared = choices({"search-a_seed-0": ended(rate, 0.5)})
    assert shared.values_for(TRIALS[1]) == {AXIS: rate}
    shared.tell("search-a_seed-1", {"validation_accuracy": 1.0})
    assert told == [("COMPLETE", 0.75)]


def test_what_another_order_of_results_chose_is_told_as_it_is(told: list[Any]) -> None:
    shared = choices({"search-a_seed-0": ended(0.25, 0.5)})
    assert shared.values_for(TRIALS[1]) == {AXIS: 0.25}
    shared.tell("search-a_seed-1", {"validation_accuracy": 1.0})
    assert told == [("FAIL", None), ("COMPLETE", 0.75, 0.25)]


def test_seeds_that_were_drawn_anew_by_an_earlier_version_do_not_mix(told: list[Any]) -> None:
    choices({"search-a_seed-0": ended(0.25, 0.5), "search-a_seed-1": ended(0.125, 1.0)})
    assert ("COMPLETE", 0.5, 0.25) in told


class Noting(Searcher):
    """Suggests what it is given, and notes what it hears."""

    def __init__(self, *suggestions: Any) -> None:
        super().__init__(metric="score", mode="max")
        self.suggestions = list(suggestions)
        self.heard: list[Any] = []

    def suggest(self, trial_id: str) -> Any:
        return self.suggestions.pop(0)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        told = result["epoch"], result["score"], result.get("hyperband_info")
        self.heard.append((trial_id, *told))

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.heard.append((trial_id, result))

    def on_pause(self, trial_id: str) -> None:
        self.heard.append((trial_id, "pauses"))

    def on_unpause(self, trial_id: str) -> None:
        self.heard.append((trial_id, "goes on"))


def noting(*suggestions: Any) -> tuple[Noting, SharedChoices]:
    searcher = Noting(*suggestions)
    return searcher, SharedChoices(searcher, [AXIS], TRIALS, {}, replays=False)


def test_epochs_are_told_as_the_mean_of_the_seeds_that_reached_them() -> None:
    searcher, shared = noting({AXIS: 0.1})
    shared.values_for(TRIALS[0])
    shared.hear("search-a_seed-0", {"epoch": 1, "score": 0.25, "hyperband_info": {}})
    assert searcher.heard == []
    told = {"epoch": 1, "score": 0.75, "hyperband_info": {"budget": 1}}
    shared.hear("search-a_seed-1", told)
    assert searcher.heard == [("a", 1, 0.5, {"budget": 1})]
    shared.hear("search-a_seed-1", told)  # repeated after a failure
    shared.hear("search-a_seed-1", {"epoch": 2, "score": 1.0})
    assert len(searcher.heard) == 1
    shared.tell("search-a_seed-0", {"score": 0.25})  # which is not waited for any longer
    assert searcher.heard[1:] == [("a", 2, 1.0, None)]
    shared.tell("search-a_seed-1", {"score": 0.75})
    assert searcher.heard[2:] == [("a", {"score": 0.5})]


def test_a_setting_pauses_when_all_of_its_seeds_do() -> None:
    searcher, shared = noting({AXIS: 0.1})
    shared.values_for(TRIALS[0])
    shared.pause("search-a_seed-0")
    assert searcher.heard == []
    shared.pause("search-a_seed-1")
    shared.unpause("search-a_seed-0")
    shared.unpause("search-a_seed-1")
    assert searcher.heard == [("a", "pauses"), ("a", "goes on")]


def test_a_searcher_may_have_nothing_now_or_nothing_more() -> None:
    _, shared = noting(None, {"optim": {"weight_lr": 0.1}}, Searcher.FINISHED)
    assert shared.values_for(TRIALS[0]) is None
    assert shared.values_for(TRIALS[0]) == {AXIS: 0.1}  # nested as searchers may
    assert not shared.is_exhausted
    assert shared.values_for(TRIALS[2]) is None
    assert shared.is_exhausted
    _, other = noting({"rate": 0.1})
    with pytest.raises(ConfigError, match=r"Noting chose values for rate; the axes .*weight_lr"):
        other.values_for(TRIALS[0])


def test_kept_choices_learn_what_they_have_missed() -> None:
    searcher, shared = noting({AXIS: 0.1})
    shared.values_for(TRIALS[0])
    grown = [*TRIALS, TrialSpec("search-c_seed-0", {}, "c", 0)]
    folders = {
        "search-a_seed-0": ended(0.1, None),
        "search-a_seed-1": TrialFolder(history=({"score": 0.5},), ended=True),
        "search-b_seed-0": ended(0.3, None),  # chosen after the last state was written
    }
    shared.take_up(grown, folders)
    assert shared.values_for(TRIALS[1]) == {AXIS: 0.1}
    assert shared.values_for(TRIALS[3]) == {AXIS: 0.3}
    shared.tell("search-a_seed-0", {"score": 1.0})
    assert searcher.heard == [("a", {"score": 0.75})]
    shared.tell("search-b_seed-0", {"score": 1.0})
    shared.tell("search-b_seed-1", {"score": 1.0})  # it cannot learn from these, and says so
    assert len(searcher.heard) == 1
