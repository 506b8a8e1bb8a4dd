"""The report's tables and what stands around them, as HTML; every name in them is text, never markup."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from funrec.comparison.compare import COUNTS, Comparison
from funrec.comparison.differences import DELTA_M, Difference
from funrec.comparison.exposures import Exposure, exposures
from funrec.comparison.significance import Estimate
from funrec.comparison.text import EXPOSURE_TITLE, about_differences, behind, signed, verdicts
from funrec.comparison.variants import Variant
from funrec.report.pages import is_lower_better

MARKS = {"better": "▲", "worse": "▼", "cannot tell": "≈"}


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def notes_list(lines: Iterable[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li{_warning(line)}>{escape(line)}</li>" for line in lines)}</ul>'


def _warning(line: str) -> str:
    return ' class="warning"' if line.startswith(("Warning", "Skipped: ")) else ""


def comparison_table(comparison: Comparison) -> str:
    metrics = [metric for metric in comparison.metrics if not metric.startswith(COUNTS)]
    settings = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    ranges = {metric: _range(_estimates(comparison, metric)) for metric in metrics}
    best = {metric: _best(comparison, metric) for metric in metrics}
    rows = []
    for variant in comparison.variants:
        cells = [_name_cell(variant, 'class="phone"')]
        cells += [f'<td class="setting">{escape(variant.settings.get(key, ""))}</td>' for key in settings]
        cells.append(f'<td data-value="{len(variant.runs)}">{len(variant.runs)}</td>')
        for metric in metrics:
            values = comparison.values(variant, metric)
            mean = float(values.mean()) if values.size else None
            deviation = float(values.std(ddof=1)) if values.size > 1 else None
            found = comparison.measured.get((id(variant), metric))
            cells.append(_cell(mean, deviation, found, ranges[metric], best[metric] is variant))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    small = {metric: behind(comparison, metric) for metric in metrics}
    return _table("Metrics by variant", ["model", *settings, "seeds", *metrics], rows, settings, small)


def differences_section(title: str, comparison: Comparison, differences: Sequence[Difference]) -> str:
    if not differences:
        return ""
    metrics = list(dict.fromkeys(difference.metric for difference in differences))
    found = {(id(difference.variant), difference.metric): difference for difference in differences}
    ranges = {metric: _range([d.estimate for d in differences if d.metric == metric], zero=True) for metric in metrics}
    rows = []
    for variant in comparison.variants:
        mine = [found.get((id(variant), metric)) for metric in metrics]
        if not any(mine):
            continue
        cells = [_name_cell(variant)]
        cells += [
            _difference_cell(difference, ranges[metric]) for difference, metric in zip(mine, metrics, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    told = (escape(line).replace("--columns", "<code>--columns</code>") for line in verdicts(differences))
    verdict = "".join(f"<p>{line}</p>" for line in told)
    reading = notes_list(["The vertical line is zero.", *about_differences(comparison, [differences])])
    small = {metric: behind(comparison, metric) for metric in metrics}
    return section(title, verdict, _table(title, ["model", *metrics], rows, small=small), reading)


def exposures_section(comparison: Comparison) -> str:
    """Return the shown metrics on randomly exposed rows, each with its difference from standard exposure."""
    found = {(id(one.variant), one.metric): one for one in exposures(comparison)}
    if not found:
        return ""
    metrics = list(dict.fromkeys(metric for _, metric in found))
    rows = []
    for variant in comparison.variants:
        cells = [_name_cell(variant)]
        for metric in metrics:
            cells.append(_exposure_cell(found.get((id(variant), metric))))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    about = "<p>Metrics on rows that were exposed at random; in brackets the difference from standard exposure.</p>"
    return section(EXPOSURE_TITLE, about, _table(EXPOSURE_TITLE, ["model", *metrics], rows))


def _exposure_cell(one: Exposure | None) -> str:
    if one is None:
        return '<td class="number"></td>'
    mean, difference = float(one.random.mean()), signed(float(one.difference.mean()))
    spread = f"<small>± {one.random.std(ddof=1):.4f}</small>" if one.random.size > 1 else ""
    return f'<td class="number" data-value="{mean!r}"><span>{mean:.4f}</span>{spread}<small>({difference})</small></td>'


def _table(
    caption: str,
    columns: Iterable[str],
    rows: Iterable[str],
    settings: Collection[str] = (),
    small: Mapping[str, str] | None = None,
) -> str:
    """Return a table that sorts; on a phone the columns of settings make way, and stand in the first column.

    Args:
        caption: What it shows.
        columns: Headings.
        rows: Rows of cells.
        settings: Headings of settings.
        small: What stands in small under a heading.
    """
    heads = "".join(
        f'<th scope="col"{" class=setting" * (name in settings)}><button type="button">{escape(name)}</button>'
        f"{f'<small>{escape(words)}</small>' if (words := (small or {}).get(name)) else ''}</th>"
        for name in columns
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="sortable">'
        f'<caption class="hidden">{escape(caption)}; a heading sorts by its column</caption>'
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _name_cell(variant: Variant, kind: str = "") -> str:
    """Return the heading of a row: the model, and in small what tells it from others."""
    small = "".join(f"<small {kind}>{_breakable(f'{key}={value}')}</small>" for key, value in variant.settings.items())
    return f'<th scope="row">{_breakable(variant.model)}{small}</th>'


def _breakable(name: str) -> str:
    """Return a name that a narrow column may break after `_`, `.` and `=`."""
    return re.sub(r"([_.=])", r"\1<wbr>", escape(name))


def _cell(
    mean: float | None,
    deviation: float | None,
    found: Estimate | None,
    limits: tuple[float, float] | None,
    is_best: bool,
) -> str:
    if mean is None:
        return '<td class="number"></td>'
    spread = f'<small class="spread">± {deviation:.4f}</small>' if deviation is not None else ""
    bar = _bar(found, limits) if found is not None and limits is not None else ""
    kind = "number best" if is_best else "number"
    return f'<td class="{kind}" data-value="{mean!r}"><span>{mean:,.4f}</span>{spread}{bar}</td>'


def _difference_cell(difference: Difference | None, limits: tuple[float, float] | None) -> str:
    if difference is None:
        return '<td class="number"></td>'
    value, mark = difference.estimate.value, difference.mark
    return (
        f'<td class="number {escape(mark.split()[0])}" data-value="{value!r}">'
        f"<span>{signed(value, difference.metric == DELTA_M)}</span>"
        f'<small class="mark">{MARKS.get(mark, "")} {escape(mark)}</small>'
        f"{_bar(difference.estimate, limits, True)}</td>"
    )


def _bar(found: Estimate, limits: tuple[float, float] | None, zero: bool = False) -> str:
    """Return an interval drawn to the scale of its column, and said in words."""
    if limits is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""

    def place(value: float) -> float:
        return round(100 * (value - limits[0]) / (limits[1] - limits[0]), 1)

    low, high, middle = place(found.low), place(found.high), place(found.value)
    line = f'<i class="zero" style="left:{place(0)}%"></i>' if zero else ""
    words = f"95% interval {found.low:.4f} to {found.high:.4f}"
    return (
        f'<span class="interval" role="img" aria-label="{words}" title="{words}">{line}'
        f'<i class="reach" style="left:{low}%;width:{round(high - low, 1)}%"></i>'
        f'<i class="point" style="left:{middle}%"></i>'
        "</span>"
    )


def _estimates(comparison: Comparison, metric: str) -> list[Estimate]:
    found = (comparison.measured.get((id(variant), metric)) for variant in comparison.variants)
    return [estimate for estimate in found if estimate is not None]


def _range(estimates: Sequence[Estimate], zero: bool = False) -> tuple[float, float] | None:
    ends = [end for found in estimates for end in (found.low, found.high, found.value) if math.isfinite(end)]
    ends += [0.0] if zero else []
    if not ends or min(ends) == max(ends):
        return None
    margin = 0.03 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def _best(comparison: Comparison, metric: str) -> Any:
    values = [
        (float(found.mean()), variant)
        for variant in comparison.variants
        if (found := comparison.values(variant, metric)).size
    ]
    if len(values) < 2:
        return None
    pick = min if is_lower_better(metric) else max
    return pick(values, key=lambda pair: pair[0])[1]
