"""The numerical core runs on a machine that has no Ray, MLflow, ONNX or typer."""

import subprocess
import sys

import pytest

CORE = ("space", "config", "nn", "search", "train", "data", "interop", "bench")
FRAMEWORKS = ("ray", "mlflow", "onnx", "onnxruntime", "onnxscript", "typer")


@pytest.mark.parametrize("room", CORE)
def test_core_imports_no_framework(room: str) -> None:
    program = (
        f"import sys; import darts_ray.{room};"
        f" print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_trial_workers_do_not_pay_for_mlflow() -> None:
    program = (
        "import sys; import darts_ray.tune; print('mlflow' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
