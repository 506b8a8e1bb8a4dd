"""What `funrec data describe` says about a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from funrec.data.arrays import PreparedData

Cell = str | int | float | None


@dataclass(frozen=True)
class Section:
    """One table of the description.

    Attributes:
        title: What the table is about.
        header: Its columns.
        rows: Its rows, a cell per column. Rates are shares in [0, 1]; none means that there is no such number.
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
    """Violations are positives of a task whose parent is 0: a funnel needs them to be none."""
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
