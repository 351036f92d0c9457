"""Random search with weight sharing (Li and Talwalkar, UAI 2019).

Training: each step draws one cell, p one-hot, and updates its weights. Afterwards, in max(1,
floor(steps / 10,000)) rounds: draw 1,000 cells, score each on 10 validation batches, and the best
10 on all validation data; the best cell of all rounds is the result. Cells are drawn as by
`random`. In NAS-Bench-201's space the values are those of NATS-Bench: in one round, the best of
100 cells by one batch. Deviations: the batches are the same for all cells, and as everywhere in
this package the supernet normalises with the statistics of its batch.

Every space. A fraction of the time and memory of first-order DARTS, then 1,000 times 10 forward
passes per round.
"""

from __future__ import annotations

from darts_ray.config.methods import RandomWSConfig
from darts_ray.nn.mixing import Mixing, one_hot
from darts_ray.search.deriving.best_of_samples import BestOfSamples
from darts_ray.search.deriving.edges import sample_cell
from darts_ray.search.parts import Alphas, Method, Phase, Probe, Progress, Role, Softmax
from darts_ray.space import SearchSpace


class OnePath(Softmax):
    """A cell drawn for each pass, whatever the alphas are."""

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return the one-hot weights of a drawn cell."""
        return one_hot(sample_cell(space), space)


def random_ws(config: RandomWSConfig) -> Method:
    """Return the method."""
    return Method(
        config.name,
        relaxation=OnePath(),
        derivation=lambda: BestOfSamples(config),
        phases=lambda epochs, space: (Phase("sampling", epochs, alpha_step=False),),
    )
