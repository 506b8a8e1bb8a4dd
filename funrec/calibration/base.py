"""What a calibration is: a method that fits a curve to scores and labels, of all rows or of each value of a feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from funrec.calibration.curve import Curve
from funrec.data.arrays import SplitArrays
from funrec.metrics.sorting import Array
from funrec.schema import InputLayout, Task
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import read_json, to_plain, write_json
from funrec.utils.specs import Name, PositiveInt, whole

CALIBRATION = "calibration.json"
CALIBRATE = "calibrate"


class Calibration(ABC):
    """Turns scores into log odds that are right on rows which neither training nor selection has seen.

    Args:
        by: A categorical feature, each value of which gets a curve of its own; null for one curve.
        least_rows: Rows that a value needs for that; the others share the curve of all rows.
        least_labels: Rows of either label that a curve needs.
        split: The rows to fit on; no other than `calibrate` will do, since the others are trained on or reported.
    """

    def __init__(
        self,
        by: Name | None = None,
        least_rows: PositiveInt = 1000,
        least_labels: Annotated[int, whole(2)] = 20,
        split: Name = CALIBRATE,
    ) -> None:
        if split != CALIBRATE:
            why = "trains the model" if split == "train" else "is reported"
            raise InputError(
                f"calibration.split should be {CALIBRATE}. Received: {split}, which {why}. "
                "dataset.split.calibrate_from or dataset.split.calibrate hold rows back for it."
            )
        self.by, self.least_rows, self.least_labels = by, least_rows, least_labels

    @abstractmethod
    def curve(self, scores: Array, labels: Array) -> Curve:
        """Fit a curve to scores `float64 (rows,)` and 0/1 labels, both of which occur."""

    def check(self, tasks: Sequence[Task]) -> None:
        """Check that there is something to calibrate.

        Raises:
            InputError: If no task is binary.
        """
        if not any(task.is_binary for task in tasks):
            raise InputError("calibration is for binary tasks. The dataset has none: calibration=null leaves it out.")

    def check_data(self, layout: InputLayout, splits: Sequence[str]) -> None:
        """Check that there are rows to fit on, and the feature that `by` names."""
        if self.by is not None and self.by not in layout.id_features:
            raise InputError(
                f"calibration.by should name a categorical feature. Received: {self.by}."
                + did_you_mean(self.by, layout.id_features)
            )
        if CALIBRATE not in splits:
            raise InputError(
                "calibration should have rows of its own. Received: none. "
                "Give dataset.split.calibrate_from (by time) or dataset.split.calibrate (a share)."
            )

    def fit(self, tasks: Sequence[Task], layout: InputLayout, rows: SplitArrays, scores: Mapping[str, Array]) -> Fitted:
        """Fit the curves of every binary task, and of its head given the task before, on rows that are kept for it.

        A head is fitted on positives of the task before, and stays as it is where these are too few.
        """
        place = None if self.by is None else layout.id_features.index(self.by)
        curves: dict[str, Curve] = {}
        by_value: dict[str, dict[int, Curve]] = {}
        for head, column, inside in heads_of(tasks, rows):
            if head not in scores:
                continue
            labels = np.asarray(rows.labels[:, column])[inside]
            known = np.asarray(scores[head], np.float64)[inside]
            if not self._has_both(labels):
                if head != tasks[column].name:
                    continue
                raise InputError(
                    f"tasks.{head}: the {CALIBRATE} split should have {self.least_labels} rows of either label. "
                    f"Received: {int(labels.sum())} of 1 among {labels.size}. Widen dataset.split.calibrate."
                )
            curves[head] = self.curve(known, labels)
            if place is not None:
                values = np.asarray(rows.ids[:, place])[inside]
                by_value[head] = {}
                for value in np.flatnonzero(np.bincount(values) >= self.least_rows).tolist():
                    picked = values == value
                    if value and self._has_both(labels[picked]):  # row 0 is that of unknown values
                        by_value[head][value] = self.curve(known[picked], labels[picked])
        return Fitted(type(self).__name__.lower(), curves, self.by, place, by_value)

    def _has_both(self, labels: Array) -> bool:
        positives = int(np.count_nonzero(labels))
        return min(positives, labels.size - positives) >= self.least_labels


def heads_of(tasks: Sequence[Task], rows: SplitArrays) -> Iterator[tuple[str, int, Array]]:
    """Yield every head that may be calibrated, the column of its label, and the rows of its sample space."""
    places = {task.name: column for column, task in enumerate(tasks)}
    masks = np.ones(rows.labels.shape, bool) if rows.masks is None else np.asarray(rows.masks)
    for column, task in enumerate(tasks):
        if task.is_binary:
            yield task.name, column, masks[:, column]
            if task.after is not None:
                before = places[task.after]
                known = masks[:, column] & masks[:, before]
                yield f"{task.name}_given_{task.after}", column, known & (np.asarray(rows.labels[:, before]) == 1)


@dataclass(frozen=True)
class Fitted:
    """The curves of a run.

    Attributes:
        method: What they were fitted by.
        curves: By task, or head given the task before it.
        by: The feature whose values have curves of their own, if any.
        place: Its column of `SplitArrays.ids`.
        by_value: By task and embedding row of the value.
    """

    method: str
    curves: Mapping[str, Curve]
    by: str | None
    place: int | None
    by_value: Mapping[str, Mapping[int, Curve]]

    def apply(self, scores: Mapping[str, Array], rows: SplitArrays) -> dict[str, Array]:
        """Return the scores with those of calibrated tasks as log odds, `float32 (rows,)`."""
        found = dict(scores)
        for task, curve in self.curves.items():
            raw = np.asarray(scores[task], np.float64)
            calibrated = curve(raw)
            if self.place is not None:
                values = np.asarray(rows.ids[:, self.place])
                for value, its in self.by_value[task].items():
                    picked = values == value
                    calibrated[picked] = its(raw[picked])
            found[task] = calibrated.astype(np.float32)
        return found

    def steepest(self, task: str) -> float:
        """Return the largest factor by which a curve of the task multiplies a small difference of scores."""
        return max(curve.steepest for curve in (self.curves[task], *self.by_value.get(task, {}).values()))

    def save(self, folder: Path) -> None:
        """Write `calibration.json`."""
        write_json(folder / CALIBRATION, to_plain(asdict(self)))

    @staticmethod
    def load(folder: Path) -> Fitted | None:
        """Read what `save` wrote; None where a run is not calibrated."""
        if not (folder / CALIBRATION).is_file():
            return None
        return Fitted.from_json(read_json(folder / CALIBRATION))

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> Fitted:
        """Read what `dataclasses.asdict` gave to JSON."""
        curves = {task: Curve.from_json(values) for task, values in state["curves"].items()}
        by_value = {
            task: {int(value): Curve.from_json(its) for value, its in of_task.items()}
            for task, of_task in state["by_value"].items()
        }
        return Fitted(state["method"], curves, state["by"], state["place"], by_value)
