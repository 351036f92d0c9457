"""Applies queued events to MLflow; applying one twice leaves the same runs as applying it once.

Layout on the server: one run per study, a child run per trial (tag `mlflow.parentRunId`). Runs
are found again by the tags `darts.study_id` and `darts.trial_id`, so that a driver that was
started again goes on with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from darts_ray.tracking.registration import Registration
from darts_ray.tracking.registry import register
from darts_ray.tracking.runs import CHANGED, Owner, Run, Runs
from darts_ray.tracking.server import open_client, sqlite_folder
from darts_ray.tracking.spool import Event, Spool

# Limits of one log_batch request (mlflow.utils.validation).
_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100
_TAG_LENGTH = 5000
_DIGEST_LENGTH = 36  # of a dataset

# Without this tag MLflow 3's page opens an experiment in the view for generative AI.
_KIND, _TRAINING = "mlflow.experimentKind", "custom_model_development"


class RunStore:
    """The study's runs on one tracking server or in one SQLite file.

    Args:
        uri: the tracking URI.
        experiment: created when missing.
        study: the study's name.
        spool: knows the study's id and the attachments of events.
        load_onnx: reads an ONNX file into a proto.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        study: str,
        spool: Spool,
        load_onnx: Callable[[Path], Any] | None,
    ) -> None:
        self._uri = uri
        self._experiment = experiment
        self._study = study
        self._spool = spool
        self._load_onnx = load_onnx
        self._client: Any = None
        self._experiment_id = ""
        self._runs: Runs | None = None
        self._handlers: dict[str, Callable[[Runs, Event], None]] = {
            "start_study": self._start_study,
            "start_stage": self._start_stage,
            "start_trial": self._start_trial,
            "log_params": self._log_params,
            "log_epochs": self._log_epochs,
            "log_metrics": self._log_metrics,
            "log_dataset": self._log_dataset,
            "end": self._end,
            "log_artifact": self._log_artifact,
            "register_onnx": self._register_onnx,
        }
        self.versions: dict[str, tuple[str, str]] = {}
        self.study_run_id: str | None = None

    def apply(self, event: Event) -> None:
        """Do what one event says.

        Raises:
            Exception: whatever mlflow raises; what was known of the runs is then forgotten,
                since a request that failed may have been carried out.
        """
        try:
            self._handlers[event["op"]](self._connect(), event)
        except Exception:
            self._runs = None
            raise

    def answers(self) -> bool:
        """Whether the server can be reached at all."""
        try:
            self._client.search_experiments(max_results=1)
        except Exception:  # mlflow raises whatever its store or HTTP library raises
            return False
        return True

    def _connect(self) -> Runs:
        """Return the study's runs by trial id (None: the study's own run)."""
        if self._client is None:
            self._client = open_client(self._uri)
        if self._runs is None:
            self._experiment_id = self._open_experiment()
            self._runs = Runs(
                (run.data.tags.get("darts.trial_id"), Run.from_server(run))
                for run in self._search_runs()
            )
            self._note_study_run()
        return self._runs

    def _open_experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                self._client.restore_experiment(experiment.experiment_id)
            if _KIND not in experiment.tags:
                self._client.set_experiment_tag(experiment.experiment_id, _KIND, _TRAINING)
            return str(experiment.experiment_id)
        folder = sqlite_folder(self._uri)
        # Without a server the default would be ./mlruns, wherever the driver was started.
        location = None if folder is None else (folder / "mlartifacts" / self._experiment).as_uri()
        created = self._client.create_experiment(
            self._experiment, artifact_location=location, tags={_KIND: _TRAINING}
        )
        return str(created)

    def _search_runs(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while token is None or token:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`darts.study_id` = '{self._spool.study_id}'",
                max_results=1000,
                page_token=token,
            )
            runs.extend(page)
            token = page.token or ""
        return runs

    def _note_study_run(self) -> None:
        if self._runs is not None and None in self._runs:
            self.study_run_id = self._runs[None].run_id

    def _open_run(self, runs: Runs, owner: Owner, event: Event, tags: Mapping[str, str]) -> Run:
        """Return the run of a trial or of the study, made now or set to RUNNING again."""
        run = runs.get(owner)
        if run is None:
            study_id = self._spool.study_id
            created = self._client.create_run(
                self._experiment_id,
                start_time=event["time"],
                run_name=event["name"],
                tags={"darts.study": self._study, "darts.study_id": study_id, **tags},
            )
            run = runs[owner] = Run(created.info.run_id, "RUNNING", started=event["time"])
        elif run.status != "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        return run

    def _start_study(self, runs: Runs, event: Event) -> None:
        first: dict[str, str] = {}
        if None not in runs:
            from mlflow.tracking.context.registry import resolve_tags

            # mlflow.user, mlflow.source.*: of whoever began the study, not of who resumes it
            first = {**event.get("first_tags", {}), **resolve_tags()}
        run = self._open_run(runs, None, event, first)
        self._note_study_run()
        self._write_tags(run, event["tags"])
        self._write_params(run, 0, event)

    def _start_stage(self, runs: Runs, event: Event) -> None:
        self._write_tags(runs[None], {"darts.stage": event["stage"]})

    def _start_trial(self, runs: Runs, event: Event) -> None:
        tags = {**event.get("tags", {}), "darts.stage": event["stage"]}
        tags["darts.trial_id"] = event["trial"]
        if None in runs:
            tags["mlflow.parentRunId"] = runs[None].run_id
        run = self._open_run(runs, event["trial"], event, tags)
        self._write_params(run, max(run.steps.get("epoch", 0), 0), event)

    def _log_params(self, runs: Runs, event: Event) -> None:
        self._write_params(runs[event["trial"]], event["step"], event)

    def _log_epochs(self, runs: Runs, event: Event) -> None:
        """Write the rows of one trial; a step that a metric already has is left alone.

        A trial that went back to a checkpoint reports epochs again, with the same values.
        """
        from mlflow.entities import Metric

        run = runs[event["trial"]]
        steps = dict(run.steps)
        metrics = []
        for row in event["rows"]:
            for name, value in {**row["metrics"], "epoch": row["step"]}.items():
                if row["step"] > steps.get(name, -1):
                    metrics.append(Metric(name, value, row["time"], row["step"]))
                    steps[name] = row["step"]
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            batch = metrics[start : start + _METRICS_PER_BATCH]
            self._client.log_batch(run.run_id, metrics=batch)
        run.steps = steps

    def _log_metrics(self, runs: Runs, event: Event) -> None:
        """Write metrics that have no epoch; their step is the age of the run in seconds."""
        from mlflow.entities import Metric

        run, at = runs[event["trial"]], event["time"]
        step = max(at - run.started, 0) // 1000
        metrics = [Metric(name, value, at, step) for name, value in event["metrics"].items()]
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            batch = metrics[start : start + _METRICS_PER_BATCH]
            self._client.log_batch(run.run_id, metrics=batch)

    def _log_dataset(self, runs: Runs, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = [InputTag("mlflow.data.context", event["context"])]
        dataset = Dataset(
            name=event["name"],
            digest=event["digest"][:_DIGEST_LENGTH],
            source_type=event["source_type"],
            source=json.dumps(event["source"]),
        )
        self._client.log_inputs(runs[event["trial"]].run_id, [DatasetInput(dataset, tags)])

    def _end(self, runs: Runs, event: Event) -> None:
        """Close a trial's or the study's run."""
        run = runs[event["trial"]]
        if event.get("error"):
            self._write_tags(run, {"darts.error": event["error"]})
        self._client.set_terminated(run.run_id, status=event["status"], end_time=event["time"])
        run.status = event["status"]

    def _log_artifact(self, runs: Runs, event: Event) -> None:
        file = self._spool.attachment(event["attachment"])
        if not file.exists():
            raise LookupError(f"{file} is gone from the queue")
        folder = event["folder"] or None
        self._client.log_artifact(runs[event["trial"]].run_id, str(file), folder)

    def _register_onnx(self, runs: Runs, event: Event) -> None:
        if self._load_onnx is None:
            raise LookupError("register_onnx: StudyTracker was made without load_onnx")
        self.versions[event["digest"]] = register(
            self._client,
            self._load_onnx(self._spool.attachment(event["attachment"])),
            # Events of older versions have the name alone.
            registration=Registration(**{"name": event.get("name"), **event.get("how", {})}),
            experiment_id=self._experiment_id,
            run_id=runs[None].run_id,
            digest=event["digest"],
            metadata=event["metadata"],
        )

    def _write_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(name, str(value)[:_TAG_LENGTH]) for name, value in tags.items()]
        if entities:
            self._client.log_batch(run.run_id, tags=entities)

    def _write_params(self, run: Run, step: int, event: Event) -> None:
        """Write new params; MLflow forbids to change one, so changed numbers become metrics."""
        from mlflow.entities import Metric, Param

        params: dict[str, Any] = event["params"]
        new = [Param(name, str(params[name])) for name in params if name not in run.params]
        for start in range(0, len(new), _PARAMS_PER_BATCH):
            batch = new[start : start + _PARAMS_PER_BATCH]
            self._client.log_batch(run.run_id, params=batch)
        changed = {k: v for k, v in params.items() if _differs(run.params.get(k), v)}
        numbers = {k: v for k, v in changed.items() if isinstance(v, int | float)}
        if numbers:
            metrics = [Metric(CHANGED + k, v, event["time"], step) for k, v in numbers.items()]
            self._client.log_batch(run.run_id, metrics=metrics)
        texts = {CHANGED + k: str(v) for k, v in changed.items() if k not in numbers}
        self._write_tags(run, texts)
        run.params.update({name: str(value) for name, value in params.items()})


def _differs(known: str | None, value: Any) -> bool:
    """Whether a param that is known has another value now; 5 and the metric 5.0 are the same."""
    if known is None or known == str(value):
        return False
    try:
        return float(known) != float(value)
    except (TypeError, ValueError):
        return True
