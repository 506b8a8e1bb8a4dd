"""MLflow: a run per run, under one for their sweep or study."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from filelock import FileLock

from funrec.experiment.tracking import TrackedRun, Tracker, run_id
from funrec.tracking.artefacts import artefacts
from funrec.utils.specs import PositiveNumber, Text

#: Most parameters and metrics in one request.
PARAMETERS, METRICS = 100, 1000


class MLflow(Tracker):
    """Tells an MLflow server or store.

    Args:
        uri: The server's or store's; MLflow's own default (`MLFLOW_TRACKING_URI`) if None.
        experiment: The MLflow experiment that runs belong to.
        report: Whether the report is kept with a finished run.
        wait: Seconds that a run waits for the server at its end.
    """

    package = "mlflow"

    def __init__(
        self,
        uri: str | None = None,
        experiment: Text = "funrec",
        report: bool = True,
        wait: PositiveNumber = 60.0,
    ) -> None:
        super().__init__(wait)
        self.uri, self.experiment, self.report = uri, experiment, report

    def start(self, run: TrackedRun) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._tracked, self._client = run, MlflowClient(self.uri)
        parent = run.parent
        with FileLock((parent or run.folder) / ".tracking.lock"):  # jobs of a sweep that start together share a parent
            self._experiment_id = self._find_experiment()
            tags = {"funrec.folder": str(run.folder)}
            self._parent = None
            if parent is not None:
                self._parent, _ = self._find_or_create(run_id(parent), parent.name, {"funrec.folder": str(parent)})
                tags["mlflow.parentRunId"] = self._parent
            self._id, is_new = self._find_or_create(run_id(run.folder), run.name, tags)
        self._known = set() if is_new else {m.step for m in self._client.get_metric_history(self._id, "epoch")}
        if is_new:
            parameters = [Param(key, str(value)[:6000]) for key, value in run.parameters.items()]
            for some in _parts(parameters, PARAMETERS):
                self._client.log_batch(self._id, params=some)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        if number not in self._known:
            self._log(values, number)

    def finish(self, record: Mapping[str, Any]) -> None:
        self._log({f"best/{name}": value for name, value in record["metrics"].items()}, record.get("best_epoch") or 0)
        self._client.set_tag(self._id, "funrec.label", record["label"])
        with artefacts(self._tracked.folder, record, self.report) as folder:
            self._client.log_artifacts(self._id, str(folder))
        self._end("FINISHED")

    def fail(self, state: str, reason: str) -> None:
        self._client.set_tag(self._id, f"funrec.{state}", reason)
        self._end("FAILED" if state == "failed" else "KILLED")

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self.experiment))
        except MlflowException:
            if (found := self._client.get_experiment_by_name(self.experiment)) is None:
                raise
            return str(found.experiment_id)  # another process was first

    def _find_or_create(self, key: str, name: str, tags: Mapping[str, str]) -> tuple[str, bool]:
        found = self._client.search_runs([self._experiment_id], f"tags.`funrec.id` = '{key}'", max_results=1)
        if found:
            self._client.update_run(found[0].info.run_id, "RUNNING")
            return found[0].info.run_id, False
        created = self._client.create_run(self._experiment_id, run_name=name, tags={**tags, "funrec.id": key})
        return created.info.run_id, True

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(re.sub(r"[^\w\-. /]", "/", name), value, now, step) for name, value in values.items()]
        for some in _parts(metrics, METRICS):
            self._client.log_batch(self._id, metrics=some)

    def _end(self, state: str) -> None:
        self._client.set_terminated(self._id, state)
        if self._parent is not None:  # as far as this process knows; the next job of the sweep says RUNNING again
            self._client.set_terminated(self._parent, "FINISHED")


def _parts(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
