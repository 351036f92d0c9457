"""The command that applies an exported file to pictures or texts; without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from darts_ray.cli.next_step import announce, command
from darts_ray.cli.options import AsJson
from darts_ray.cli.printing import stderr
from darts_ray.errors import PredictionError
from darts_ray.export.consumer.images import OnnxNetwork
from darts_ray.export.consumer.language import OnnxLanguageModel
from darts_ray.export.consumer.predicting import predict_pictures, predict_texts
from darts_ray.export.consumer.session import is_language_model

TOP = 5


def predict(
    model: Annotated[Path, typer.Argument(help="An exported file, or the folder of its study.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Pictures, folders of them, Parquet files; for a language model text files.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes, or next words, to give.")] = TOP,
    column: Annotated[
        str | None, typer.Option(help="Of the pictures in Parquet; default: img or image.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Apply an exported file to pictures or texts.

    Example:  darts-ray predict runs/quickstart photos/ --top 3
    """
    file = model / "best.onnx" if model.is_dir() else model
    results = _results(file, inputs, top, column)
    if as_json:
        typer.echo(json.dumps(results, indent=1))
        return
    for result in results:
        typer.echo(_line(result))
    words = ["predict", str(model), *map(str, inputs)]
    words += ["--top", str(top)] if top != TOP else []
    words += ["--column", column] if column is not None else []
    announce(command([*words, "--json"]), aside=True)


def _results(
    file: Path, inputs: Sequence[Path], top: int, column: str | None
) -> list[dict[str, Any]]:
    if is_language_model(file):
        if column is not None:
            raise PredictionError("--column: is for pictures in Parquet; the file reads texts.")
        return predict_texts(OnnxLanguageModel(file), inputs, top=top)
    # Only a terminal shows it; results go to stdout, progress does not.
    with stderr.status("0 pictures") as status:
        return predict_pictures(
            OnnxNetwork(file),
            inputs,
            top=top,
            column=column,
            on_progress=lambda done: status.update(f"{done} pictures"),
        )


def _line(result: dict[str, Any]) -> str:
    if "image" in result:
        best = ", ".join(
            f"{p['label']} {100 * p['probability']:.1f} %" for p in result["predictions"]
        )
        return f"{result['image']}: {best}"
    best = ", ".join(f"{p['word']} {100 * p['probability']:.1f} %" for p in result["next_words"])
    unknown = f", {result['num_unknown']} unknown" if result["num_unknown"] else ""
    return (
        f"{result['text']}: perplexity {result['perplexity']:.2f} over {result['num_tokens']}"
        f" tokens{unknown}; next: {best}"
    )
