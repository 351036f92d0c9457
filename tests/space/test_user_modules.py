from __future__ import annotations

import sys
from pathlib import Path

import pytest

from darts_ray.errors import ConfigError
from darts_ray.space.user_modules import import_extensions


def test_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_operations_for_a_test.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_extensions(["my_operations_for_a_test"], "imports")
    assert sys.modules["my_operations_for_a_test"].LOADED


def test_a_missing_module_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"space\.imports.*'no_such_module_anywhere'"):
        import_extensions(["no_such_module_anywhere"], "space.imports")


def test_a_module_that_fails_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_operations.py").write_text("def broken(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"space\.imports: .*'broken_operations' fails"):
        import_extensions(["broken_operations"], "space.imports")
