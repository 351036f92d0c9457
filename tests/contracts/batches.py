"""What every source of a search's batches fulfils."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from darts_ray.search.batches import SearchBatches


def equal(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


class BatchesContract:
    """Subclasses have the fixture `make`: returns the source, the same each time."""

    def test_an_epoch_is_as_long_as_it_says(self, make: Callable[[], SearchBatches]) -> None:
        batches = make()
        steps = list(batches.epoch())
        assert steps
        # exact where lengths are not drawn
        assert len(batches) / 2 <= len(steps) <= 2 * len(batches)

    def test_steps_have_targets_for_every_sample(self, make: Callable[[], SearchBatches]) -> None:
        for step in make().epoch():
            assert step.samples > 0
            assert step.lr_scale > 0
            for inputs, targets in (step.train, step.valid):
                # the batch is the last axis of the targets
                assert targets.shape[-1] == inputs.shape[0 if inputs.ndim == 4 else -1]

    def test_alphas_learn_on_other_samples_than_weights(
        self, make: Callable[[], SearchBatches]
    ) -> None:
        for step in make().epoch():
            assert step.train[0].shape != step.valid[0].shape or not torch.equal(
                step.train[0], step.valid[0]
            )

    def test_the_state_is_the_position(self, make: Callable[[], SearchBatches]) -> None:
        first, second = make(), make()
        list(first.epoch())
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        for ours, theirs in zip(first.epoch(), second.epoch(), strict=True):
            assert equal((*ours.train, *ours.valid), (*theirs.train, *theirs.valid))

    def test_evaluation_is_always_the_same_and_moves_nothing(
        self, make: Callable[[], SearchBatches]
    ) -> None:
        looked, fresh = make(), make()
        for ours, theirs in zip(
            looked.evaluation_batches(), looked.evaluation_batches(), strict=True
        ):
            assert equal(ours, theirs)
        for one, other in zip(looked.epoch(), fresh.epoch(), strict=True):
            assert equal(one.train, other.train)

    def test_a_pass_over_the_alphas_data(self, make: Callable[[], SearchBatches]) -> None:
        passed = list(make().alpha_pass())
        assert passed
        assert all(len(batch) == 2 for batch in passed)
