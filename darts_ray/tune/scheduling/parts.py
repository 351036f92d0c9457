"""What the search stage has beside its trials: scheduler, choices, and what is kept of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.tune.schedulers import (
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    TrialScheduler,
)
from ray.tune.search import Searcher

from darts_ray.config import StudyConfig
from darts_ray.tune.scheduling.given import study_scheduler, study_searcher
from darts_ray.tune.scheduling.kept import KeptScheduler
from darts_ray.tune.scheduling.search_space import objective
from darts_ray.tune.scheduling.state_file import KeptState, StateFile
from darts_ray.tune.trials import TrialSpec
from darts_ray.tune.trials.choosing import SharedChoices
from darts_ray.tune.trials.folder import TrialFolder
from darts_ray.tune.trials.listing import TrialList


@dataclass(frozen=True)
class SearchParts:
    """Scheduler and choices of a search stage; all None for other stages.

    Attributes:
        scheduler: decides which trials go on.
        choices: values for the axes; None without a searcher.
        state: what an interrupted run has kept.
        file: where both are kept; None where the trials' folders say it all.
        keeps: whether the scheduler is kept.
        keeps_choices: whether the choices are kept.
    """

    scheduler: TrialScheduler | None
    choices: SharedChoices | None
    state: KeptState | None
    file: StateFile | None = None
    keeps: bool = False
    keeps_choices: bool = False

    @classmethod
    def of(
        cls,
        study: StudyConfig,
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
        file: StateFile,
        scheduler: TrialScheduler | None,
        search_alg: Searcher | None,
    ) -> SearchParts:
        """Make what a study names, or take up what an interrupted run of it has kept.

        `asha` fills its rungs from the trials' histories and `optuna` is asked again, so neither
        needs to be kept. Population based training begins anew with the trials' checkpoints: it
        compares them as they are now.

        Args:
            study: names scheduler and searcher.
            specs: the stage's trials.
            folders: what the trials' folders say, by name; empty for a new stage.
            file: where what is known may be kept.
            scheduler: the object that the study was given, if it was given one.
            search_alg: likewise.

        Raises:
            ConfigError: see `given.check_scheduling`.
            CheckpointError: what was kept cannot be read.
        """
        histories = {name: folder.history for name, folder in folders.items()}
        epochs = max(int(spec.config.get("epochs", 1)) for spec in specs)
        made = study_scheduler(study, epochs, histories, scheduler)
        searcher = study_searcher(study, search_alg)
        begins_anew = isinstance(made, PopulationBasedTraining | PopulationBasedTrainingReplay)
        keeps = not isinstance(study.tune.scheduler, str) and not begins_anew
        keeps_choices = not isinstance(study.tune.searcher, str)
        if not keeps and not keeps_choices:
            return cls(made, _choices(study, searcher, specs, folders), None)
        state = file.read() if folders else None
        if state is not None and not keeps:
            state = KeptState(choices=state.choices)
        choices = None if state is None or not keeps_choices else file.choices(state)
        if choices is None:
            choices = _choices(study, searcher, specs, folders)
        else:
            choices.take_up(specs, folders)
        return cls(made, choices, state, file, keeps, keeps_choices)

    @property
    def exploits(self) -> bool:
        """Whether trials may take over each other's checkpoints."""
        return isinstance(self.scheduler, PopulationBasedTraining)

    def scheduler_for(self, queue: TrialList) -> TrialScheduler | None:
        """Return the scheduler to run these trials with."""
        if self.scheduler is None or self.file is None:
            return self.scheduler
        kept = self.choices if self.keeps_choices else None
        return KeptScheduler(self.scheduler, self.file, queue, self.state, kept, keeps=self.keeps)


def _choices(
    study: StudyConfig,
    searcher: Searcher | None,
    specs: Sequence[TrialSpec],
    folders: Mapping[str, TrialFolder],
) -> SharedChoices | None:
    if searcher is None:
        return None
    return SharedChoices(
        searcher,
        list(study.search_axes()),
        specs,
        folders,
        metric=objective(study)[0],
        replays=isinstance(study.tune.searcher, str),
    )
