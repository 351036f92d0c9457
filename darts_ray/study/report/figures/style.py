"""How figures look: colours, dashes and marks that tell settings apart, fonts, names of states."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from matplotlib.figure import Figure

from darts_ray.space import Genotype

# Okabe and Ito's palette: distinct to colour-blind eyes and in print.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "axes.titlesize": 9.5,
    "axes.titlecolor": "#1f2933",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e7eb",
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.frameon": False,
    "svg.hashsalt": "darts_ray",
}

# A colour comes back with another dash and mark, so two settings never differ by a shade alone.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Look:
    """How the lines of one setting are drawn; `mark` is None where colours are enough."""

    colour: str
    dash: Any
    mark: str | None

    def line(self, **others: Any) -> dict[str, Any]:
        """Return keywords for a line's mean."""
        return {"color": self.colour, "ls": self.dash, "marker": self.mark, "ms": 4, **others}


def looks(number: int) -> list[Look]:
    """Return a look per setting; any two differ in colour, or in dash and mark."""
    several = number > len(PALETTE)
    return [
        Look(
            PALETTE[index % len(PALETTE)],
            DASHES[index // len(PALETTE) % len(DASHES)],
            MARKS[index % len(MARKS)] if several else None,
        )
        for index in range(number)
    ]


def state_name(genotype: Genotype, state: int) -> str:
    """Return the name of an input or a node; plain text, as mathtext takes seconds per page."""
    inputs = {
        "darts": ("c\u2096\u208b\u2082", "c\u2096\u208b\u2081"),  # c with k-2 and k-1 below
        "nasbench201": ("c\u2096\u208b\u2081",),
        "language_model": ("0",),
    }[genotype.skeleton]
    if state < len(inputs):
        return inputs[state]
    return str(state if genotype.skeleton == "language_model" else state - len(inputs))


def render(figure: Figure, image_format: Literal["svg", "png"]) -> bytes:
    """Return the picture; the same figure gives the same bytes."""
    buffer = BytesIO()
    metadata = {"Date": None} if image_format == "svg" else {}
    figure.savefig(buffer, format=image_format, dpi=140, metadata=metadata)
    return buffer.getvalue()
