"""A run: while a process works on it, what its training leaves, and finished, as Python sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec.metrics import split_column
from funrec.metrics.diagnosis import Finding
from funrec.runs import record as records
from funrec.runs.diagnosis import nearly_another, render_diagnosis, render_gates
from funrec.runs.tables import HTML, label, render, render_slices, rows_from_record
from funrec.utils.errors import InputError
from funrec.utils.logging import load_tensorflow
from funrec.utils.signals import Interruption

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl

    from funrec.data.arrays import SplitArrays
    from funrec.experiment.prediction import Predictor
    from funrec.models.model import MultiTaskModel

#: Told of every epoch: its row of the history.
EpochHook = Callable[[Mapping[str, Any]], None]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Give the time since the last lap to `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


@dataclass(frozen=True)
class Attempt:
    """One process at work on one run.

    Attributes:
        folder: The run's folder, locked.
        live: Whether to draw progress on the terminal.
        on_epoch: Told of every epoch.
        interruption: Whether to stop.
        clock: What took how long.
    """

    folder: Path
    live: bool
    on_epoch: EpochHook
    interruption: Interruption
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Trained:
    """What can score rows, and what its training left for the record.

    Attributes:
        score: Returns a split's scores by head.
        parts: The names of its `backbone`, `funnel`, `interaction` and `wide` part.
        fields: Of the record.
    """

    score: Callable[[SplitArrays], dict[str, np.ndarray]]
    parts: dict[str, str]
    fields: dict[str, Any]

    def findings(self) -> list[Finding]:
        """Return what its parts say about it: whether it is nearly another model."""
        if "inside" not in self.fields:
            return []
        wide = self.parts["wide"]
        name = label(**{**self.parts, "wide": "none"})
        return nearly_another(self.fields["inside"], self.fields["gates"], name, wide)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record.

    Attributes:
        path: The run's folder.
        record: What `record.json` holds; see `funrec.runs.record`.
    """

    path: Path
    record: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, `auc_is_click` and so on."""
        return self.record["metrics"]

    @property
    def oracle(self) -> dict[str, float] | None:
        """The same metrics of the true probabilities, where the dataset knows them."""
        return self.record.get("oracle")

    def table(self, format: str = "grid", columns: Sequence[str] | None = None, width: int | None = None) -> str:
        """Return the run's table as text; see `funrec.runs.tables.render`."""
        return render(rows_from_record(self.record), format, columns, width)

    def gates(self) -> str:
        """Return how much of its experts every task uses, as text; see `funrec.runs.diagnosis.render_gates`."""
        return render_gates(self.record.get("gates") or [])

    def diagnosis(self) -> str:
        """Return every head's AUC on every task's labels, warnings, and random beside standard exposure, as text."""
        return render_diagnosis(self.record)

    def slices(self) -> str:
        """Return the metrics by slice as text: cold users, head and tail items, and `metrics.slices`."""
        return render_slices(self.record)

    def calibration(self) -> str:
        """Return what calibration changed, as text; a line that says so where there was none."""
        from funrec.experiment.calibration import render_calibration

        found = self.record.get("calibration")
        return render_calibration(found) if found else "This run is not calibrated."

    def metrics_frame(self) -> pd.DataFrame:
        """Return the metrics as rows: `metric`, `task` (or `macro`), `split` and `value`."""
        import pandas as pd

        rows = []
        for column, value in self.metrics.items():
            found = split_column(column)
            name, target = (column, "") if found is None else found[1:]
            task, _, split = target.partition("@")
            rows.append({"metric": name, "task": task, "split": split or "valid", "value": value})
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """Return the learning curves as a Plotly figure, a panel per metric and a line per task.

        Raises:
            InputError: If Plotly is missing.
        """
        import pandas as pd

        try:
            import plotly.express as px
        except ModuleNotFoundError:
            raise InputError('Run.plot should find Plotly. It is missing: pip install "funrec-lab[report]".') from None
        points = []
        for row in records.read_history(self.path):
            for column, value in row.items():
                found = split_column(column)
                if column.startswith("loss_"):
                    name, task = "loss", column.removeprefix("loss_")
                elif found is not None and not found[0].is_count:
                    _, name, task = found
                else:
                    continue
                points.append({"epoch": row["epoch"], "metric": name, "task": task, "value": value})
        frame = pd.DataFrame(points, columns=["epoch", "metric", "task", "value"])
        figure = px.line(frame, x="epoch", y="value", color="task", facet_col="metric", facet_col_wrap=3, markers=True)
        return figure.update_yaxes(matches=None, showticklabels=True)

    def history(self) -> pd.DataFrame:
        """Return one row per epoch: losses, task weights, metrics, seconds."""
        import pandas as pd

        return pd.DataFrame(records.read_history(self.path))

    def predictions(self) -> pd.DataFrame:
        """Return the scored evaluation rows: row, group, item, labels and scores."""
        import pandas as pd

        return pd.DataFrame(records.read_predictions(self.path))

    def model(self) -> MultiTaskModel:
        """Return the model with the weights of its best epoch, built anew."""
        load_tensorflow()
        from funrec.experiment.prediction import load_model

        return load_model(self.path)

    def predict(self, frame: pd.DataFrame | pl.DataFrame) -> pd.DataFrame:
        """Score raw rows: those that the data set's files hold, in the order given.

        Args:
            frame: Rows with the raw columns that the features are read from; others are ignored.

        Returns:
            A float32 column per task and conditional head: `p_is_click` (pCTR, over exposures), `p_is_like` (pCTCVR),
            with a funnel also `p_is_like_given_is_click` (pCVR); for a regression task its value, `value_<task>`;
            `score_<task>` where a loss only ranks.
            Rows keep the index of a pandas frame.

        Raises:
            InputError: If a feature's column is missing, or a number is null.
        """
        load_tensorflow()
        import pandas as pd

        from funrec.data.datasets.sources import to_polars

        scores = self.predictor.score_frame(to_polars(frame))
        index = frame.index if isinstance(frame, pd.DataFrame) else None
        return pd.DataFrame({name: scores[name].to_numpy() for name in scores.columns}, index=index)

    @cached_property
    def predictor(self) -> Predictor:
        """Scores frames and files with this run's model, loaded once."""
        load_tensorflow()
        from funrec.experiment.prediction import Predictor

        return Predictor(self.path)

    def _repr_html_(self) -> str:
        return render(rows_from_record(self.record), HTML)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})\n{self.table()}"


def load_run(path: str | Path) -> Run:
    """Return a finished run from its folder.

    Raises:
        InputError: If there is no finished run.
    """
    return Run(Path(path), records.read(path))
