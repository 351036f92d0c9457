"""Studies side by side: what is refused, what is computed, and how it is written."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darts_ray.cli import run
from darts_ray.errors import ConfigError, StudyError
from darts_ray.space import Genotype
from darts_ray.study import compare_studies
from darts_ray.study.files.record import cell_name
from darts_ray.study.report.comparing.page import render_comparison
from darts_ray.study.report.comparing.tables import escape, to_csv, to_latex
from tests.study.fabricated import (
    finished_text_study,
    image_config,
    search_outcome,
    training_outcome,
    write_study,
)

SEARCH = {"epochs": 3}
A = (0.90, 0.92, 0.94, 0.91, 0.93, 0.96)
B = (0.85, 0.88, 0.93, 0.87, 0.88, 0.90)


def study(
    output: Path, name: str, scores: Sequence[float], test: Sequence[float] = (), **changes: Any
) -> str:
    """A finished study of one setting whose short trainings scored as given, by seed."""
    seeds = list(range(len(scores)))
    values: dict[str, Any] = {
        "name": name,
        "seeds": seeds,
        "search": SEARCH,
        "select": {"epochs": 3},
        "retrain": {"seeds": [0, 1], "epochs": 4},
        "export": None,
        **changes,
    }
    config = image_config(output, **values)
    searches = [search_outcome(f"{name}-{seed}", "-", seed, 3) for seed in seeds]
    selects = [
        training_outcome(
            "select",
            f"{cell_name(Genotype.from_json(outcome.history[-1]['genotype']))}_seed-0",
            "-", 0, 3, score, test=False,
        )
        for outcome, score in zip(searches, scores, strict=True)
    ]  # fmt: skip
    retrains = [
        training_outcome("retrain", f"retrain_seed-{seed}", "-", seed, 4, score, test=True)
        for seed, score in enumerate(test)
    ]
    return str(write_study(config, searches, selects, retrains))


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [study(tmp_path, "a", A, test=(0.97, 0.98)), study(tmp_path, "b_x", B)]


def test_statistics_are_those_of_the_paired_seeds(two: list[str]) -> None:
    found = compare_studies(two)
    first, second = found.robustness.settings
    assert (first.setting, second.setting) == ("a", "b_x")
    assert first.score is not None
    assert second.score is not None
    # (90 + 92 + 94 + 91 + 93 + 96) / 6 = 556 / 6 and (85 + 88 + 93 + 87 + 88 + 90) / 6 = 531 / 6
    assert first.score.mean == pytest.approx(5.56 / 6)
    assert second.score.mean == pytest.approx(5.31 / 6)
    # squared deviations from 92 2/3: 7.11 + .44 + 1.78 + 2.78 + .11 + 11.11 = 23.33, over 5
    assert first.score.std == pytest.approx(math.sqrt(23 + 1 / 3) / math.sqrt(5) / 100)
    assert (second.score.smallest, second.score.largest) == (0.85, 0.93)
    assert second.score.median == pytest.approx(0.88)
    (pair,) = found.robustness.comparisons
    # differences 5, 4, 1, 4, 5, 6: all positive, so of 2^6 sign flips two are as extreme
    assert pair.n == 6
    assert pair.difference == pytest.approx(0.25 / 6)
    assert pair.permutation_p == pytest.approx(2 / 64)
    assert pair.adjusted_p == pytest.approx(2 / 64)
    assert pair.verdict == "differ at the 5 % level"
    # of 36 pairs of searches a loses 90 < 93, 92 < 93, 91 < 93, and ties 90 = 90, 93 = 93
    assert pair.improvement == pytest.approx((36 - 3 - 2 + 1) / 36)
    (winner,) = found.winners
    assert winner.study == "a"
    assert winner.score is not None
    assert winner.score.mean == pytest.approx(0.975)
    assert found.budget == (
        "search of 3 epochs, batch size 64; short training of 3 epochs; retraining of 4 epochs"
    )


def test_holm_counts_the_pairs_of_all_studies(tmp_path: Path) -> None:
    c = [score - 0.2 for score in A]
    places = [study(tmp_path, name, s) for name, s in (("a", A), ("b", B), ("c", c))]
    found = compare_studies(places)
    # three tests with p = 2/64 each; Holm multiplies the smallest by three, and keeps the order
    assert [item.adjusted_p for item in found.robustness.comparisons] == [
        pytest.approx(6 / 64)
    ] * 3
    assert {item.verdict for item in found.robustness.comparisons} == {"no difference shown"}
    assert found.robustness.ranks is not None
    assert found.robustness.ranks.mean_ranks == {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": {"max_train": 500}}, "data.max_train: null in a; 500 in b"),
        ({"data": {"split_seed": 7}}, "data.split_seed"),
        ({"search": {"epochs": 4}}, "search.epochs: 3 in a; 4 in b"),
        ({"search": {"epochs": 3, "network": {"channels": 4}}}, "search.network"),
        ({"search": {"epochs": 3, "train_portion": 0.7}}, "search.train_portion"),
        ({"search": {"epochs": 3, "precision": "bfloat16"}}, "search.precision: float32 in a; bf"),
        # darts_pt fixes one edge per five epochs after the configured ones
        (
            {"search": {"epochs": 3, "method": "darts_pt"}},
            "search.epochs with its method",
        ),
        ({"select": {"epochs": 9}}, "select.epochs: 3 in a; 9 in b"),
        ({"select": {"epochs": 3, "seeds": [0, 1]}}, "select.number of seeds: 1 in a; 2 in b"),
        ({"retrain": {"epochs": 9, "seeds": [0]}}, "retrain.epochs: 4 in a; 9 in b"),
        ({"tune": {"scheduler": "asha", "grace_period": 1}}, "tune.scheduler: fifo in a; asha"),
    ],
)
def test_other_data_and_budgets_are_refused(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    places = [study(tmp_path, "a", A), study(tmp_path, "b", B, **changes)]
    with pytest.raises(StudyError, match="--anyway") as refusal:
        compare_studies(places)
    assert named in str(refusal.value)
    found = compare_studies(places, anyway=True)
    assert any(named in line for line in found.differences)
    assert all("no verdict" in item.verdict for item in found.robustness.comparisons)
    page = render_comparison(found)
    assert "not comparable" in page
    assert "The protocols differ in" in to_latex(found)


def each(output: Path, name: str, scores: Sequence[Sequence[float]], **changes: Any) -> str:
    """A study that retrains every search's own cell; the test scores by search."""
    retrain = {"epochs": 4, "cells": "each", "seeds": list(range(len(scores[0])))}
    config = image_config(
        output, name=name, seeds=list(range(len(scores))), search=SEARCH, select=None,
        retrain=retrain, export=None, **changes,
    )  # fmt: skip
    # the searches of both studies derive the same cells
    searches = [search_outcome(f"s-{seed}", "-", seed, 3) for seed in range(len(scores))]
    retrains = [
        replace(
            training_outcome("retrain", f"r-{i}-{seed}", "-", seed, 4, score, test=True),
            config={"genotype": Genotype.from_json(search.history[-1]["genotype"]).to_dict()},
        )
        for i, (search, own) in enumerate(zip(searches, scores, strict=True))
        for seed, score in enumerate(own)
    ]
    return str(write_study(config, searches, (), retrains))


