"""What decides how a model is registered, and whether it becomes the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCORE_TAGS = ("darts.score", "darts.score_name", "darts.data")


@dataclass(frozen=True)
class Registration:
    """How a file is registered.

    Attributes:
        name: of the registered model.
        alias: what a champion is called.
        rule: when the alias moves here: if the held-out score is better than the present
            champion's, always, or never.
        score: held-out score; None: nothing was held out.
        score_name: which score it is; only scores of one name are compared.
        more_is_better: its direction.
        data: fingerprint of the data; only scores on the same data are compared.
        description: of the version, for readers.
        loader: module that serves the model in MLflow (`pyfunc`); empty: MLflow's own for ONNX.
        code: the files of that module: path to text.
        example_image: a picture file in base64, as an example of an input of `loader`.
    """

    name: str
    alias: str = "champion"
    rule: Literal["better", "always", "never"] = "always"
    score: float | None = None
    score_name: str = ""
    more_is_better: bool = True
    data: str = ""
    description: str = ""
    loader: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    example_image: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """What a version remembers of its score."""
        if self.score is None:
            return {}
        return dict(zip(SCORE_TAGS, (repr(self.score), self.score_name, self.data), strict=True))

    def objection(self, champion: Any, run_id: str) -> str:
        """Return why a model does not become the champion; empty: it does.

        Args:
            champion: the present one's version in the registry; None: there is none.
            run_id: of the study; a study may replace its own model by an equally good one.
        """
        if self.rule == "never":
            return "export.champion is never"
        if self.rule == "always" or champion is None:
            return ""
        theirs = dict(champion.tags)
        remedy = "; set export.champion=always to move it"
        if self.score is None:
            return f"nothing was held out to compare it with version {champion.version}{remedy}"
        if [theirs.get(tag) for tag in SCORE_TAGS[1:]] != [self.score_name, self.data]:
            return f"version {champion.version} was scored on something else{remedy}"
        present = float(theirs["darts.score"])
        gain = self.score - present if self.more_is_better else present - self.score
        if gain > 0 or (gain == 0 and theirs.get("darts.run_id") == run_id):
            return ""
        return (
            f"its {self.score_name} of {self.score:.4g} is not better than the {present:.4g} of"
            f" version {champion.version}{remedy}"
        )
