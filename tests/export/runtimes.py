"""Runtimes that read exported files, and the environments they live in.

Each program gets a file and a folder, reads `feed1` and `feed5` there (what goes in, at batch 1
and 5), writes `out1` and `out5` beside them, and prints its runtime's version as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INSTALL_S = 300
RUN_S = 200
Arrays = Mapping[str, np.ndarray[Any, Any]]

_ONNXRUNTIME = """
import onnxruntime
version = onnxruntime.__version__
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
run = lambda feed: session.run(None, feed)[0]
"""
_OPENCV = """
import cv2
version = cv2.__version__
network = cv2.dnn.readNetFromONNX(file)
def run(feed):
    for name, array in feed.items():
        network.setInput(array, name)
    return network.forward("log_probs") if "tokens" in feed else network.forward()
"""
_OPENVINO = """
import openvino
version = openvino.__version__
hint = {"INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.compile_model(openvino.Core().read_model(file), "CPU", hint)
run = lambda feed: compiled(feed)[0]
"""
_ONNX2TORCH = """
import importlib.metadata, torch, onnx2torch
version = importlib.metadata.version("onnx2torch")
network = onnx2torch.convert(file).eval()
def run(feed):
    with torch.no_grad():
        return network(*map(torch.from_numpy, feed.values())).numpy()
"""
_TRACT = """
import tract
version = tract.version()
model = tract.onnx().load(file)
names = [model.input_name(number) for number in range(model.input_count())]
network = model.into_model().into_runnable()
run = lambda feed: network.run([feed[name] for name in names])[0].to_numpy()
"""
# It has no batches, so images go one by one; its converter writes beside the file.
_NCNN = """
import shutil, subprocess, ncnn, pnnx
version = ncnn.__version__
shutil.copy(file, "model.onnx")
kinds = {"float32": "f32", "int64": "i64"}
shapes = [str(list(a.shape)).replace(" ", "") + kinds[str(a.dtype)] for a in feeds[1].values()]
words = [pnnx.EXEC_PATH, "model.onnx", "inputshape=" + ",".join(shapes), "fp16=0"]
subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
network = ncnn.Net()
network.opt.use_fp16_packed = network.opt.use_fp16_storage = False
network.opt.use_fp16_arithmetic = False
assert network.load_param("model.ncnn.param") == 0, "ncnn cannot read what pnnx has written"
assert network.load_model("model.ncnn.bin") == 0
def run(feed):
    outputs = []
    for image in feed["images"]:
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(image).clone())
        outputs.append(np.array(extractor.extract("out0")[1]))
    return np.stack(outputs)
"""
_PYTHON = """
import json, sys
import numpy as np
file, folder = sys.argv[1:]
feeds = {size: dict(np.load(f"{folder}/feed{size}.npz")) for size in (1, 5)}
%s
for size, feed in feeds.items():
    np.save(f"{folder}/out{size}.npy", run(feed))