def test_where_every_search_is_retrained_its_own_test_score_counts(tmp_path: Path) -> None:
    first = [(0.90, 0.92), (0.94, 0.96), (0.91, 0.93)]
    second = [(0.80, 0.82), (0.84, 0.86), (0.81, 0.83)]
    places = [each(tmp_path, "a", first), each(tmp_path, "b", second)]
    found = compare_studies(places)
    assert "test accuracy" in found.robustness.measured
    one, other = found.robustness.settings
    assert one.score is not None
    assert other.score is not None
    # by search 91, 95, 92; the other study's retrainings of the same cells do not count
    assert (one.score.n, one.score.mean) == (3, pytest.approx((0.91 + 0.95 + 0.92) / 3))
    assert other.score.mean == pytest.approx((0.81 + 0.85 + 0.82) / 3)
    # and the winner's score is that of its own cell alone
    assert {winner.score.n for winner in found.winners if winner.score} == {2}


def test_as_many_retrainings_are_asked_for_where_they_count(tmp_path: Path) -> None:
    places = [each(tmp_path, "a", [(0.9, 0.92)] * 2), each(tmp_path, "b", [(0.9,)] * 2)]
    with pytest.raises(StudyError, match=r"retrain\.number of seeds: 2 in a; 1 in b"):
        compare_studies(places)


def test_methods_are_related_to_the_one_baseline(tmp_path: Path) -> None:
    random = {"epochs": 3, "method": "random"}
    places = [study(tmp_path, "a", A), study(tmp_path, "random", B, search=random)]
    found = compare_studies(places)
    assert found.robustness.baseline == "random"
    improvement = found.robustness.settings[0].improvement
    assert improvement is not None
    # 100 * (556 - 531) / 531
    assert improvement.percent == pytest.approx(2500 / 531)
    assert "+4.71 %" in render_comparison(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"cache_dir": "/elsewhere"}},
        {"search": {"epochs": 3, "method": "pc_darts"}},
        {"search": {"epochs": 3, "method": "random"}},
        {"search": {"epochs": 3, "optim": {"order": "first"}}},
        {"retrain": None},
        {"retrain": {"epochs": 4, "seeds": [5, 6, 7]}},
        {"resources": {"max_concurrent": 1}},
    ],
)
def test_methods_and_machines_may_differ(changes: dict[str, Any], tmp_path: Path) -> None:
    places = [study(tmp_path, "a", A), study(tmp_path, "b", B, **changes)]
    assert compare_studies(places).differences == ()


def test_other_data_are_known_by_their_fingerprint(two: list[str]) -> None:
    file = Path(two[1], "study.yaml")
    file.write_text(file.read_text().replace("abc123", "def456"))
    with pytest.raises(StudyError, match=r"data\.fingerprint: abc123 in a; def456 in b_x"):
        compare_studies(two)


