"""Weights & Biases: a run per run, grouped by their sweep or study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from funrec.experiment.tracking import TrackedRun, Tracker, run_id
from funrec.tracking.artefacts import artefacts
from funrec.utils.specs import PositiveNumber, Text


class WandB(Tracker):
    """Tells Weights & Biases, or with `mode=offline` a folder that `wandb sync` uploads later.

    Args:
        project: The project that runs belong to.
        entity: The user or team it belongs to; the account's own if None.
        mode: `online` or `offline`.
        report: Whether the report is kept with a finished run.
        wait: Seconds that a run waits for the server at its end.
    """

    package = "wandb"

    def __init__(
        self,
        project: Text = "funrec",
        entity: str | None = None,
        mode: Literal["online", "offline"] = "online",
        report: bool = True,
        wait: PositiveNumber = 60.0,
    ) -> None:
        super().__init__(wait)
        self.project, self.entity, self.mode, self.report = project, entity, mode, report

    def start(self, run: TrackedRun) -> None:
        import wandb

        self._tracked = run
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            id=run_id(run.folder),
            resume="allow",
            reinit="create_new",
            dir=run.folder,
            name=run.name,
            group=run.parent.name if run.parent else None,
            config=dict(run.parameters),
            settings=wandb.Settings(silent=True, init_timeout=self.wait),
        )

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        if number > self._run.step:  # else a resumed run has told it before
            self._run.log(dict(values), step=number)

    def finish(self, record: Mapping[str, Any]) -> None:
        self._run.summary.update({f"best/{name}": value for name, value in record["metrics"].items()})
        with artefacts(self._tracked.folder, record, self.report) as folder:
            for file in folder.iterdir():
                self._run.save(str(file), base_path=str(folder), policy="now")
            self._run.finish()

    def fail(self, state: str, reason: str) -> None:
        self._run.summary.update({state: reason})
        self._run.finish(exit_code=1)
