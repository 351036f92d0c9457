"""A study's own files: study.yaml with its provenance, the record, the tables."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from darts_ray.config import StudyConfig, build_config, parse_yaml, to_yaml
from darts_ray.errors import ConfigError, StudyError
from darts_ray.location import absolute_location
from darts_ray.space import Genotype
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import Record, record_from_json, record_to_json
from darts_ray.study.files.tables import ALPHAS

if TYPE_CHECKING:  # reading a status needs no pandas
    import pandas as pd

STUDY_FILE = "study.yaml"
RECORD_FILE = "genotypes.json"
RESULTS_FILE = "results.parquet"
ALPHAS_FILE = "alphas.parquet"
TABLE_FILE = "benchmark.parquet"
"""The table of the user's own in which true accuracies were looked up."""
REPORT_FILE = "report.html"

TABLES = (RESULTS_FILE, ALPHAS_FILE, TABLE_FILE)

_PACKAGES = ("darts_ray", "torch", "torchvision", "ray", "mlflow", "onnx", "onnxruntime", "numpy")
_HEADER = """\
A darts_ray study: its resolved configuration, with every default written out. Continue it with
  darts-ray resume {folder}
or run it anew elsewhere with
  darts-ray study study.yaml --set output=ELSEWHERE
"""


@dataclass(frozen=True)
class Study:
    """A study's files, read.

    Attributes:
        folder: where they are.
        config: the resolved configuration, with `output` and `name` as the folder is now.
        provenance: `created`, `versions`, `data_fingerprint`.
        record: content of genotypes.json; empty before the first stage has begun.
        results_table: results.parquet; no rows before the first stage has begun.
        alphas_table: alphas.parquet, likewise.

    Example:
        >>> study = load_study("runs/quickstart")
        >>> rows = study.results().query("stage == 'retrain'")
        >>> rows.groupby("trial").test_accuracy.last()
    """

    folder: StudyFolder
    config: StudyConfig
    provenance: Mapping[str, Any]
    record: Record
    results_table: pa.Table
    alphas_table: pa.Table

    @property
    def winner(self) -> Genotype | None:
        """The selected cell; None before one has been selected."""
        return None if self.record.winner is None else self.record.winner.genotype

    @property
    def genotypes(self) -> dict[str, Genotype]:
        """What every finished search derived, by trial."""
        return {entry.trial: entry.genotype for entry in self.record.search}

    def results(self) -> pd.DataFrame:
        """Return a row per stage, trial and epoch: `setting`, `seed` and all that was measured.

        A study that has not begun has no rows and no columns.
        """
        rows: pd.DataFrame = self.results_table.to_pandas()
        return rows

    def alphas(self) -> pd.DataFrame:
        """Return a row per search, epoch, edge and primitive: the `weight` that mixes it."""
        rows: pd.DataFrame = self.alphas_table.to_pandas()
        return rows


def load_study(folder: str | Path | StudyFolder) -> Study:
    """Read the study in a folder (path or URI).

    Raises:
        StudyError: the folder holds no study, or one of its files is not readable.
    """
    place = folder if isinstance(folder, StudyFolder) else StudyFolder(folder)
    config, provenance = read_study_file(place)
    record = read_record(place)
    results = place.read_table(RESULTS_FILE) if place.has(RESULTS_FILE) else pa.table({})
    return Study(place, config, provenance, record, results, read_alphas(place))


def read_alphas(folder: StudyFolder) -> pa.Table:
    """Return alphas.parquet, with no rows if no search has reported."""
    if not folder.has(ALPHAS_FILE):
        return ALPHAS.empty_table()
    return folder.read_table(ALPHAS_FILE, ("trial", "setting", "cell", "primitive"))


def provenance_now(data_fingerprint: str) -> dict[str, Any]:
    """Return what study.yaml says about its origin: time, versions, fingerprint of the data."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = {"python": platform.python_version()}
    versions |= {package: version(package) for package in _PACKAGES}
    return {"created": now, "versions": versions, "data_fingerprint": data_fingerprint}


def write_study_file(
    folder: StudyFolder, config: StudyConfig, provenance: Mapping[str, Any]
) -> None:
    """Write study.yaml: the provenance as comments, so that the rest loads as a configuration."""
    facts = yaml.safe_dump({"provenance": dict(provenance)}, sort_keys=False)
    header = _HEADER.format(folder=folder) + facts
    commented = "".join(f"# {line}\n" for line in header.splitlines())
    folder.write_text(STUDY_FILE, f"{commented}\n{to_yaml(config.resolved())}")


def read_study_file(folder: StudyFolder) -> tuple[StudyConfig, dict[str, Any]]:
    """Read what `write_study_file` wrote; `output` and `name` follow the folder if it has moved.

    Raises:
        StudyError: the folder holds no study, or is the top of a bucket.
        ConfigError: its study.yaml does not load.
    """
    if not folder.has(STUDY_FILE):
        raise StudyError(
            f"{folder}: holds no study (there is no {STUDY_FILE}). Name the folder that"
            " `darts-ray study` printed at its end, <output>/<name>."
        )
    text = folder.read_text(STUDY_FILE)
    values = parse_yaml(text, folder.child(STUDY_FILE))
    if not isinstance(values, dict):
        raise ConfigError(f"{folder.child(STUDY_FILE)}: must hold keys and values.")
    config = build_config(values, folder.child(STUDY_FILE))
    output, name = _parent_and_name(folder)
    config = config.model_copy(update={"output": output, "name": name})
    comments = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    start = next((i for i, line in enumerate(comments) if line.startswith("provenance:")), None)
    if start is None:
        return config, {}
    facts = parse_yaml("\n".join(comments[start:]), folder.child(STUDY_FILE))
    return config, dict(facts["provenance"])


def _parent_and_name(folder: StudyFolder) -> tuple[str, str]:
    """Split a folder into `output` and `name`; a URI's `?query` stays with the output."""
    if folder.is_local:
        place = Path(folder.uri)
        return str(place.parent), place.name
    scheme, _, rest = folder.uri.partition("://")
    path, mark, query = rest.partition("?")
    parent, slash, name = path.rstrip("/").rpartition("/")
    if not slash or not name:
        raise StudyError(
            f"{folder}: a study cannot be at the top of a bucket. Copy it into a folder there."
        )
    return f"{scheme}://{parent}{mark}{query}", name


def resolve_paths(config: StudyConfig) -> StudyConfig:
    """Make every path absolute: trials and later `resume`s run in other directories."""
    data = config.data
    paths = {"path": data.path, "cache_dir": data.cache_dir}
    absolute = {key: absolute_location(path) for key, path in paths.items() if path is not None}
    table = config.benchmark.table
    if table is not None:
        table = absolute_location(table)
    return config.model_copy(
        update={
            "output": absolute_location(config.output),
            "data": data.model_copy(update=absolute),
            "benchmark": config.benchmark.model_copy(update={"table": table}),
        }
    )


def read_record(folder: StudyFolder) -> Record:
    """Return the content of genotypes.json; empty if no stage has begun.

    Raises:
        StudyError: the file is damaged, or a newer version has written it.
    """
    if not folder.has(RECORD_FILE):
        return Record()
    # why: bytes that are no text are one more way of being damaged
    text = folder.read_bytes(RECORD_FILE).decode("utf-8", errors="replace")
    return record_from_json(text, folder.child(RECORD_FILE))


def write_record(folder: StudyFolder, record: Record) -> None:
    """Write genotypes.json."""
    folder.write_text(RECORD_FILE, record_to_json(record))
