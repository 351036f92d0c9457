"""A finished study without any training: random alphas that drift, made-up scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.config import StudyConfig
from darts_ray.space import Genotype, derive, resolve_space, softmax_alphas
from darts_ray.study.files import entries
from darts_ray.study.files.exported import Exported
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, StageState, cell_name
from darts_ray.study.files.study import (
    ALPHAS_FILE,
    RESULTS_FILE,
    resolve_paths,
    write_record,
    write_study_file,
)
from darts_ray.study.files.tables import alphas_table, replace_stage, results_table
from darts_ray.tune import TrialOutcome


def image_config(output: Path, **changes: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "name": "made-up",
        "output": str(output),
        "seeds": [0, 1, 2],
        "search": {"epochs": 8, "optim": {"order": {"grid": ["first", "unrolled"]}}},
        "select": {"epochs": 3, "seeds": [0, 1]},
        "retrain": {"seeds": [0, 1], "epochs": 4},
        "export": {},
        **changes,
    }
    return StudyConfig.model_validate({k: v for k, v in values.items() if v is not None})


def text_config(output: Path) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "made-up-text",
            "output": str(output),
            "data": {"source": "english"},
            "seeds": [0, 1],
            "search": {"epochs": 5, "optim": {"weight_lr": 20, "alpha_lr": 3e-3}},
            "retrain": {"seeds": [0, 1], "epochs": 4},
        }
    )


def search_outcome(
    trial: str, setting: str, seed: int, epochs: int, *, space: str = "darts", drift: float = 0.2
) -> TrialOutcome:
    """A search whose alphas wander in a random direction."""
    resolved = resolve_space(space)
    rng = np.random.default_rng([seed, *setting.encode()])
    direction = {cell: rng.normal(size=shape) for cell, shape in resolved.alpha_shapes.items()}
    reports = []
    for epoch in range(1, epochs + 1):
        alphas = {cell: drift * epoch * value for cell, value in direction.items()}
        genotype = derive(alphas, resolved)
        score = 1 - math.exp(-epoch / 3) - 0.05 * rng.random()
        is_text = resolved.skeleton == "language_model"
        reports.append(
            {
                "epoch": epoch,
                "train_loss": 2.3 * math.exp(-epoch / 4) + 0.1 * rng.random(),
                **(
                    {"validation_perplexity": 300 - 200 * score}
                    if is_text
                    else {"validation_accuracy": score}
                ),
                "num_skip": genotype.num_skip,
                "genotype": genotype.to_json(),
                "alphas": {cell: softmax_alphas(v).tolist() for cell, v in alphas.items()},
                "seconds": 1.5,
            }
        )
    config = {"data": {"source": "english"}} if space == "recurrent" else {}
    return TrialOutcome(trial, setting, seed, config, "done", None, reports, None, 12.0)


def training_outcome(
    stage: str,
    trial: str,
    setting: str,
    seed: int,
    epochs: int,
    score: float,
    *,
    test: bool,
    config: Mapping[str, Any] | None = None,
) -> TrialOutcome:
    reports: list[dict[str, Any]] = [
        {"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 0.9 * epoch / epochs}
        for epoch in range(1, epochs + 1)
    ]
    if stage == "select":
        for report in reports:
            report["validation_accuracy"] = score * report["epoch"] / epochs
    reports[-1] |= {"num_parameters": 3_349_342, "multiply_adds": 5.3e8}
    if test:
        reports[-1] |= {"test_accuracy": score, "test_top5": 0.99, "test_loss": 0.123}
    given = dict(config or {})
    return TrialOutcome(trial, setting, seed, given, "done", None, reports, None, 12.0)


def failed_outcome(trial: str, setting: str, seed: int) -> TrialOutcome:
    return TrialOutcome(trial, setting, seed, {}, "failed", "RuntimeError: <boom>", [], None, 0.0)


def write_study(
    config: StudyConfig,
    searches: Sequence[TrialOutcome],
    selects: Sequence[TrialOutcome] = (),
    retrains: Sequence[TrialOutcome] = (),
    *,
    exported: bool = False,
) -> StudyFolder:
    """Write the files that a study of these trials leaves."""
    config = resolve_paths(config)
    folder, measure = StudyFolder.of(config), Measure.of(config.data)
    found = entries.search_entries(searches, measure, lambda genotype: 3_349_342)
    found = entries.with_select_scores(found, selects, measure)
    retrained = entries.retrain_entries(retrains)
    export = None
    if exported:
        best, reason = entries.choose_exported(retrained, measure)
        export = Exported(
            file="best.onnx",
            trial=best.trial,
            seed=best.seed,
            reason=reason,
            opset=20,
            tolerance=1e-4,
            max_difference=2.4e-6,
            batch_sizes=(1, 2, 7),
            checked_on="training images",
            size_bytes=13_400_000,
            sidecar="best.json",
            num_checked=32,
            registered="made-up, version 1",
        )
    record = Record(
        search=found,
        winner=entries.choose_winner(found, measure, selected=bool(selects)),
        retrain=retrained,
        failed=entries.failures("search", searches),
        stages={
            "search": StageState(812.0, len(searches), True),
            "select": StageState(71.0, len(selects), True),
            "retrain": StageState(19.0, len(retrains), bool(retrains)),
        },
        export=export,
        settings=tuple(dict.fromkeys(outcome.setting for outcome in searches)),
    )
    versions = {"darts_ray": "0.1.0", "torch": "2.15"}
    provenance = {"created": "2026-01-01", "versions": versions, "data_fingerprint": "abc123"}
    write_study_file(folder, config, provenance)
    write_record(folder, record)
    results = results_table("search", searches)
    results = replace_stage(results, results_table("select", selects), "select")
    results = replace_stage(results, results_table("retrain", retrains), "retrain")
    folder.write_table(RESULTS_FILE, results)
    folder.write_table(ALPHAS_FILE, alphas_table(searches))
    return folder


def finished_image_study(output: Path) -> StudyFolder:
    """Two settings, three seeds of which one fails, two select seeds, two retrain seeds."""
    config = image_config(output)
    searches, selects = [], []
    for index, (order, seed) in enumerate(
        (order, seed) for order in ("first", "unrolled") for seed in (0, 1, 2)
    ):
        trial, setting = f"search-{index:03d}", f"order={order}"
        if (order, seed) == ("first", 1):
            searches.append(failed_outcome(trial, setting, seed))
        else:
            searches.append(search_outcome(trial, setting, seed, 8))
    derived = [outcome for outcome in searches if outcome.status == "done"]
    for index, outcome in enumerate(derived):
        name = cell_name(Genotype.from_json(outcome.history[-1]["genotype"]))
        selects += [
            training_outcome(
                "select", f"{name}_seed-{seed}", outcome.setting, seed, 3,
                0.9 + 0.01 * index + 0.002 * seed, test=False,
            )
            for seed in (0, 1)
        ]  # fmt: skip
    retrains = [
        training_outcome(
            "retrain",
            f"retrain_seed-{seed}",
            "order=unrolled",
            seed,
            4,
            0.97 + seed / 100,
            test=True,
        )
        for seed in (0, 1)
    ]
    return write_study(config, searches, selects, retrains, exported=True)


def finished_text_study(output: Path) -> StudyFolder:
    config = text_config(output)
    searches = [search_outcome(f"search-{s:03d}", "-", s, 5, space="recurrent") for s in (0, 1)]
    return write_study(config, searches)
