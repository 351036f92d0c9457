"""What every task of a retraining fulfils."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable

import pytest
import torch

from darts_ray.train.tasks.task import Task


class TaskContract:
    """Subclasses have the fixture `make`: returns the task, the same each time."""

    def test_what_is_scheduled_and_measured_are_plain_numbers(
        self, make: Callable[[], Task]
    ) -> None:
        task = make()
        json.dumps(task.start_epoch(0, 2), allow_nan=False)
        for batch in task.batches():
            for part in task.losses(batch):
                part.loss.backward()  # type: ignore[no-untyped-call]
        json.dumps(task.training_metrics(), allow_nan=False)
        json.dumps(task.validate(1), allow_nan=False)

    def test_parts_of_a_batch_make_up_the_batch(self, make: Callable[[], Task]) -> None:
        task = make()
        task.start_epoch(0, 2)
        count = 0
        for batch in task.batches():
            count += 1
            assert task.size(batch) > 0
            assert task.rate_factor(batch) > 0
            shares = []
            for part in task.losses(batch):
                assert part.loss.shape == ()
                assert part.loss.requires_grad
                assert math.isfinite(part.loss.item())
                shares.append(part.share)
            assert sum(shares) == pytest.approx(1)
        # exact where lengths are not drawn
        assert len(task) / 2 <= count <= 2 * len(task)

    def test_the_state_is_the_position(self, make: Callable[[], Task]) -> None:
        first, second = make(), make()
        first.start_epoch(0, 3)
        for batch in first.batches():
            list(first.losses(batch))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        for task in (first, second):
            task.start_epoch(1, 3)
        for ours, theirs in zip(first.batches(), second.batches(), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one, other)
