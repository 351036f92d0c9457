"""What every method has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from darts_ray.config.base import Model

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class MethodConfig(Model):
    """What every method has; the base of a user's own.

    Attributes:
        conv_only: why the method is for conv cells only; empty: it is not.
        draws: mixing weights are drawn or change in every step, which a CUDA graph does not see.
        picks_operations: operations to run are chosen on the host, step by step.
        trains_alphas: whether alphas, and with them the order of their gradient, matter.
    """

    conv_only: ClassVar[str] = ""
    draws: ClassVar[bool] = False
    picks_operations: ClassVar[bool] = False
    trains_alphas: ClassVar[bool] = True

    name: str
    imports: tuple[str, ...] = Field(
        (), description="Python modules to import first; they register own methods."
    )

    def check(self, search: SearchConfig) -> None:
        """Refuse a combination that means nothing.

        Raises:
            ValueError: it does not; the message says what to change.
        """
        if self.conv_only and search.network.kind != "conv":
            raise ValueError(
                f"method: {self.name!r} is for conv searches, because {self.conv_only}; choose"
                " another method"
            )
        if self.draws and search.graphs:
            raise ValueError(
                f"graphs: {self.name!r} changes its mixing weights from step to step, which a CUDA"
                " graph would not see; set graphs: false"
            )
        if self.picks_operations and search.compile:
            raise ValueError(
                f"compile: {self.name!r} chooses the operations that run in each step, and every"
                " choice would be compiled anew; set compile: false"
            )

    def constants(self, search: SearchConfig) -> Mapping[str, Any]:
        """Return the paper's values in this search's space, on its data, where they differ.

        They are defaults: `completed` takes those that are not given. Each is listed in
        `reading.axes.FOLLOWERS`, because another setting of a study may have another space.
        """
        return {}

    def completed(self, search: SearchConfig) -> Self:
        """Return the method with the paper's values in this search where none are given."""
        values = {
            name: value
            for name, value in self.constants(search).items()
            if name not in self.model_fields_set and getattr(self, name) != value
        }
        complete = self.model_copy() if values else self
        for name, value in values.items():
            # past the model's own bookkeeping, as nobody has given it
            object.__setattr__(complete, name, value)
        return complete

    def ineffective(self) -> list[str]:
        """Return one line per value that has no effect beside the others."""
        return []

    def total_epochs(self, search: SearchConfig) -> int:
        """Return the epochs of all phases; `search.epochs` are those of the search itself."""
        return search.epochs


def check_channels(search: SearchConfig, k: int) -> None:
    """Check that K divides the channels of a search.

    Raises:
        ValueError: it does not, or there are none.
    """
    channels = getattr(search.network, "channels", None)
    if channels is None:
        raise ValueError(
            "method.channels: partial channels are for conv searches; set channels: 1"
        )
    if channels % k:
        raise ValueError(
            f"method.channels: {k} does not divide network.channels ({channels}); change one of"
            " the two"
        )
