"""The pages build as a site, links and references to the code included."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY

NEEDED = ("mkdocs", "material", "mkdocstrings")


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="needs pip install -e '.[docs]'"
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    config, site = str(REPOSITORY / ".mkdocs.yml"), str(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "SearchRun" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