print(json.dumps(version))
"""
_NODE = """
const fs = require("fs");
const ort = require("onnxruntime-node");
const [file, folder] = process.argv.slice(1);
const kinds = { float32: Float32Array, int64: BigInt64Array };
async function main() {
  const session = await ort.InferenceSession.create(file);
  for (const size of [1, 5]) {
    const feed = {};
    const inputs = JSON.parse(fs.readFileSync(`${folder}/feed${size}.json`));
    for (const [name, [type, shape]] of Object.entries(inputs)) {
      const bytes = new Uint8Array(fs.readFileSync(`${folder}/feed${size}.${name}`));
      feed[name] = new ort.Tensor(type, new kinds[type](bytes.buffer), shape);
    }
    const output = (await session.run(feed))[session.outputNames[0]];
    fs.writeFileSync(`${folder}/out${size}.bin`, new Uint8Array(output.data.buffer));
    fs.writeFileSync(`${folder}/out${size}.json`, JSON.stringify(output.dims));
  }
  console.log(JSON.stringify(require("onnxruntime-node/package.json").version));
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


class NotInstallableError(Exception):
    """A runtime cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Runtime:
    """Something that reads ONNX files.

    Attributes:
        packages: what pip installs (npm, for JavaScript); none: the runtime of this environment.
        code: defines `version` and `run(feed) -> outputs`; empty: JavaScript.
        opset: of the files it reads.
        sees_ours: whether it needs packages of this environment too.
        reads_scan: whether it knows the loop of a recurrent network.
        reads_text: whether it knows the rest of one, in a file without the loop.
    """

    packages: tuple[str, ...]
    code: str
    opset: int = 20
    sees_ours: bool = False
    reads_scan: bool = False
    reads_text: bool = True


RUNTIMES = {
    "onnxruntime": Runtime((), _ONNXRUNTIME, reads_scan=True),
    "onnxruntime-1.17": Runtime(("onnxruntime==1.17.3", "numpy<2"), _ONNXRUNTIME, reads_scan=True),
    "onnxruntime-node": Runtime(("onnxruntime-node",), "", reads_scan=True),
    "opencv-4": Runtime(("opencv-python-headless<5",), _OPENCV, reads_text=False),
    "opencv-5": Runtime(("opencv-python-headless>=5",), _OPENCV),
    "openvino": Runtime(("openvino",), _OPENVINO, reads_scan=True),
    "onnx2torch": Runtime(
        ("onnx2torch",), _ONNX2TORCH, opset=17, sees_ours=True, reads_text=False
    ),
    "tract": Runtime(("tract", "numpy"), _TRACT, reads_scan=True),
    "ncnn": Runtime(("ncnn", "pnnx"), _NCNN, sees_ours=True, reads_text=False),  # pnnx wants torch
}


def install(runtime: Runtime, folder: Path) -> None:
    """Make the runtime's environment in a folder, unless it is there.

    Raises:
        NotInstallableError: the packages, or Node, cannot be had here.
    """
    done = folder / "installed"
    if not runtime.packages or done.exists():
        return
    if runtime.code:
        venv.create(folder, with_pip=True, clear=True, symlinks=True)
        python = _python(folder)
        if runtime.sees_ours:
            # Not system_site_packages: this Python may be a virtual environment itself.
            query = "import sysconfig; print(sysconfig.get_path('purelib'))"
            theirs = subprocess.check_output([python, "-c", query], text=True).strip()
            Path(theirs, "ours.pth").write_text(sysconfig.get_path("purelib"))
        words = [str(python), "-m", "pip", "install", "-q", *runtime.packages]
    else:
        missing = [name for name in ("node", "npm") if shutil.which(name) is None]
        if missing:
            raise NotInstallableError(f"{' and '.join(missing)} not found")
        folder.mkdir(parents=True, exist_ok=True)
        # Its scripts would fetch the GPU's libraries; those for the CPU are in the package.
        words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        words += ["--prefix", str(folder), *runtime.packages]
    try:
        subprocess.run(words, check=True, timeout=INSTALL_S, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise NotInstallableError(f"{' '.join(words)}: takes over {INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        raise NotInstallableError(f"{' '.join(words)}: {error.stderr.strip()[-500:]}") from error
    done.touch()


def write_feeds(feeds: Mapping[int, Arrays], folder: Path) -> None:
    """Write what goes in, by batch size: for numpy, and for those without it."""
    for size, feed in feeds.items():
        np.savez(folder / f"feed{size}.npz", **feed)  # type: ignore[arg-type]
        described = {name: (str(a.dtype), a.shape) for name, a in feed.items()}
        (folder / f"feed{size}.json").write_text(json.dumps(described))
        for name, array in feed.items():
            (folder / f"feed{size}.{name}").write_bytes(np.ascontiguousarray(array).tobytes())


def run(
    runtime: Runtime, environment: Path, file: Path, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a file on the feeds in a folder, in the runtime's environment."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if runtime.code:
        python = _python(environment) if runtime.packages else Path(sys.executable)
        words = [str(python), "-c", _PYTHON % runtime.code, str(file), str(folder)]
    else:
        clean["NODE_PATH"] = str(environment / "node_modules")
        words = ["node", "-e", _NODE, str(file), str(folder)]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=folder, env=clean, timeout=RUN_S
    )


def read_output(folder: Path, size: int) -> np.ndarray[Any, Any]:
    """Return what came out at a batch size."""
    raw = folder / f"out{size}.bin"
    if not raw.exists():
        output: np.ndarray[Any, Any] = np.load(folder / f"out{size}.npy")
        return output
    shape = json.loads((folder / f"out{size}.json").read_text())
    return np.fromfile(raw, np.float32).reshape(shape)


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"
