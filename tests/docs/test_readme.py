"""What the README promises to be: short, with a small picture."""

from __future__ import annotations

from tests.docs.blocks import PAGES, REPOSITORY

README = PAGES["README.md"].read_text(encoding="utf-8")
FIRST_SCREEN = 40


def test_the_first_screen_says_what_it_is_and_what_it_takes() -> None:
    first = "\n".join(README.splitlines()[:FIRST_SCREEN])
    for part in (
        "![",
        "pip install .",
        "darts-ray study",
        "Test accuracy",
        "6.7 GB",
        "On GPUs nothing",
    ):
        assert part in first


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 120


def test_the_picture_is_small() -> None:
    assert (REPOSITORY / "docs" / "images" / "report.png").stat().st_size < 300_000


def test_the_command_that_ci_runs_is_the_readmes() -> None:
    assert "pip install -e '.[test]' && pytest" in README
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install -e '.[test]' && pytest" in ci
    assert "bash .ci/run" in (REPOSITORY / ".github" / "workflows" / "ci.yaml").read_text()