def test_studies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = [study(tmp_path / "old", "a", A), study(tmp_path / "new", "a", B)]
    assert [item.setting for item in compare_studies(places).robustness.settings] == [
        "old/a",
        "new/a",
    ]


def test_what_cannot_be_compared(two: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two studies or more"):
        compare_studies(two[:1])
    with pytest.raises(ConfigError, match="each once"):
        compare_studies([two[0], two[0] + "/"])
    with pytest.raises(ConfigError, match="perplexities"):
        compare_studies([two[0], str(finished_text_study(tmp_path))], anyway=True)


def test_csv(two: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(compare_studies(two)))))
    assert [row["setting"] for row in rows] == ["a", "b_x"]
    assert float(rows[0]["mean"]) == pytest.approx(5.56 / 6)
    assert [row["n"] for row in rows] == ["6", "6"]


def test_latex_states_n_test_and_budget(two: list[str]) -> None:
    text = to_latex(compare_studies(two))
    for part in (
        "over n = 6 independent searches",
        "permutation test",
        "Holm",
        "search of 3 epochs, batch size 64; short training of 3 epochs",
        r"\toprule",
        r"\bottomrule",
        r"select accuracy (\%)",
    ):
        assert part.lower() in text.lower()
    # 92.666..., its standard deviation 2.160...; the p-value is that of the only pair
    assert r"a & 6 & \textbf{92.67 $\pm$ 2.16} & 92.50 & 90.00 & " in text
    assert r"b\_x & 6 & 88.50 $\pm$ 2.74 & 88.00 & 85.00 & " in text
    assert r" & 0.031 \\" in text
    for opening, closing in ("{}", ("\\begin", "\\end")):
        assert text.count(opening) == text.count(closing)


NAMES = ("50%_a&b #1", "c~d^2 {e} $f$", "back\\slash <less> ä")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_whatever_studies_are_called(tmp_path: Path) -> None:
    places = [study(tmp_path, f"s{i}", [s - i / 10 for s in A]) for i in range(3)]
    found = compare_studies(places)
    renamed = replace(
        found,
        robustness=replace(
            found.robustness,
            settings=tuple(
                replace(item, setting=name)
                for item, name in zip(found.robustness.settings, NAMES, strict=True)
            ),
        ),
        differences=("data.max_train: 3_000 in a&b; 50% in c",),
    )
    lines = [
        r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}",
        to_latex(renamed), r"\end{document}",
    ]  # fmt: skip
    (tmp_path / "table.tex").write_text("\n".join(lines), encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
    for warning in ("Missing character", "Undefined"):
        assert warning not in ended.stdout


def test_latex_prints_the_characters_of_a_name() -> None:
    assert escape("a_b & 5% #1 ± <c> | d") == (
        r"a\_b \& 5\% \#1 $\pm$ \textless{}c\textgreater{} \textbar{} d"
    )


def test_latex_says_when_there_are_too_few_seeds(tmp_path: Path) -> None:
    places = [study(tmp_path, "a", A[:3]), study(tmp_path, "b", B[:3])]
    text = to_latex(compare_studies(places))
    assert "too few seeds for a test" in text
    assert r" & -- & -- \\" in text


def test_a_report_is_written_where_it_is_wanted(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "elsewhere.html"
    assert run(["report", two[0], "-o", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert "<html" in page.read_text()
    assert not Path(two[0], "report.html").exists()
    assert run(["report", two[0]]) == 0
    assert Path(two[0], "report.html").exists()
    assert run(["report", two[0], "-o", str(tmp_path / "absent" / "page.html")]) == 2


def test_the_page_stands_alone(two: list[str]) -> None:
    page = render_comparison(compare_studies(two))
    for part in ("92.67 ± 2.16", "differ at the 5 % level", "0.031", "97.50", "b_x"):
        assert part in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_the_command(
    two: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    page = tmp_path / "comparison.html"
    assert run(["compare", *two, "-o", str(page)]) == 0
    printed = capsys.readouterr()
    assert "92.67 ± 2.16" in printed.out
    assert "differ at the 5 % level" in printed.out
    assert str(page) in printed.out
    assert page.read_text().startswith("<!doctype html>")
    assert run(["compare", *two, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["comparisons"][0]["adjusted_p"] == pytest.approx(2 / 64)
    assert values["settings"][1]["score"]["mean"] == pytest.approx(5.31 / 6)
    assert run(["compare", *two, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("setting,n,planned,mean")
    assert run(["compare", *two, "--latex"]) == 0
    assert capsys.readouterr().out.startswith("% needs \\usepackage{booktabs}\n\\begin{table}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--csv", "--latex"], "exclude each other"),
        (["-o", "page.pdf"], "ends with .html"),
        (["-o", "absent/page.html"], "cannot be written"),
    ],
)
def test_bad_words(
    words: list[str],
    part: str,
    two: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", *two, *words]) == 2
    assert part in capsys.readouterr().err
