"""Each message of docs/troubleshooting.md, provoked; it names the place and the remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darts_ray.cli import run
from darts_ray.config import load_config
from darts_ray.errors import ResourceError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import write_study_file
from darts_ray.tune.cluster.surroundings import folder_for_ray
from tests.docs.blocks import PAGES

HEADINGS = re.findall(r"^### `(.+)`$", PAGES["docs/troubleshooting.md"].read_text(), re.MULTILINE)
CONFIG = "quickstart.yaml"


@dataclass(frozen=True)
class Mistake:
    """A command line that must fail.

    Attributes:
        says: the heading, a part of the message.
        words: the command.
        remedy: another part of the message.
        environment: variables set; None removes one.
    """

    says: str
    words: tuple[str, ...]
    remedy: str
    environment: dict[str, str | None] = field(default_factory=dict)


def planned(*overrides: str) -> tuple[str, ...]:
    return "plan", CONFIG, *(word for value in overrides for word in ("--set", value))


def studied(*overrides: str) -> tuple[str, ...]:
    return "study", *planned("data.max_train=200", *overrides)[1:]


def folder(name: str, **values: object) -> str:
    return f"data={{source: image_folder, path: {name}, workers: 0, cache_dir: cache}}"


QUICK = [
    Mistake(
        "lists configurations to begin with",
        ("study", "nowhere.yaml"),
        "nowhere.yaml: cannot be read",
    ),
    Mistake("indent with blanks", ("plan", "tab.yaml"), "tab.yaml, line 2"),
    Mistake("unknown key. Did you mean", planned("search.epoch=3"), "'epochs'"),
    Mistake(
        "is a key of another kind of network",
        planned("data={source: text, path: empty}"),
        "embedding_dim",
    ),
    Mistake("Input should be a valid integer", planned("search.epochs=ten"), "search.epochs"),
    Mistake("write a list such as [0, 1, 2], a range such as 0..49", planned("seeds=3"), "seeds"),
    Mistake("no method 'pcdarts'", planned("search.method=pcdarts"), "mean 'pc_darts'"),
    Mistake(
        "does not divide network.channels",
        planned("search.method={name: pc_darts, channels: 3}"),
        "change one of the two",
    ),
    Mistake(
        "optuna needs at least one axis",
        planned("tune.searcher=optuna", "search={epochs: 1}"),
        "loguniform",
    ),
    Mistake(
        "data.path must name a folder with train/CLASS/*.jpg and val/CLASS/*.jpg",
        planned(folder("flat")),
        "it holds the folders a, b",
    ),
    Mistake(
        "there must be one folder per class",
        planned(folder("loose")),
        "belong into such folders",
    ),
    Mistake("set data.image_size to resize them all", planned(folder("mixed")), "9x7 pixels"),
    Mistake(
        "Set data.label_column",
        planned("data={source: parquet, path: columns, cache_dir: cache}"),
        "the columns are: picture, species",
    ),
    Mistake(
        "Set data.download to true",
        planned("data={source: cifar10, path: empty}"),
        "or data.path to the folder",
    ),
    Mistake(
        "lower batch_size or use more data",
        planned("search.batch_size=5000"),
        "batch_size: 5000",
    ),
    Mistake(
        "the data cache cannot be written",
        planned("data.cache_dir=quickstart.yaml/cache"),
        "Set data.cache_dir",
    ),
    Mistake("HOME: is not set", ("init",), "HOME=/tmp/me", {"HOME": None}),
    Mistake("holds no study (there is no study.yaml)", ("report", "empty"), "<output>/<name>"),
    Mistake("is no published cell", ("retrain", CONFIG, "--genotype", "V3"), "DARTS_V2"),
    Mistake("does not exist; export a network first", ("predict", "empty", "flat"), "export"),
    Mistake("Name best.pt of a study", ("evaluate", "nowhere.pt", "--data", CONFIG), "nowhere.pt"),
]
WITH_RAY = [
    Mistake(
        "and no node has both",
        studied("resources.gpus_per_trial=1"),
        "set resources.gpus_per_trial=0",
    ),
    Mistake(
        "cuda needs a GPU, and resources.gpus_per_trial is 0",
        studied("search.device=cuda"),
        "set it to 1",
    ),
    Mistake(
        "the checkpoints need about",
        studied("tune.keep_checkpoints=100000000"),
        "choose another output",
    ),
    Mistake("Choose another output", studied("output=quickstart.yaml/runs"), "output"),
    Mistake("already holds a study", studied("output=done"), "darts-ray resume"),
    Mistake(
        "is too long a path; Ray makes sockets below it",
        studied(),
        "at most 39 bytes",
        {"RAY_TMPDIR": f"/tmp/{'x' * 80}"},
    ),
    Mistake(
        "and Ray needs a folder for its session",
        studied(),
        "Set RAY_TMPDIR to a folder that can",
        {"RAY_TMPDIR": None, "TMPDIR": "/proc/nowhere"},
    ),
    Mistake(
        "a study cannot join the cluster through it",
        studied(),
        "unset RAY_ADDRESS",
        {"RAY_ADDRESS": "http://127.0.0.1:8265"},
    ),
    Mistake("does not answer: ", studied("resources.address=127.0.0.1:9"), "ray start --head"),
    Mistake(
        "tracking.uri: http",
        studied("tracking.uri=http://127.0.0.1:9"),
        "NO_PROXY",
        {"http_proxy": "http://127.0.0.1:9"},
    ),
]
APART = ["tune.searcher: optuna is not installed"]


def named(mistakes: list[Mistake]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mistake", mistakes, ids=[item.says for item in mistakes])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what beginners have."""
    monkeypatch.chdir(tmp_path)
    assert run(["init", "quickstart"]) == 0
    Path("tab.yaml").write_text("name: x\n\tseeds: [0]\n")
    for part in ("flat", "mixed/train", "mixed/val"):
        for name in ("a", "b"):
            Path(part, name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(Path(part, name, "0.png"))
    Image.new("RGB", (7, 9)).save("mixed/train/a/1.png")
    Path("loose/train").mkdir(parents=True)
    Image.new("RGB", (7, 9)).save("loose/train/1.png")
    Path("columns").mkdir()
    for part in ("train", "test"):
        pq.write_table(
            pa.table({"picture": [b"x"], "species": ["a"]}), f"columns/{part}-0.parquet"
        )
    Path("empty").mkdir()
    study = load_config("quickstart.yaml", ["output=done"])
    write_study_file(StudyFolder("done/quickstart"), study, {"data_fingerprint": "x"})
    return tmp_path


def test_every_message_of_the_page_is_provoked() -> None:
    provoked = [mistake.says for mistake in (*QUICK, *WITH_RAY)] + APART
    assert sorted(provoked) == sorted(HEADINGS)
    assert len(HEADINGS) >= 20


@named(QUICK)
def test_the_message(
    mistake: Mistake,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in mistake.environment.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if "HOME" in mistake.environment:  # and no entry in the password file either
        monkeypatch.setattr("pwd.getpwuid", _nobody)
    assert run(list(mistake.words)) == 2
    said = capsys.readouterr().err
    assert mistake.says in said
    assert mistake.remedy in said


def _nobody(number: int) -> None:
    raise KeyError(number)


@pytest.mark.slow
@named(WITH_RAY)
def test_the_message_of_a_study(mistake: Mistake, place: Path) -> None:
    done = _study(mistake.words, mistake.environment)
    assert done.returncode == 2, done.stderr
    assert mistake.says in done.stderr
    assert mistake.remedy in done.stderr
    assert "Traceback" not in done.stderr


def _study(
    words: tuple[str, ...], environment: dict[str, str | None]
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "darts_ray.cli", *words],
        capture_output=True,
        text=True,
        env={name: value for name, value in variables.items() if value is not None},
        timeout=300,
    )


@pytest.mark.slow
def test_a_missing_extra_is_named(place: Path) -> None:
    words = studied("tune.searcher=optuna", "search.optim.xi={loguniform: [0.001, 0.1]}")
    program = (
        "import sys; sys.modules['optuna'] = None;"
        f"from darts_ray.cli import run; sys.exit(run({list(words)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 2, done.stderr
    assert APART[0] in done.stderr
    assert "pip install 'darts_ray[optuna]'" in done.stderr


def test_a_long_folder_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'x' * 80}")
    with pytest.raises(ResourceError, match="is too long a path; Ray makes sockets below it"):
        folder_for_ray()
