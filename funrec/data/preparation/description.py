"""A dataset's numbers as tables: `funrec data describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from funrec.data.arrays import PreparedData
from funrec.data.preparation.statistics import rate_name


@dataclass(frozen=True)
class Section:
    """One table. Rates are fractions in [0, 1]; None means that there is no such number."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]

    def __str__(self) -> str:
        columns = zip(*self.rows, strict=True)
        alignment = ["left" if any(isinstance(cell, str) for cell in column) else "right" for column in columns]
        cells = [[_text(cell) for cell in row] for row in self.rows]
        return f"{self.title}\n{tabulate(cells, self.header, 'grid', colalign=alignment, disable_numparse=True)}"


def _text(cell: str | int | float | None) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return f"{cell:.4f}" if isinstance(cell, float) else f"{cell:,}"


def describe(data: PreparedData) -> list[Section]:
    """Return tables of a dataset's splits, positive rates, label nesting (if labels nest) and features."""
    splits: Mapping[str, Mapping[str, Any]] = data.statistics["splits"]
    sections = [_rows(data.statistics), _labels(data), _nesting(splits), _features(data)]
    return [section for section in sections if section.rows]


def _rows(statistics: Mapping[str, Any]) -> Section:
    splits = statistics["splits"]
    ranges = [split["time_range"] or (None, None) for split in splits.values()]
    ends = [[time for time in times if time is not None] for times in zip(*ranges, strict=True)]
    whole = (min(ends[0], default=None), max(ends[1], default=None))
    # A date such as 20220508 is no count, so it gets no commas.
    rows = [
        (name, part["rows"], part["users"], part["items"], *(None if time is None else str(time) for time in times))
        for (name, part), times in zip([*splits.items(), ("all", statistics)], [*ranges, whole], strict=True)
    ]
    return Section("rows", ("split", "rows", "users", "items", "from", "to"), rows)


def _labels(data: PreparedData) -> Section:
    """A task's rows are those in its sample space; its rate is the share of positives, or the mean of a regression."""
    splits = data.statistics["splits"]
    rows = []
    for task in data.tasks:
        found = [split["tasks"][task.name] for split in splits.values()]
        rows.append((task.name, task.kind, *(part[key] for part in found for key in ("rows", rate_name(task)))))
    return Section(
        "labels", ["task", "kind", *(f"{name} {what}" for name in splits for what in ("rows", "rate"))], rows
    )


def _nesting(splits: Mapping[str, Mapping[str, Any]]) -> Section:
    """Violations are positives of a task whose parent is 0: a funnel requires that there are none."""
    rows = [
        (task, counts["parent"], name, counts["rows"], counts["positives"], counts["violations"])
        for name, split in splits.items()
        for task, counts in split["nesting"].items()
    ]
    return Section("label nesting", ("task", "after", "split", "rows", "positives", "violations"), rows)


def _features(data: PreparedData) -> Section:
    """The vocabulary counts row 0; the out-of-vocabulary rate is the share of values that training did not teach."""
    evaluated = {
        f"oov {name}": split["oov_rate"] for name, split in data.statistics["splits"].items() if name != "train"
    }
    rows = [
        (
            feature.name,
            f"{feature.kind}, bucketed" if feature.is_bucketed else feature.kind,
            data.layout.cardinalities.get(feature.share_with or feature.name),
            *(rates.get(feature.name) for rates in evaluated.values()),
        )
        for feature in data.layout.features
    ]
    return Section("features", ["feature", "kind", "vocabulary", *evaluated], rows)
