"""What a dataset's rows look like in numbers: gathered while they are written, printed by `funrec data describe`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tabulate import tabulate

from funrec.data.arrays import PreparedData
from funrec.data.features.encoding import EncodedFeatures, Encoder
from funrec.data.preparation.labels import LabelBatch
from funrec.schema import Task
from funrec.utils.errors import InputError

Cell = str | int | float | None


class SplitStatistics:
    """Running counts over one split's rows.

    Args:
        name: The split.
        tasks: The tasks, in the labels' order.
        encoders: The encoders, in the features' order.
        groups: Number of groups over all splits; None without a group column.
        items: Number of items over all splits; None without an item column.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[Task],
        encoders: Mapping[str, Encoder],
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
        self._id_features = [name for name, e in encoders.items() if not e.is_number and not e.is_sequence]
        self._sequences = [name for name, e in encoders.items() if e.is_sequence]
        self._values = dict.fromkeys([*self._id_features, *self._sequences], 0)
        self._unseen = dict(self._values)
        self._has_vocabulary = {name for name, e in encoders.items() if e.owner is not None}
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

    def check(self, may_be_unknown: Collection[str] = ()) -> None:
        """Refuse a training or validation split that nothing can be learned or said from.

        Args:
            may_be_unknown: Features all of whose values may be new to the split.

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
            is_unknown = values and self._unseen[name] == values and name in self._has_vocabulary
            if is_unknown and name not in may_be_unknown:
                raise InputError(
                    f"dataset.features.{name}: no value in the {self.rows:,} rows of the {self.name} split was seen in "
                    f"training, so it says nothing. Check the column, or drop it with dataset.drop=[{name}]."
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain values.

        Keys: `rows`, `users`, `items` (None without such a column), `time_range`, `tasks` (each with `rows` in its
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


@dataclass(frozen=True)
class Section:
    """One table of the description.

    Attributes:
        title: What the table is about.
        header: Its columns.
        rows: Its rows, a cell per column. Rates are fractions in [0, 1]; None means that there is no such number.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Description:
    """A dataset's numbers. As text it is those tables one after another."""

    sections: tuple[Section, ...]

    def __str__(self) -> str:
        return "\n\n".join(f"{section.title}\n{_grid(section)}" for section in self.sections)


def _grid(section: Section) -> str:
    rows = [[_text(cell) for cell in row] for row in section.rows]
    alignment = ["right" if _is_number_column(section, place) else "left" for place in range(len(section.header))]
    return tabulate(rows, section.header, tablefmt="grid", colalign=alignment, disable_numparse=True)


def _is_number_column(section: Section, place: int) -> bool:
    return all(not isinstance(row[place], str) for row in section.rows)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return cell if isinstance(cell, str) else f"{cell:,}"


def describe(data: PreparedData) -> Description:
    """Return a dataset's numbers as tables: splits, positive rates, label nesting, features."""
    statistics = data.statistics
    splits: Mapping[str, Mapping[str, Any]] = statistics["splits"]
    sections = [_splits(data, splits), _tasks(data, splits)]
    if any(split["nesting"] for split in splits.values()):
        sections.append(_nesting(splits))
    sections.append(_features(data, splits))
    return Description(tuple(sections))


def _splits(data: PreparedData, splits: Mapping[str, Mapping[str, Any]]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for name, split in splits.items():
        first, last = split["time_range"] or (None, None)
        rows.append((name, split["rows"], split["users"], split["items"], _time(first), _time(last)))
    total = data.statistics
    ranges = [split["time_range"] for split in splits.values() if split["time_range"]]
    first = min((first for first, _ in ranges), default=None)
    last = max((last for _, last in ranges), default=None)
    rows.append(("all", total["rows"], total["users"], total["items"], _time(first), _time(last)))
    return Section("rows", ("split", "rows", "users", "items", "from", "to"), tuple(rows))


def _time(value: float | str | None) -> str | None:
    """A date such as 20220508 is no count, so no commas."""
    return None if value is None else str(value)


def _tasks(data: PreparedData, splits: Mapping[str, Mapping[str, Any]]) -> Section:
    """A task's rows are those in its sample space; its rate is the share of positives, or the mean of a regression."""
    header = ["task", "kind"]
    for name in splits:
        header += [f"{name} rows", f"{name} rate"]
    rows = []
    for task in data.tasks:
        cells: list[Cell] = [task.name, task.kind]
        for split in splits.values():
            counts = split["tasks"][task.name]
            cells += [counts["rows"], counts["positive_rate" if task.kind == "binary" else "mean"]]
        rows.append(tuple(cells))
    return Section("labels", tuple(header), tuple(rows))


def _nesting(splits: Mapping[str, Mapping[str, Any]]) -> Section:
    """Violations are positives of a task whose parent is 0: a funnel requires that there are none."""
    rows = [
        (task, counts["parent"], name, counts["rows"], counts["positives"], counts["violations"])
        for name, split in splits.items()
        for task, counts in split["nesting"].items()
    ]
    return Section("label nesting", ("task", "after", "split", "rows", "positives", "violations"), tuple(rows))


def _features(data: PreparedData, splits: Mapping[str, Mapping[str, Any]]) -> Section:
    """The vocabulary counts row 0; the out-of-vocabulary rate is the share of values that training did not teach."""
    evaluated = [name for name in splits if name != "train"]
    rows = []
    for feature in data.features:
        owner = feature.share_with or feature.name
        kind = f"{feature.kind}, bucketed" if feature.is_bucketed else feature.kind
        cells: list[Cell] = [feature.name, kind, data.cardinalities.get(owner)]
        cells += [splits[name]["oov_rate"].get(feature.name) for name in evaluated]
        rows.append(tuple(cells))
    return Section("features", ("feature", "kind", "vocabulary", *(f"oov {name}" for name in evaluated)), tuple(rows))
