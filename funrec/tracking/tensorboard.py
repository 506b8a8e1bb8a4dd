"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from funrec.experiment.tracking import TrackedRun, Tracker
from funrec.runs.folder import TENSORBOARD
from funrec.tracking.artefacts import table_of
from funrec.utils.logging import load_tensorflow
from funrec.utils.specs import PositiveNumber


class TensorBoard(Tracker):
    """Writes into `tensorboard/` of the run's folder, so that `--logdir outputs/sweeps/SWEEP` shows a whole sweep."""

    package = "tensorboard"

    def __init__(self, wait: PositiveNumber = 60.0) -> None:
        super().__init__(wait)
        load_tensorflow()

    def start(self, run: TrackedRun) -> None:
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        folder = run.folder / TENSORBOARD
        shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's; its epochs are told again
        self._tf = tf
        self._writer = tf.summary.create_file_writer(str(folder))
        with self._writer.as_default(step=0):
            api.hparams(run.parameters, trial_id=run.name)
            tf.summary.text("overrides", " ".join(run.overrides) or "none")

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        with self._writer.as_default(step=number):
            for name, value in values.items():
                self._tf.summary.scalar(
                    f"{name.partition('_')[0]}/{name}", value
                )  # charts are grouped by the first part
        self._writer.flush()

    def finish(self, record: Mapping[str, Any]) -> None:
        with self._writer.as_default(step=record.get("best_epoch") or 0):
            self._tf.summary.text("table", table_of(record))
        self._writer.close()

    def fail(self, state: str, reason: str) -> None:
        with self._writer.as_default(step=0):
            self._tf.summary.text(state, reason)
        self._writer.close()
