"""Options that are valid and do nothing in the given combination."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from darts_ray.config.retrain import RetrainConfig
from darts_ray.config.search import SearchConfig
from darts_ray.config.study import StudyConfig


def ineffective_options(config: SearchConfig | RetrainConfig | StudyConfig) -> list[str]:
    """Return one line per option that was changed from its default and has no effect.

    `plan` and the start of a study show them as warnings. They are no errors, because an axis may
    make an option effective in one setting and not in another.

    Args:
        config: a search, a training, or a study, of which its `tune` and `export` sections are
            looked at (its searches and trainings are configurations of their own).
    """
    if isinstance(config, SearchConfig):
        return list(_in_search(config))
    if isinstance(config, RetrainConfig):
        return list(_in_training(config))
    return list(_in_study(config))


def _in_study(config: StudyConfig) -> Iterator[str]:
    tune, export = config.tune, config.export
    for scheduler, name in (("asha", "grace_period"), ("pbt", "perturbation_interval")):
        if tune.scheduler != scheduler and _changed(tune, name):
            yield f"tune.{name}: has no effect with tune.scheduler: {tune.scheduler_name}"
    if config.resources.workers_per_trial == 1:
        for section in ("select", "retrain"):
            if (recipe := getattr(config, section)) is not None and recipe.sync_batch_norm:
                yield (
                    f"{section}.sync_batch_norm: has no effect with resources.workers_per_trial: 1"
                )
    if export is not None and not export.quantize and _changed(export, "max_accuracy_drop"):
        yield "export.max_accuracy_drop: has no effect without export.quantize: true"


def _in_search(config: SearchConfig) -> Iterator[str]:
    optim, method = config.optim, config.method
    if not method.trains_alphas:
        for name in _changed(optim, "order", "xi", "hvp"):
            yield f"optim.{name}: has no effect, {method.name!r} trains no alphas"
        if config.hessian_every:
            yield f"hessian_every: has no effect, {method.name!r} trains no alphas"
    elif optim.order == "first":
        for name in _changed(optim, "xi", "hvp", "hvp_epsilon", "clip_virtual_step"):
            yield f"optim.{name}: has no effect with optim.order: first"
    elif optim.hvp == "exact" and _changed(optim, "hvp_epsilon"):
        yield "optim.hvp_epsilon: has no effect with optim.hvp: exact"
    if config.data.is_text:
        if _changed(config, "train_portion"):
            yield "train_portion: has no effect on text, whose validation file trains the alphas"
        if _changed(config, "augment"):
            yield "augment: has no effect on text"
    if _changed(config.drop_path, "cutout") and not config.drop_path.probability:
        yield "drop_path.cutout: has no effect without drop_path.probability"
    stop = config.early_stop
    if stop is not None and stop.action == "stop":
        for name in _changed(stop, "decay_factor", "decay_max"):
            yield f"early_stop.{name}: has no effect with early_stop.action: stop"
    yield from method.ineffective()


def _in_training(config: RetrainConfig) -> Iterator[str]:
    if config.optim.schedule != "cosine" and _changed(config.optim, "lr_min"):
        yield f"optim.lr_min: has no effect with optim.schedule: {config.optim.schedule}"
    if config.data.is_text and _changed(config, "augment"):
        yield "augment: has no effect on text"
    if config.data.is_text and _changed(config, "train_portion"):
        yield "train_portion: has no effect on text, which has a validation file"


def _changed(section: BaseModel, *names: str) -> list[str]:
    """Return which of these fields were given another value than their default."""
    fields = type(section).model_fields
    return [
        name
        for name in names
        if name in section.model_fields_set
        and getattr(section, name) != fields[name].get_default(call_default_factory=True)
    ]
