"""The doctor reports what is missing, so it may need none of it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

NEEDED = {"typer", "rich", "pydantic", "PyYAML", "packaging"}
"""Without these there is no command line."""

WITHOUT = """
import importlib.metadata, json, sys

missing = set(json.loads(sys.argv[1]))
modules = {name.replace("-", "_") for name in missing} | {"sklearn"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in modules:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
installed = importlib.metadata.version

def version(name):
    if name in missing:
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

importlib.metadata.version = version
import importlib.util
spec_of = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in modules else spec_of(name, *a)
from darts_ray.cli import run

sys.exit(run(["doctor", "--json"]))
"""


def test_every_missing_package_is_reported(tmp_path: Path) -> None:
    texts = [Requirement(text) for text in requires("darts_ray") or []]
    ours = [r.name for r in texts if r.marker is None or r.marker.evaluate({"extra": ""})]
    missing = sorted(set(ours) - NEEDED)
    assert {"torch", "ray", "matplotlib"} <= set(missing)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(missing)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    findings = {item["subject"]: item for item in json.loads(done.stdout)}
    for name in missing:
        assert findings[name]["value"] == "missing", name
        assert findings[name]["remedy"].startswith(f"pip install '{name}")
        assert findings[name]["blocking"]
    assert not findings["packaging"]["blocking"]


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from darts_ray.cli import run; run(['doctor', '--json']);"
        "print([n for n in ('torch', 'ray', 'mlflow', 'onnx', 'matplotlib')"
        " if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=True,
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"
