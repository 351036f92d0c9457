from dataclasses import replace
from typing import Any

import pytest

from darts_ray.config import DataConfig
from darts_ray.errors import TrialsFailedError
from darts_ray.space import zoo
from darts_ray.study.files import entries as records
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import RetrainEntry, SearchEntry, cell_name
from darts_ray.tune import TrialOutcome
from tests.study.fabricated import failed_outcome

ACCURACY = Measure.of(DataConfig())
PERPLEXITY = Measure.of(DataConfig(source="english"))


def search(name: str, cell: str, accuracy: float | None, seed: int = 0) -> TrialOutcome:
    history: list[dict[str, Any]] = [
        {"epoch": 1, "genotype": zoo["NASNet"].to_json(), "validation_accuracy": 0.99},
        {"epoch": 2, "genotype": zoo[cell].to_json(), "validation_accuracy": accuracy},
    ]
    return TrialOutcome(name, "-", seed, {}, "done", None, history, None, 1.0)


def training(name: str, seed: int, **metrics: float) -> TrialOutcome:
    history: list[dict[str, Any]] = [{"epoch": 1, "validation_accuracy": 1.0}, {"epoch": 2}]
    history[1] |= metrics
    return TrialOutcome(
        name, "-", seed, {}, "done", None, history, f"s3://b/s/retrain/{name}/c?region=r", 1.0
    )


def entries(*outcomes: TrialOutcome) -> tuple[SearchEntry, ...]:
    return records.search_entries(outcomes, ACCURACY, lambda genotype: 7)


def test_entries_describe_the_last_epoch() -> None:
    found = entries(
        search("a", "DARTS_V2", 0.6), failed_outcome("c", "-", 2), search("b", "DARTS_V1", 0.5)
    )
    assert [entry.trial for entry in found] == ["a", "b"]
    assert found[0].genotype == zoo["DARTS_V2"]
    assert found[0].validation == 0.6
    # skip connections of the published normal cells: two in V2, three in V1
    assert [entry.num_skip for entry in found] == [2, 3]


def test_a_search_that_was_stopped_before_it_had_a_cell_has_no_entry() -> None:
    early = search("a", "DARTS_V1", 0.5)
    del early.history[-1]["genotype"]
    assert [entry.trial for entry in entries(early, search("b", "DARTS_V1", 0.5))] == ["b"]


def test_sizes_are_counted_once_per_cell() -> None:
    asked = []
    outcomes = [search(name, "DARTS_V1", 0.5) for name in "abc"]
    records.search_entries(outcomes, ACCURACY, lambda genotype: asked.append(genotype) or 1)  # type: ignore[func-returns-value]
    assert len(asked) == 1


def test_equal_cells_are_selected_once_and_share_their_scores() -> None:
    found = entries(
        search("a", "DARTS_V1", 0.5), search("b", "DARTS_V2", 0.6), search("c", "DARTS_V1", 0.7)
    )
    first, second = records.candidates(found)
    assert (first.genotype, second.genotype) == (zoo["DARTS_V1"], zoo["DARTS_V2"])
    trained = [
        training(f"{first.name}_seed-1", 1, validation_accuracy=0.8),
        training(f"{first.name}_seed-0", 0, validation_accuracy=0.6),
        replace(training(f"{second.name}_seed-0", 0), status="failed", error="x"),
    ]
    scored = records.with_select_scores(found, trained, ACCURACY)
    assert [entry.select_score for entry in scored] == [
        pytest.approx(0.7),
        None,
        pytest.approx(0.7),
    ]
    assert scored[0].select_scores == (0.6, 0.8)
    winner = records.choose_winner(scored, ACCURACY, selected=True)
    assert winner.trial == "c"  # equal select scores: the better search
    assert "70.00 %" in winner.reason


def test_last_tie_goes_to_the_first_of_the_plan() -> None:
    found = entries(search("b", "DARTS_V1", 0.5), search("a", "DARTS_V2", 0.5))
    assert records.choose_winner(found, ACCURACY, selected=False).trial == "b"


def test_scores_of_unchanged_cells_are_carried_over() -> None:
    before = [
        replace(entry, select_scores=(0.7,)) for entry in entries(search("a", "DARTS_V1", 0))
    ]
    again = records.search_entries(
        [search("x", "DARTS_V2", 0.5), search("y", "DARTS_V1", 0.5)], ACCURACY, lambda _: 7, before
    )
    assert [entry.select_scores for entry in again] == [(), (0.7,)]


def test_scores_that_are_no_numbers_count_as_missing() -> None:
    (entry,) = entries(search("a", "DARTS_V1", float("nan")))
    assert entry.validation is None
    (trained,) = records.retrain_entries([training("x", 0, train_loss=float("inf"))])
    assert "train_loss" not in trained.metrics


def test_lower_perplexity_wins() -> None:
    found = [
        replace(entry, validation=100.0 - index)
        for index, entry in enumerate(
            entries(search("a", "DARTS_V1", None), search("b", "DARTS_V2", None))
        )
    ]
    assert records.choose_winner(found, PERPLEXITY, selected=False).trial == "b"


def test_no_winner_among_failures() -> None:
    with pytest.raises(TrialsFailedError, match="none of the searches"):
        records.choose_winner([], ACCURACY, selected=False)


def test_a_cell_keeps_its_name_whoever_finds_it() -> None:
    names = {cell_name(genotype) for genotype in zoo.values()}
    assert len(names) == len(zoo)
    alone = records.candidates(entries(search("z", "DARTS_V2", 0.1)))
    assert alone[0].name == cell_name(zoo["DARTS_V2"])


def test_exported_seed_is_not_chosen_by_the_test_set() -> None:
    found = records.retrain_entries(
        [training("x", 4, test_accuracy=0.1), training("y", 9, test_accuracy=0.9)]
    )
    assert found[0].checkpoint == "retrain/x/c"
    unscored = [
        replace(entry, metrics={"test_accuracy": entry.metrics["test_accuracy"]})
        for entry in found
    ]
    best, reason = records.choose_exported(unscored, ACCURACY)
    assert best.seed == 4
    assert "test set may not" in reason


def test_exported_text_network_has_the_best_validation_score() -> None:
    found = [
        RetrainEntry("x", 0, None, {"validation_perplexity": 90.0}),
        RetrainEntry("y", 1, None, {"validation_perplexity": 80.0}),
    ]
    best, reason = records.choose_exported(found, PERPLEXITY)
    assert best.seed == 1
    assert "80.00" in reason
    with pytest.raises(TrialsFailedError):
        records.choose_exported([], PERPLEXITY)


def test_flags_are_no_numbers() -> None:
    outcome = training("x", 0, test_accuracy=0.5)
    outcome.history[-1]["done"] = True
    assert "done" not in records.retrain_entries([outcome])[0].metrics
