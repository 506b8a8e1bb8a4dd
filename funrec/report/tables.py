"""The report's tables as plain values, which `page.html` turns into HTML: every name in them is text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from funrec.comparison.compare import Comparison
from funrec.comparison.differences import DELTA_M, Difference
from funrec.comparison.significance import Estimate
from funrec.comparison.text import EXPOSURE_TITLE, behind, exposures, signed
from funrec.comparison.variants import Variant
from funrec.metrics import is_count, is_higher_better
from funrec.runs.diagnosis import inside_columns

MARKS = {"better": "▲", "worse": "▼", "cannot tell": "≈"}


@dataclass(frozen=True)
class Bar:
    """An interval on the scale of its column: places in percent of the column's width, and the words for it."""

    low: float
    point: float
    high: float
    zero: float | None
    words: str


@dataclass(frozen=True)
class Cell:
    """A number as text, what it sorts by, what stands below it, and the class that styles it."""

    text: str
    value: float
    below: tuple[str, ...] = ()
    kind: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Column:
    """A heading: its name, what stands in small below it, and the two ends of the scale that its bars are drawn to."""

    name: str
    small: str = ""
    scale: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table with a row per variant: its headings, the headings that are settings, and the cells of each variant."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[Variant, Sequence[Cell | None]]]
    settings: Sequence[str] = ()
    with_seeds: bool = False

    @property
    def has_scale(self) -> bool:
        """Whether some column has bars."""
        return any(column.scale for column in self.columns)


def comparison_table(comparison: Comparison) -> Table:
    """Return the mean of every shown metric over each variant's seeds, with its interval."""
    metrics = [metric for metric in comparison.metrics if not is_count(metric)]
    settings = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    columns, by_metric = [], []
    for metric in metrics:
        found = [comparison.measured.get((id(variant), metric)) for variant in comparison.variants]
        scale = _scale(estimate for estimate in found if estimate is not None)
        best = _best(comparison, metric)
        cells: list[Cell | None] = []
        for variant, estimate in zip(comparison.variants, found, strict=True):
            values = comparison.values(variant, metric)
            if not values.size:
                cells.append(None)
                continue
            mean = float(values.mean())
            spread = (f"± {values.std(ddof=1):.4f}",) if values.size > 1 else ()
            cells.append(Cell(f"{mean:,.4f}", mean, spread, "best" if variant is best else "", _bar(estimate, scale)))
        by_metric.append(cells)
        columns.append(Column(metric, behind(comparison, metric), _ends(scale)))
    rows = list(zip(comparison.variants, zip(*by_metric, strict=True), strict=True))
    return Table("Metrics by variant", columns, rows, settings, with_seeds=True)


def differences_table(title: str, comparison: Comparison, differences: Sequence[Difference]) -> Table:
    """Return differences from a baseline: value, mark and interval, the scale of each column with zero in it."""
    found = {(id(difference.variant), difference.metric): difference for difference in differences}
    metrics = list(dict.fromkeys(difference.metric for difference in differences))
    columns, scales = [], {}
    for metric in metrics:
        scale = _scale((one.estimate for one in differences if one.metric == metric), with_zero=True)
        scales[metric] = scale
        columns.append(Column(metric, behind(comparison, metric), _ends(scale, metric == DELTA_M, is_signed=True)))
    rows = []
    for variant in comparison.variants:
        mine = [found.get((id(variant), metric)) for metric in metrics]
        if any(mine):
            cells = [None if one is None else _difference(one, scales[one.metric]) for one in mine]
            rows.append((variant, cells))
    return Table(title, columns, rows)


def exposures_table(comparison: Comparison) -> Table | None:
    """Return the shown metrics on randomly exposed rows, each with its difference from standard exposure."""
    found = {(id(one.variant), one.metric): one for one in exposures(comparison)}
    metrics = list(dict.fromkeys(metric for _, metric in found))
    rows = []
    for variant in comparison.variants:
        cells: list[Cell | None] = []
        for metric in metrics:
            one = found.get((id(variant), metric))
            if one is None:
                cells.append(None)
                continue
            mean, spread = float(one.random.mean()), f"± {one.random.std(ddof=1):.4f}" if one.random.size > 1 else ""
            below = (spread, f"({signed(float(one.difference.mean()))})")
            cells.append(Cell(f"{mean:.4f}", mean, tuple(filter(None, below))))
        rows.append((variant, cells))
    return Table(EXPOSURE_TITLE, [Column(metric) for metric in metrics], rows) if found else None


def inside_table(comparison: Comparison) -> Table | None:
    """Return what each variant's parts do, means over seeds; None where no run measured it."""
    found = [[inside_columns(run.record) for run in variant.runs] for variant in comparison.variants]
    names = list(dict.fromkeys(name for runs in found for columns in runs for name in columns))
    rows = []
    for variant, runs in zip(comparison.variants, found, strict=True):
        cells: list[Cell | None] = []
        for name in names:
            values = [columns[name] for columns in runs if name in columns]
            mean = sum(values) / max(len(values), 1)
            text = f"{mean:.1%}" if name.startswith("network") else f"{mean:.4f}"
            cells.append(Cell(text, mean) if values else None)
        rows.append((variant, cells))
    return Table("What the parts of the models do", [Column(name) for name in names], rows) if names else None


def _difference(difference: Difference, scale: tuple[float, float] | None) -> Cell:
    value, mark = difference.estimate.value, difference.mark
    text = signed(value, difference.metric == DELTA_M)
    below = (f"{MARKS[mark]} {mark}",)
    return Cell(text, value, below, mark.split()[0], _bar(difference.estimate, scale, with_zero=True))


def _bar(found: Estimate | None, scale: tuple[float, float] | None, with_zero: bool = False) -> Bar | None:
    if found is None or scale is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return None
    low, point, high, zero = (
        round(100 * (value - scale[0]) / (scale[1] - scale[0]), 1) for value in (found.low, found.value, found.high, 0)
    )
    words = f"95% interval {found.low:.4f} to {found.high:.4f}"
    return Bar(low, point, high, zero if with_zero else None, words)


def _scale(estimates: Iterable[Estimate], with_zero: bool = False) -> tuple[float, float] | None:
    """Return the ends of a column's scale: those of all its intervals, hence at least as wide as any of them."""
    ends = [end for found in estimates for end in (found.low, found.high, found.value) if math.isfinite(end)]
    ends += [0.0] if with_zero else []
    if not ends or min(ends) == max(ends):
        return None
    margin = 0.03 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def _ends(scale: tuple[float, float] | None, is_share: bool = False, is_signed: bool = False) -> tuple[str, str] | None:
    if scale is None:
        return None
    if is_share:
        return f"{scale[0]:+.1%}", f"{scale[1]:+.1%}"
    form = f"{'+' if is_signed else ''}.{4 if scale[1] - scale[0] < 0.02 else 3}f"
    return f"{scale[0]:{form}}", f"{scale[1]:{form}}"


def _best(comparison: Comparison, metric: str) -> Variant | None:
    """Return the variant of the best mean; None where there is nothing to choose between."""
    means = {
        variant: float(values.mean())
        for variant in comparison.variants
        if (values := comparison.values(variant, metric)).size
    }
    if len(means) < 2:
        return None
    return (max if is_higher_better(metric) else min)(means, key=means.__getitem__)
