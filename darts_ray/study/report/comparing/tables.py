"""A comparison of studies as rows, as CSV, and as a table for a paper."""

from __future__ import annotations

import pandas as pd

from darts_ray.study.report.comparing.studies import TEST, StudyComparison

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    # these are other characters in LaTeX's default fonts
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}


def table(comparison: StudyComparison) -> pd.DataFrame:
    """Return one row per setting: scores in the unit of the metric (accuracies 0..1)."""
    more = comparison.measure.more_is_better
    rows = []
    for item in comparison.robustness.settings:
        score = item.score
        rows.append(
            {
                "setting": item.setting,
                "n": 0 if score is None else score.n,
                "planned": comparison.num_planned[item.setting],
                "mean": None if score is None else score.mean,
                "std": None if score is None else score.std,
                "median": None if score is None else score.median,
                "interquartile_mean": None if score is None else score.interquartile_mean,
                "worst": None if score is None else score.worst(more),
                "best": None if score is None else score.best(more),
                "low": None if score is None else score.low,
                "high": None if score is None else score.high,
                "distinct_cells": item.num_cells,
                "collapsed": None if item.collapsed is None else item.collapsed.fraction,
                "over_baseline_percent": None
                if item.improvement is None
                else item.improvement.percent,
                "stopped_early": item.num_stopped,
            }
        )
    return pd.DataFrame(rows)


def to_csv(comparison: StudyComparison) -> str:
    """Return the table as CSV."""
    return str(table(comparison).to_csv(index=False))


def best_setting(comparison: StudyComparison) -> str | None:
    """Return the setting with the best mean; None without scores."""
    scored = [item for item in comparison.robustness.settings if item.score is not None]
    if not scored:
        return None
    merit = comparison.measure.merit
    return max(scored, key=lambda item: merit(item.score.mean if item.score else None)).setting


def to_latex(comparison: StudyComparison) -> str:
    """Return the table as LaTeX that needs the package booktabs.

    Its last column is the adjusted p-value against the setting with the best mean; the caption
    states the number of searches, the test and the budget.
    """
    show, best = comparison.measure.show, best_setting(comparison)
    p_values = {
        other: item.adjusted_p
        for item in comparison.robustness.comparisons
        for setting, other in ((item.first, item.second), (item.second, item.first))
        if setting == best
    }
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(comparison)}}}",
        r"\label{tab:comparison}",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"Setting & $n$ & Mean $\pm$ sd & Median & Worst & 95\,\% interval & $p$ \\",
        r"\midrule",
    ]
    for item in comparison.robustness.settings:
        score = item.score
        cells = [escape(item.setting)]
        if score is None:
            cells += ["0", *["--"] * 5]
        else:
            spread = escape(score.text(show))
            interval = "--"
            if score.low is not None and score.high is not None:
                interval = f"{show(score.low)}--{show(score.high)}"
            p = p_values.get(item.setting)
            cells += [
                str(score.n),
                rf"\textbf{{{spread}}}" if item.setting == best else spread,
                show(score.median),
                show(score.worst(comparison.measure.more_is_better)),
                interval,
                "--" if p is None else ("<0.001" if p < 0.001 else f"{p:.3f}").replace("<", "$<$"),
            ]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def caption(comparison: StudyComparison) -> str:
    """Return what a reader of the table has to know, as LaTeX."""
    numbers = [0 if s.score is None else s.score.n for s in comparison.robustness.settings]
    n = f"{numbers[0]}" if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"
    short = ""
    if all(item.permutation_p is None for item in comparison.robustness.comparisons):
        short = " There are too few seeds for a test."
    warned = ""
    if comparison.differences:
        names = ", ".join(line.partition(":")[0] for line in comparison.differences)
        warned = f" The protocols differ in {names}; no verdict follows."
    text = (
        f"{comparison.robustness.measured[:1].upper()}{comparison.robustness.measured[1:]}: mean"
        f" and standard deviation over n = {n} independent searches per setting, with the BCa"
        f" bootstrap interval of the mean from five searches on. p against the setting with the"
        f" best mean (bold): {TEST}.{short} Budget: {comparison.budget}.{warned}"
    )
    return escape(text)


def escape(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in text)
