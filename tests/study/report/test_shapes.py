"""The template is rendered, with strict undefined, against every shape a record can have."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from darts_ray.study import Study, load_study
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import Record
from darts_ray.study.files.study import write_study_file
from darts_ray.study.report import page
from tests.study.fabricated import image_config
from tests.study.report.test_page import read
from tests.study.shapes import RECORDS


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    config = image_config(tmp_path_factory.mktemp("shapes"))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {"data_fingerprint": "x"})
    with pytest.MonkeyPatch.context() as patch:
        # pictures are drawn by other tests; here they would take most of the time
        patch.setattr(page, "draw_cell", lambda genotype, cell: b"<svg/>")
        yield load_study(folder.uri)


@settings(max_examples=20, deadline=None)
@given(RECORDS)
def test_page_of_every_record(study: Study, record: Record) -> None:
    without = study.config.model_copy(update={"select": None, "retrain": None, "export": None})
    for config in (study.config, without):
        read(page.render_report(replace(study, record=record, config=config)))


def test_no_line_of_the_template_is_long() -> None:
    folder = Path(page.__file__).parent / "templates"
    long = [
        f"{path.name}:{number}"
        for path in folder.rglob("*.jinja")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []
