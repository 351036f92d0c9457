import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from darts_ray.errors import StudyError
from darts_ray.space import zoo
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import write_study_file
from darts_ray.study.report.page import MAX_HISTORIES, duration, short_cells, write_report
from tests.study.fabricated import (
    finished_image_study,
    finished_text_study,
    image_config,
    search_outcome,
    write_study,
)


class Reader(HTMLParser):
    """Collects the text, the pictures and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.pictures: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")
        elif tag not in ("meta", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.text = re.sub(r"\s+", " ", reader.text)
    assert reader.open == []
    return reader


def csv_files(page: str) -> dict[str, list[dict[str, str]]]:
    """The rows of every CSV file in a page, by the file's name."""
    found = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    return {name: list(csv.DictReader(unquote(text).splitlines())) for name, text in found}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = finished_image_study(tmp_path_factory.mktemp("report"))
    return Path(write_report(folder.uri)).read_text(encoding="utf-8")


def test_page_tells_the_study(page: str) -> None:
    text = read(page).text
    # 0.97 and 0.98: mean 97.5, standard deviation 1 / sqrt(2)
    assert "97.50 ± 0.71 %" in text
    # six searches, five cells with two select seeds each, two retrainings; one search failed
    assert "17 of 18 trials finished" in text
    assert "RuntimeError: <boom>" in text
    assert "2 of 3" in text
    assert "too few seeds" in text
    assert "order=unrolled, seed 2) has the best select accuracy" in text
    assert "2.40e-06" in text
    assert "exported" in text
    assert "abc123" in text
    assert "the first, as nothing is held out" in text


def test_every_seed_is_shown(page: str) -> None:
    text = read(page).text
    table = text[text.index("Every search") : text.index("Alphas over the epochs")]
    assert table.count("normal") >= 5
    assert table.count("3.35M") == 5 + 2  # five searches, two means
    assert re.search(r"max\(\d\)|skip\(\d\)|sep3\(\d\)", table)


def test_page_needs_nothing_else(page: str) -> None:
    reader = read(page)
    assert reader.pictures
    assert all(src.startswith("data:image/") for src in reader.pictures)
    # two cells, two curves, how often primitives were chosen, and two heatmaps for each of five
    # searches
    assert len(reader.pictures) == 2 + 2 + 1 + 2 * 5
    assert "<script" not in page
    assert not re.search(r'(src|href)="http|@import|url\(', page)
    assert "<boom>" not in page


def test_text_study_without_retraining(tmp_path: Path) -> None:
    page = Path(write_report(finished_text_study(tmp_path).uri)).read_text(encoding="utf-8")
    text = read(page).text
    assert "search perplexity" in text
    assert "Recurrent cell" in text
    assert "skip connections" not in text
    assert "Retraining" not in text


def test_study_that_has_just_begun(tmp_path: Path) -> None:
    config = image_config(tmp_path)
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {"data_fingerprint": "x", "created": "now", "versions": {}})
    assert "made-up" in read(Path(write_report(folder.uri)).read_text()).text
    with pytest.raises(StudyError):
        write_report(tmp_path / "nothing")


def test_heatmaps_are_limited_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darts_ray.study.report.page.MAX_HISTORIES", 1)
    assert MAX_HISTORIES > 1
    config = image_config(tmp_path, select=None, retrain=None, export=None)
    searches = [search_outcome(f"search-{i:03d}", "order=first", i, 1) for i in range(3)]
    page = Path(write_report(write_study(config, searches).uri)).read_text(encoding="utf-8")
    assert "1 of 3 searches are shown" in read(page).text


def test_short_cells() -> None:
    cells = short_cells(zoo["DARTS_V2"])
    assert (
        cells["normal"] == "sep3(0) sep3(1) | sep3(0) sep3(1) | sep3(1) skip(0) | skip(0) dil3(2)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (18420, "5 h 07 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_contents_lead_to_sections_and_figures_have_their_numbers(page: str) -> None:
    targets = re.findall(r'<a href="#(\w+)">', page)
    assert {"winner", "settings", "robustness", "searches", "retraining", "onnx"} <= set(targets)
    assert all(page.count(f'id="{target}"') == 1 for target in targets)
    files = csv_files(page)
    alphas = [name for name in files if name.startswith("alphas-search-")]
    assert len(alphas) == 5
    assert [name for name in files if name not in alphas] == [
        "edge-frequencies.csv",
        "search-curves.csv",
        "retrain-curves.csv",
    ]
    rows = files["search-curves.csv"]
    assert set(rows[0]) == {
        "setting", "seed", "epoch", "validation_accuracy", "train_loss", "num_skip"
    }  # fmt: skip
    assert len(rows) == 5 * 8  # five searches that finished, eight epochs each
    # 14 edges with eight primitives in each of two cells, eight epochs whose weights sum to one
    weights = files[alphas[0]]
    assert len(weights) == 2 * 14 * 8
    edge = [row for row in weights if (row["cell"], row["edge"]) == ("normal", "3")]
    assert sum(float(row["epoch 8"]) for row in edge) == pytest.approx(1, abs=1e-3)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
