"""What of Ray is used although it is private: a new Ray may have renamed it."""

from __future__ import annotations

import ast
import importlib
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
PRIVATE = {
    "ray._private.utils.read_ray_address",
    "ray._private.worker",
    "ray._raylet.AuthenticationTokenLoader",
    "ray._raylet.Config",
    "ray.train._internal.session._TrainingResult",
}


def imported() -> set[str]:
    """Return what the package imports of Ray."""
    names = set()
    for file in (REPOSITORY / "darts_ray").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
                names |= {f"{node.module}.{name.name}" for name in node.names}
            elif isinstance(node, ast.Import):
                names |= {name.name for name in node.names if name.name.split(".")[0] == "ray"}
    return names


def test_the_private_names_are_these_and_they_exist() -> None:
    private = {n for n in imported() if any(part.startswith("_") for part in n.split("."))}
    assert private == PRIVATE
    for name in PRIVATE:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_versions_that_have_them_are_bounded() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    requirements = {r.name: r for r in map(Requirement, project["dependencies"])}
    major, minor, *_ = version("ray").split(".")
    assert version("ray") in requirements["ray"].specifier
    assert f"{major}.{int(minor) + 1}" not in requirements["ray"].specifier
    assert str(int(version("mlflow").split(".")[0]) + 1) not in requirements["mlflow"].specifier
