"""A search space of the user's own, from YAML."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from darts_ray.config.base import Model, NonNegativeInt, PositiveInt
from darts_ray.errors import ConfigError
from darts_ray.space import CellSpace, EdgeSpace, SearchSpace, resolve_space
from darts_ray.space.spaces import CELLS
from darts_ray.space.user_modules import import_extensions

_KEEP = {"darts": 2, "nasbench201": None, "language_model": 1}
_OUTPUT = {"darts": "concat", "nasbench201": "last", "language_model": "mean"}
_FIRST_KEYS = {"kind": "skeleton", "edges_per_node": "keep", "multiplier": "num_outputs"}
_FIRST_KINDS = {"conv": "darts", "recurrent": "language_model"}


class EdgeConfig(Model):
    """One edge of a cell and what may stand on it."""

    source: NonNegativeInt = Field(description="A state: the cell's inputs, then its nodes.")
    node: NonNegativeInt = Field(description="The node that it enters; the first is 0.")
    primitives: tuple[str, ...] = Field(description="In the order of the alpha columns.")


class SpaceConfig(Model):
    """A search space of the user's own.

    Either `primitives` for complete cells (every state feeds every later node), or `edges` for
    cells whose edges are listed one by one; or neither, then a module of `imports` registers a
    space of that name.
    """

    name: str
    skeleton: Literal["darts", "nasbench201", "language_model"] = Field(
        "darts", description="What the cells are put into; determines their names and inputs."
    )
    primitives: tuple[str, ...] | None = Field(
        None, description="Names of built-in or registered operations, in alpha-column order."
    )
    edges: dict[str, tuple[EdgeConfig, ...]] | None = Field(
        None, description="By cell (normal, reduce; cell; recurrent) its edges."
    )
    nodes: PositiveInt | None = Field(
        None, description="Of complete cells; default 4, nasbench201 3, language_model 8."
    )
    keep: PositiveInt | None = Field(
        2,
        description="Edges that a derivation keeps per node; null: every edge, each of which may"
        " then be `none`. Default: nasbench201 null, language_model 1.",
    )
    output: Literal["concat", "mean", "last"] = Field(
        "concat",
        description="How nodes make a cell's output. Default: nasbench201 last, language_model"
        " mean.",
    )
    num_outputs: PositiveInt | None = Field(
        None, description="How many nodes, counted from the last, the output takes; null: all."
    )
    imports: tuple[str, ...] = Field(
        (), description="Python modules to import first; they register operations or spaces."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: object) -> object:
        """Read the keys of earlier versions, and fill in what the skeleton determines."""
        if not isinstance(values, dict):
            return values
        fields: dict[Any, Any] = dict(values)
        for first, name in _FIRST_KEYS.items():
            if first in fields and name not in fields:
                fields[name] = fields.pop(first)
        if "kind" in values:
            fields["skeleton"] = _FIRST_KINDS.get(fields["skeleton"], fields["skeleton"])
        skeleton = fields.get("skeleton", "darts")
        if isinstance(skeleton, str) and skeleton in CELLS:
            fields.setdefault("keep", _KEEP[skeleton])
            fields.setdefault("output", _OUTPUT[skeleton])
        return fields

    @model_validator(mode="after")
    def _check(self) -> SpaceConfig:
        if self.primitives is not None and self.edges is not None:
            raise ValueError("primitives and edges: give one of the two; each edge has its own")
        if self.edges is not None and self.nodes is not None:
            raise ValueError("nodes: follows from the edges; leave it out")
        if self.primitives is None and self.edges is None:
            if not self.imports:
                raise ValueError(
                    "primitives: missing; or `edges`, or `imports` with a module that registers a"
                    f" space {self.name!r}"
                )
            own = self.model_fields_set - {"name", "imports"}
            ignored = sorted(key for key in own if getattr(self, key) != _default(self, key))
            if ignored:
                raise ValueError(
                    f"{', '.join(ignored)}: without effect on a space that a module registers"
                )
        return self

    def build(self) -> SearchSpace:
        """Return the space that these values describe.

        Raises:
            ConfigError: a cell is impossible, a module cannot be imported, or none registers the
                space; the message names the edge.
        """
        if self.edges is not None:
            cells = self._listed_cells(self.edges)
        elif self.primitives is not None:
            cells = self._complete_cells(self.primitives)
        else:
            import_extensions(self.imports, "space.imports")
            return resolve_space(self.name)
        return SearchSpace(self.name, cells, self.skeleton)

    def _complete_cells(self, primitives: tuple[str, ...]) -> tuple[CellSpace, ...]:
        default = {"darts": 4, "nasbench201": 3, "language_model": 8}[self.skeleton]
        return tuple(
            CellSpace.complete(
                cell,
                inputs=inputs,
                nodes=self.nodes or default,
                primitives=primitives,
                keep=self.keep,
                output=self.output,
                num_outputs=self.num_outputs,
            )
            for cell, inputs in CELLS[self.skeleton].items()
        )

    def _listed_cells(self, edges: dict[str, tuple[EdgeConfig, ...]]) -> tuple[CellSpace, ...]:
        inputs = CELLS[self.skeleton]
        if set(edges) != set(inputs):
            raise ConfigError(
                f"edges: has the cells {list(edges)}; the skeleton {self.skeleton!r} needs"
                f" {list(inputs)}."
            )
        return tuple(
            CellSpace(
                cell,
                inputs[cell],
                tuple(EdgeSpace(edge.source, edge.node, edge.primitives) for edge in listed),
                self.output,
                self.keep,
                self.num_outputs,
            )
            for cell, listed in edges.items()
        )


def _default(config: SpaceConfig, key: str) -> object:
    if key == "keep":
        return _KEEP[config.skeleton]
    if key == "output":
        return _OUTPUT[config.skeleton]
    return SpaceConfig.model_fields[key].default
