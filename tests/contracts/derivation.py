"""What every derivation fulfils."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import torch

from darts_ray.nn import one_hot
from darts_ray.search import SearchRun


class DerivationContract:
    """Subclasses have the fixture `make`: returns a new, small search that uses the derivation."""

    def test_a_genotype_can_be_asked_for_at_any_time(self, make: Callable[[], SearchRun]) -> None:
        run = make()
        one_hot(run.genotype(), run.supernet.space)  # raises where it is of another space
        while not run.finished:
            run.run_epoch()
            one_hot(run.genotype(), run.supernet.space)

    def test_asking_changes_nothing(self, make: Callable[[], SearchRun]) -> None:
        asked, silent = make(), make()
        for run in (asked, silent):
            run.run_epoch()
        torch.manual_seed(0)
        before = torch.get_rng_state()
        assert asked.genotype() == asked.genotype()
        assert torch.equal(before, torch.get_rng_state())
        while not silent.finished:
            rows = [run.run_epoch() for run in (asked, silent)]
            assert rows[0]["genotype"] == rows[1]["genotype"]
            assert rows[0]["alphas"] == rows[1]["alphas"]

    def test_metrics_are_plain_values(self, make: Callable[[], SearchRun]) -> None:
        run = make()
        while not run.finished:
            json.dumps(run.run_epoch())

    def test_what_was_decided_is_in_the_state(self, make: Callable[[], SearchRun]) -> None:
        run = make()
        while not run.finished:
            run.run_epoch()
        file = io.BytesIO()
        torch.save(run.state_dict(), file)
        file.seek(0)
        again = make()
        again.load_state_dict(torch.load(file, weights_only=True))
        assert again.finished
        assert again.genotype() == run.genotype()
