"""`model_card.md`: what the exported network is, for whoever is going to use it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from darts_ray.export.consumer.contract import ModelMetadata
from darts_ray.export.consumer.snippet import snippet
from darts_ray.space import Genotype
from darts_ray.study.files.exported import CARD_FILE, EXAMPLE_FILE, Exported
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import RetrainEntry
from darts_ray.study.files.study import Study, load_study
from darts_ray.study.report.cell_drawing import draw_cell
from darts_ray.study.report.deployment import Tested, onnx_accuracy, speed, tested
from darts_ray.study.report.statistics.description import summarise
from darts_ray.study.report.summary import count, spread


def write_model_card(folder: StudyFolder) -> None:
    """Write the card of a study's exported network, if it has one with a contract."""
    study = load_study(folder.uri)
    exported = study.record.export
    if exported is None or not exported.sidecar or not folder.has(exported.sidecar):
        return
    metadata = ModelMetadata.from_sidecar(folder.read_text(exported.sidecar))
    folder.write_text(CARD_FILE, render_model_card(study, metadata))


def render_model_card(study: Study, metadata: ModelMetadata) -> str:
    """Return the card as Markdown."""
    exported = study.record.export
    assert exported is not None
    entry = next(e for e in study.record.retrain if e.trial == exported.trial)
    result = tested(study)
    parts = [
        f"# {study.config.name}\n",
        _summary(study, metadata),
        "## Scores\n",
        *_scores(study, entry),
        *([""] if result is None else _classes(result)),
        "## Files and speed\n",
        *_files(study, exported, entry),
        *([] if result is None else _example(study, result)),
        "## How to use it\n",
        _contract(metadata),
        f"```python\n{snippet(metadata, exported.file)}```\n",
        "`darts_ray.export.OnnxNetwork` (`OnnxLanguageModel`) does the same and checks what it"
        f" is given; `darts-ray predict {exported.file} FILES` is it on the command line.\n",
        "## How it was found\n",
        _origin(study, exported),
        *_cells(Genotype.from_json(metadata.genotype_json)),
        "## Limits\n",
        *_limits(study, exported, metadata),
    ]
    return "\n".join(parts)


def _summary(study: Study, metadata: ModelMetadata) -> str:
    data, section = study.config.data, study.config.export
    what = "Language model of" if metadata.text else "Image classifier with"
    unit = "words" if metadata.text else "classes"
    license_ = section.license if section is not None and section.license else "not stated"
    return (
        f"{what} {len(metadata.class_names)} {unit}, trained on `{data.source}`; its cells were"
        f" found by differentiable architecture search.\n\n"
        f"- Data: `{data.source}`, fingerprint"
        f" `{study.provenance.get('data_fingerprint', '?')}`\n"
        f"- Licence of the data: {license_}\n"
        f"- Written by darts_ray {metadata.versions.get('darts_ray', '?')}\n"
    )


def _scores(study: Study, entry: RetrainEntry) -> Iterator[str]:
    measure = Measure.of(study.config.data)
    unit = f" {measure.unit}" if measure.unit else ""
    retrained = [e for e in study.record.retrain if e.cell == entry.cell]
    scores = [e.metrics[measure.test] for e in retrained if measure.test in e.metrics]
    if summary := summarise(scores):
        over = f"{len(scores)} seeds" if len(scores) > 1 else "one seed"
        yield (
            f"- Test {measure.name} over {over}: {spread(summary, measure.show)}{unit}"
            " (mean ± standard deviation)"
        )
    if measure.test in entry.metrics:
        own = measure.show(entry.metrics[measure.test])
        yield f"- This network (seed {entry.seed}): {own}{unit}"
    yield "- The test set was read once per seed, after training; nothing was chosen by it."


def _classes(result: Tested) -> Iterator[str]:
    names, report = result.names, result.report
    yield f"- {onnx_accuracy(result)}"
    yield f"- Expected calibration error: {100 * report.calibration_error:.2f} % (15 bins).\n"
    yield "| class | test images | accuracy (%) | most often taken for |"
    yield "|---|---:|---:|---|"
    for index, name in enumerate(names):
        row = report.confusion[index].copy()
        num, row[index] = int(row.sum()), 0
        wrong = f"{names[int(row.argmax())]} ({int(row.max())})" if row.any() else "-"
        share = f"{100 * report.accuracy[index]:.1f}" if num else "-"
        yield f"| {name} | {num} | {share} | {wrong} |"
    yield ""
    if result.picture is not None:
        encoded = base64.b64encode(result.picture).decode("ascii")
        yield f"![Confusion matrix](data:image/png;base64,{encoded})\n"


def _example(study: Study, result: Tested) -> Iterator[str]:
    if study.folder.has(EXAMPLE_FILE):
        yield (
            f"`{EXAMPLE_FILE}`, to try them on, is the first picture of the test set, of class"
            f" {result.example}.\n"
        )


