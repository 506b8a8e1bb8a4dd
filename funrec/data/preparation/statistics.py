"""What a split's rows look like in numbers, gathered while they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.features.encoding import EncodedFeatures, Encoder
from funrec.data.preparation.labels import LabelBatch
from funrec.schema import Task
from funrec.utils.errors import InputError


class SplitStatistics:
    """Running counts over one split's rows.

    Args:
        name: The split.
        tasks: The tasks, in the labels' order.
        encoders: The encoders, in the features' order.
        groups: Number of groups over all splits; none without a group column.
        items: Number of items over all splits; none without an item column.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[Task],
        encoders: Sequence[Encoder],
        groups: int | None = None,
        items: int | None = None,
    ) -> None:
        self.name = name
        self.rows = 0
        self._tasks = tasks
        self._place = {task.name: place for place, task in enumerate(tasks)}
        self._labelled = np.zeros(len(tasks), dtype=np.int64)
        self._sums = np.zeros(len(tasks), dtype=np.float64)
        self._nesting = {task.name: [0, 0, 0] for task in tasks if task.after is not None}
        self._id_features = [e.feature.name for e in encoders if not e.is_number and not e.is_sequence]
        self._sequences = [e.feature.name for e in encoders if e.is_sequence]
        self._values = dict.fromkeys([*self._id_features, *self._sequences], 0)
        self._unseen = dict(self._values)
        self._has_vocabulary = {e.feature.name for e in encoders if e.owner is not None}
        self._groups = None if groups is None else np.zeros(groups, dtype=bool)
        self._items = None if items is None else np.zeros(items, dtype=bool)
        self._first_time: Any = None
        self._last_time: Any = None

    def add(
        self,
        features: EncodedFeatures,
        labels: LabelBatch,
        groups: NDArray[np.int32] | None,
        items: NDArray[np.int32] | None,
        times: pl.Series | None,
    ) -> None:
        """Count one batch."""
        self.rows += len(features.ids)
        mask = np.ones(labels.labels.shape, dtype=bool) if labels.masks is None else labels.masks
        self._labelled += mask.sum(axis=0)
        self._sums += (labels.labels * mask).sum(axis=0, dtype=np.float64)
        for task in self._tasks:
            if task.after is not None:
                child, parent = self._place[task.name], self._place[task.after]
                both = mask[:, child] & mask[:, parent]
                positive = both & (labels.labels[:, child] > 0)
                outside = positive & (labels.labels[:, parent] == 0)
                counts = self._nesting[task.name]
                for place, rows in enumerate((both, positive, outside)):
                    counts[place] += int(rows.sum())
        for place, name in enumerate(self._id_features):
            self._values[name] += len(features.ids)
            self._unseen[name] += len(features.ids) - int(np.count_nonzero(features.ids[:, place]))
        for name in self._sequences:
            values = features.sequences[name][1]
            self._values[name] += len(values)
            self._unseen[name] += len(values) - int(np.count_nonzero(values))
        if self._groups is not None:
            self._groups[groups] = True
        if self._items is not None:
            self._items[items] = True
        if times is not None and times.drop_nulls().len():
            first, last = times.min(), times.max()
            self._first_time = first if self._first_time is None else min(self._first_time, first)
            self._last_time = last if self._last_time is None else max(self._last_time, last)

    def check(self) -> None:
        """Refuse a training or validation split that nothing can be learned or said from.

        Raises:
            InputError: If it has no rows, a binary task has one class, or no id of a feature is known from training.
        """
        if not self.rows:
            raise InputError(f"The {self.name} split should have rows. It has none: widen dataset.split.")
        for place, task in enumerate(self._tasks):
            rows, positives = int(self._labelled[place]), self._sums[place]
            where = f"dataset.tasks.{task.name}"
            if not rows:
                raise InputError(
                    f"{where}: no row of the {self.name} split is in its sample space. "
                    f"Widen {where}.where or dataset.split, or drop the task."
                )
            if task.kind == "binary" and positives in (0, rows):
                raise InputError(
                    f"{where}: every label in the {self.name} split is {int(positives > 0)}, so its AUC is undefined. "
                    "Widen dataset.split or drop the task."
                )
        for name, values in self._values.items():
            if values and self._unseen[name] == values and name in self._has_vocabulary:
                raise InputError(
                    f"dataset.features.{name}: not one of the {values:,} values in the {self.name} split was seen in "
                    f"training, so it says nothing. Check the column, or drop it with dataset.drop=[{name}]."
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain values.

        Keys: `rows`, `users`, `items` (none without such a column), `time_range`, `tasks` (each with `rows` in its
        sample space and `positive_rate` or `mean`), `nesting` (each nested task with its `parent`, the `rows` where
        both are known, its `positives` and the `violations` where the parent's label is 0), `oov_rate` by feature.
        """
        return {
            "rows": self.rows,
            "users": None if self._groups is None else int(self._groups.sum()),
            "items": None if self._items is None else int(self._items.sum()),
            "time_range": None if self._first_time is None else [_plain(self._first_time), _plain(self._last_time)],
            "tasks": {
                task.name: {
                    "rows": int(self._labelled[place]),
                    "positive_rate" if task.kind == "binary" else "mean": (
                        float(self._sums[place] / self._labelled[place]) if self._labelled[place] else None
                    ),
                }
                for place, task in enumerate(self._tasks)
            },
            "nesting": {
                task.name: {
                    "parent": task.after,
                    **dict(zip(("rows", "positives", "violations"), self._nesting[task.name], strict=True)),
                }
                for task in self._tasks
                if task.after is not None
            },
            "oov_rate": {
                name: (self._unseen[name] / values if values else None)
                for name, values in self._values.items()
                if name in self._has_vocabulary
            },
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
