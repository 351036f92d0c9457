from __future__ import annotations

from pathlib import Path

import pytest

from darts_ray.bench import bench
from darts_ray.config import StudyConfig
from darts_ray.errors import ResourceError


def test_a_killed_process_is_reported_with_its_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_module.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    space = {
        "name": "own",
        "kind": "conv",
        "primitives": ["skip_connect"],
        "nodes": 1,
        "edges_per_node": 1,
        "imports": ["crashing_module"],
    }
    study = StudyConfig.model_validate(
        {
            "name": "bench",
            "data": {"source": "digits", "cache_dir": str(tmp_path / "cache")},
            "search": {"space": space, "network": {"channels": 2, "layers": 1}, "device": "cpu"},
        }
    )
    with pytest.raises(ResourceError, match=r"killed by SIGSEGV$"):
        bench(study, variants=False)
