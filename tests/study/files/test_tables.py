import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from darts_ray.study.files.tables import alphas_of, alphas_table, replace_stage, results_table
from tests.study.fabricated import failed_outcome, search_outcome, training_outcome


def test_one_row_per_trial_and_epoch() -> None:
    outcomes = [search_outcome("a", "x=1", 3, 4), failed_outcome("b", "x=1", 4)]
    table = results_table("search", outcomes)
    assert table.column("epoch").to_pylist() == [1, 2, 3, 4]
    assert set(table.column("setting").to_pylist()) == {"x=1"}
    assert table.schema.field("train_loss").type == pa.float64()
    assert not {"genotype", "alphas", "done"} & set(table.column_names)


def test_epochs_that_were_repeated_after_a_restart_count_once() -> None:
    outcome = search_outcome("a", "-", 0, 3)
    again = [*outcome.history[:2], {**outcome.history[1], "train_loss": 9.0}, outcome.history[2]]
    table = results_table("search", [replace(outcome, history=again)])
    assert table.column("epoch").to_pylist() == [1, 2, 3]
    assert table.column("train_loss").to_pylist()[1] == 9.0


def test_what_is_not_finite_is_missing() -> None:
    outcome = search_outcome("a", "-", 0, 1)
    outcome.history[0]["train_loss"] = math.nan
    outcome.history[0]["done"] = True
    table = results_table("search", [outcome])
    assert table.column("train_loss").to_pylist() == [None]
    assert "done" not in table.column_names


def test_a_stage_is_replaced_and_columns_are_united() -> None:
    search = results_table("search", [search_outcome("a", "-", 0, 2)])
    retrain = results_table(
        "retrain", [training_outcome("retrain", "r", "-", 0, 2, 0.9, test=True)]
    )
    both = replace_stage(search, retrain, "retrain")
    assert both.num_rows == 4
    assert both.column("test_accuracy").to_pylist() == [None, None, None, 0.9]
    again = replace_stage(both, retrain, "retrain")
    assert again.select(both.column_names).equals(both)
    assert replace_stage(pa.table({}), search, "search").equals(search)


def test_alphas_are_softmax_weights_by_name() -> None:
    outcome = search_outcome("a", "-", 0, 2)
    table = alphas_table([outcome, search_outcome("b", "-", 1, 2, space="recurrent")])
    frame = pd.concat([alphas_of(table, trial) for trial in "ab"])
    sums = frame.groupby(["trial", "epoch", "cell", "edge"]).weight.sum()
    # per epoch 14 edges in each of two cells; 36 edges in the recurrent one
    assert len(sums) == 2 * (14 + 14 + 36)
    assert np.allclose(sums, 1.0)
    row = frame[(frame.trial == "a") & (frame.epoch == 2) & (frame.cell == "reduce")]
    wanted = outcome.history[1]["alphas"]["reduce"][13][4]
    found = row[(row.edge == 13) & (row.primitive == "sep_conv_3x3")].weight
    assert np.isclose(found.item(), wanted)


def test_no_alphas() -> None:
    assert alphas_table([failed_outcome("b", "-", 4)]).num_rows == 0