def _files(study: Study, exported: Exported, entry: RetrainEntry) -> Iterator[str]:
    if "num_parameters" in entry.metrics:
        adds = entry.metrics.get("multiply_adds")
        each = "word" if study.config.data.is_text else "image"
        work = f", {count(adds)} multiply-adds per {each}" if adds else ""
        yield f"{count(entry.metrics['num_parameters'])} parameters{work}.\n"
    yield (
        f"- `{exported.file}`: {exported.size_bytes / 2**20:.2f} MiB, opset"
        f" {exported.opset}; differs from torch by at most {exported.max_difference:.1e} on"
        f" {exported.num_checked} {exported.checked_on}; contract in"
        f" `{exported.sidecar}`"
    )
    int8, program = exported.int8, exported.program
    if int8 and int8.error:
        yield f"- no int8 file: {int8.error}"
    elif int8 and int8.accuracy is not None and int8.float_accuracy is not None:
        lost = 100 * (int8.float_accuracy - int8.accuracy)
        yield (
            f"- `{int8.file}` (for {int8.target}): {int8.size_bytes / 2**20:.2f} MiB;"
            f" costs {lost:.2f} points of accuracy ({100 * int8.float_accuracy:.2f} to"
            f" {100 * int8.accuracy:.2f} %) on {int8.judged_on}"
        )
    if unrolled := exported.unrolled:
        yield (
            f"- `{unrolled.file}`: without the loop, for texts of {unrolled.length} words at a"
            f" time; differs from torch by at most {unrolled.max_difference:.1e}"
        )
    if program and program.file:
        yield f"- `{program.file}`: a torch.export program"
    yield "- `best.pt`: weights and configuration for darts_ray\n"
    if (measured := speed(study)) is None:
        return
    yield f"Measured in onnxruntime {measured['onnxruntime']} on {measured['cpu']}:\n"
    yield "| file | batch | threads | median (ms) | 95 % (ms) | per second |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, rows in measured["files"].items():
        for row in rows:
            yield (
                f"| `{name}` | {row['batch_size']} | {row['num_threads']} |"
                f" {row['median_ms']:.3g} | {row['p95_ms']:.3g} |"
                f" {row['images_per_second']:,.0f} |"
            )
    yield ""


def _contract(metadata: ModelMetadata) -> str:
    if metadata.text is not None or metadata.pictures is None:
        return (
            "Input `tokens`: int64 (length, batch), numbers of words in the file's vocabulary;"
            " `hidden`: zeros at the start, then the `next_hidden` of the text before. Output:"
            " log probabilities of the next word.\n"
        )
    rule = metadata.pictures
    how = {
        "none": "a picture must have that size",
        "stretch": "both sides are resized",
        "centre_crop": f"the shorter side is resized to {rule.shorter_side} pixels, then the"
        " centre is cut out",
    }[rule.resize]
    size = "?" if rule.size is None else f"{rule.size[0]}x{rule.size[1]} pixels (height x width)"
    return (
        f"Input `images`: {metadata.dtype}, {metadata.layout}, {metadata.color}, values"
        f" {metadata.value_range}, {size}; {how} ({rule.interpolation}). Normalisation is inside"
        f" the file. Output: {metadata.output}, in the order of the class names. All this is in"
        " the file's metadata.\n"
    )


def _origin(study: Study, exported: Exported) -> str:
    config, winner = study.config, study.record.winner
    searches = len(study.record.search)
    lines = [f"{searches} searches with the seeds {list(config.seeds)}." if searches else ""]
    lines.append("" if winner is None else winner.reason)
    if config.retrain is not None:
        lines.append(f"Trained from scratch for {config.retrain.epochs} epochs.")
    lines.append(f"Exported: {exported.reason}.")
    return " ".join(line for line in lines if line) + " `study.yaml` has every setting.\n"


def _cells(genotype: Genotype) -> Iterator[str]:
    for name in _cell_names(genotype):
        picture = draw_cell(genotype, name)
        content = picture.encode() if isinstance(picture, str) else picture
        encoded = base64.b64encode(content).decode("ascii")
        yield f"![{name} cell](data:image/svg+xml;base64,{encoded})\n"


def _cell_names(genotype: Genotype) -> list[str]:
    cells: Any = genotype.cells
    return list(cells() if callable(cells) else cells)


def _limits(study: Study, exported: Exported, metadata: ModelMetadata) -> Iterator[str]:
    if metadata.text is not None:
        yield "- Words outside of the vocabulary are unknown; the loop over time is an ONNX Scan,"
        yield "  which OpenCV, ncnn, MNN and TVM do not read (see `export.unrolled_length`).\n"
        return
    yield "- It always answers with one of its classes, also for pictures of something else."
    yield f"- It has seen {study.config.data.source} only; expect less on other pictures."
    if exported.checked_on.startswith("training"):
        yield "- Nothing was held out from its training: int8 and agreement were judged on images"
        yield "  that it has learned from."
    yield ""
