"""The numbers behind figures, as CSV inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from darts_ray.study.files.measure import Measure
from darts_ray.study.report.figures.curves import EIGENVALUES
from darts_ray.study.report.statistics import RankTest


@dataclass(frozen=True)
class FigureData:
    """The numbers behind a figure: a file's name, its CSV text, and the number of rows."""

    name: str
    text: str
    count: int

    @property
    def uri(self) -> str:
        """A link that holds the text itself."""
        # why not base64: commas and digits stay as they are, which is a quarter less
        return f"data:text/csv;charset=utf-8,{quote(self.text, safe=',=.-+:/()')}"


def figure_data(name: str, rows: pd.DataFrame) -> FigureData:
    """Return rows as the data of a figure; numbers have five digits, more than one can see."""
    text = rows.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    return FigureData(f"{name}.csv", text, len(rows))


def curve_data(results: pd.DataFrame, stage: str, measure: Measure) -> FigureData | None:
    """Return what the curves of a stage draw; None where it has no rows."""
    rows = results[results["stage"] == stage] if len(results) else results
    truth = [name for name in rows.columns if name.startswith("true_accuracy_")]
    scores = [measure.validation, "train_loss", "train_accuracy", "num_skip", *EIGENVALUES, *truth]
    kept = [name for name in scores if name in rows and rows[name].notna().any()]
    if not kept:
        return None
    # a search is named by its setting and seed; retrainings of several cells share theirs
    is_search = stage in ("search", "benchmark")
    names = ["setting", "seed"] if is_search else ["trial", "setting", "seed"]
    return figure_data(f"{stage}-curves", rows[[*names, "epoch", *kept]])


def alpha_data(name: str, alphas: pd.DataFrame) -> FigureData:
    """Return the weights that one search's heatmaps draw: a row per primitive, a column per epoch.

    Args:
        name: of the file, without its ending.
        alphas: rows of alphas.parquet of one trial.
    """
    keys = ["cell", "edge", "primitive"]
    table = alphas.pivot_table(index=keys, columns="epoch", values="weight", sort=False)
    return figure_data(name, table.rename(columns="epoch {}".format).reset_index())


def rank_data(test: RankTest) -> FigureData:
    """Return the mean ranks, best first, each with the critical difference."""
    rows = [
        {"setting": setting, "mean_rank": rank, "critical_difference": test.critical_difference}
        for setting, rank in test.mean_ranks.items()
    ]
    return figure_data("ranks", pd.DataFrame(rows))


def confusion_data(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> FigureData:
    """Return the confusion matrix: a row per true class, a column per prediction."""
    rows = pd.DataFrame(confusion, columns=list(names))
    rows.insert(0, "true class", list(names))
    return figure_data("confusion", rows)
