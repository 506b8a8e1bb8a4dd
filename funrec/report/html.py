"""One HTML file that holds everything and asks for nothing: tables, figures, Plotly's JavaScript."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from funrec.errors import InputError
from funrec.files import replacing
from funrec.report.compare import COUNTS, Comparison, compare_runs
from funrec.report.differences import Difference
from funrec.report.pages import figures_of, is_lower_better, runs_of
from funrec.report.recipes import Recipe
from funrec.report.significance import Estimate
from funrec.report.text import sentences

#: Nothing but what is in the file: a report never asks the network for anything.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
MARKS = {"better": "▲", "worse": "▼", "cannot tell": "≈"}


def write_report(
    paths: Sequence[Any], output: str | Path, baseline: str | Path | None = None, columns: Sequence[str] | None = None
) -> Comparison:
    """Write a report on finished runs; nothing is trained.

    Args:
        paths: Run folders, sweep folders or globs of either.
        output: The file to write.
        baseline: What to compare with; see `compare`.
        columns: Metrics of the comparison table; see `compare`.

    Returns:
        What `compare` would show.

    Raises:
        InputError: If Plotly is missing, there is no finished run, or the file cannot be written.
    """
    script = _plotly()
    comparison = compare_runs(paths, baseline, columns=columns)
    page = render(comparison, script).encode("utf-8", "replace")
    with replacing(Path(output)) as temporary:
        temporary.write_bytes(page)
    return comparison


def render(comparison: Comparison, plotly: str) -> str:
    """Return the page.

    Args:
        comparison: The runs, as `compare` sees them.
        plotly: Plotly's JavaScript.
    """
    runs = sum(len(recipe.runs) for recipe in comparison.recipes)
    count = f"{runs} run{'s' * (runs != 1)}, {len(comparison.recipes)} recipe{'s' * (len(comparison.recipes) != 1)}"
    data = {"figures": figures_of(comparison), **runs_of(comparison)}
    body = [
        f"<header><h1>funrec report</h1><p>{count} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</p></header>",
        "<main>",
        _section("Comparison", _comparison_table(comparison), _notes(comparison)),
        _differences("Differences from the baseline", comparison, comparison.against_baseline),
        _differences("What multi-task training gains or costs each task", comparison, comparison.against_single_task),
        _choice("trade", "Task against task", "Pair of tasks"),
        _choice("curves", "Learning curves", "Measure"),
        _choice("run", "Run by run", "Run"),
        "</main>",
    ]
    style, script = (
        resources.files("funrec.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>funrec report</title><style>{style}</style></head><body>",
            *body,
            "<noscript><p>Figures need JavaScript; the tables do not.</p></noscript>",
            f'<script type="application/json" id="data">{_script_json(data)}</script>',
            f"<script>{plotly}</script>",
            f"<script>{script}</script></body></html>\n",
        ]
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise InputError('funrec report should find Plotly. It is missing: pip install "funrec[report]".') from None
    return str(get_plotlyjs())


def _script_json(data: Any) -> str:
    """Return JSON that no text in it can end the script element with."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _choice(key: str, title: str, label: str) -> str:
    """Return a section whose figures `page.js` draws, for one of several choices."""
    return (
        f'<section data-choice="{key}" hidden><h2>{escape(title)}</h2><label>{escape(label)} '
        f'<select></select></label><div class="about"></div><div class="figures"></div>'
        '<div class="more"></div></section>'
    )


def _notes(comparison: Comparison) -> str:
    interval = f"Bars are 95% intervals over {comparison.unit}s, and over seeds where there are three or more."
    lines = [interval, *(line for line in sentences(comparison))]
    items = "".join(f"<li{_warning(line)}>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>'


def _warning(line: str) -> str:
    return ' class="warning"' if line.startswith(("Warning", "Skipped: ")) else ""


def _comparison_table(comparison: Comparison) -> str:
    metrics = [metric for metric in comparison.metrics if not metric.startswith(COUNTS)]
    counts = [metric for metric in comparison.metrics if metric.startswith(COUNTS)]
    settings = list(dict.fromkeys(key for recipe in comparison.recipes for key in recipe.settings))
    ranges = {metric: _range(_estimates(comparison, metric)) for metric in metrics}
    best = {metric: _best(comparison, metric) for metric in metrics}
    rows = []
    for recipe in comparison.recipes:
        cells = [_name_cell(recipe, 'class="phone"')]
        cells += [f'<td class="setting">{escape(recipe.settings.get(key, ""))}</td>' for key in settings]
        cells.append(f'<td data-value="{len(recipe.runs)}">{len(recipe.runs)}</td>')
        for metric in metrics:
            values = comparison.values(recipe, metric)
            mean = float(values.mean()) if values.size else None
            deviation = float(values.std(ddof=1)) if values.size > 1 else None
            found = comparison.measured.get((id(recipe), metric))
            cells.append(_cell(mean, deviation, found, ranges[metric], best[metric] is recipe))
        for metric in counts:
            values = comparison.values(recipe, metric)
            cells.append(_cell(float(values.mean()) if values.size else None, None, None, None, False, digits=0))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table("Metrics by recipe", ["model", *settings, "seeds", *metrics, *counts], rows, settings)


def _differences(title: str, comparison: Comparison, differences: Sequence[Difference]) -> str:
    if not differences:
        return ""
    metrics = list(dict.fromkeys(difference.metric for difference in differences))
    found = {(id(difference.recipe), difference.metric): difference for difference in differences}
    ranges = {metric: _range([d.estimate for d in differences if d.metric == metric], zero=True) for metric in metrics}
    rows = []
    for recipe in comparison.recipes:
        mine = [found.get((id(recipe), metric)) for metric in metrics]
        if not any(mine):
            continue
        cells = [_name_cell(recipe)]
        cells += [
            _difference_cell(difference, ranges[metric]) for difference, metric in zip(mine, metrics, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    against = ", ".join(dict.fromkeys(str(difference.baseline) for difference in differences))
    names = f"<p>Against {escape(against)}. Bars are plain 95% intervals; the line is zero; marks follow Holm.</p>"
    return _section(title, names, _table(title, ["model", *metrics], rows))


def _table(caption: str, columns: Iterable[str], rows: Iterable[str], settings: Collection[str] = ()) -> str:
    """Return a table that sorts; on a phone the columns of settings make way, and stand in the first column."""
    heads = "".join(
        f'<th scope="col"{" class=setting" * (name in settings)}><button type="button">{escape(name)}</button></th>'
        for name in columns
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="sortable">'
        f'<caption class="hidden">{escape(caption)}; a heading sorts by its column</caption>'
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _name_cell(recipe: Recipe, kind: str = "") -> str:
    """Return the heading of a row: the model, and in small what tells it from others."""
    small = "".join(f"<small {kind}>{_breakable(f'{key}={value}')}</small>" for key, value in recipe.settings.items())
    return f'<th scope="row">{_breakable(recipe.model)}{small}</th>'


def _breakable(name: str) -> str:
    """Return a name that a narrow column may break after `_`, `.` and `=`."""
    return re.sub(r"([_.=])", r"\1<wbr>", escape(name))


def _cell(
    mean: float | None,
    deviation: float | None,
    found: Estimate | None,
    limits: tuple[float, float] | None,
    is_best: bool,
    digits: int = 4,
) -> str:
    if mean is None:
        return '<td class="number"></td>'
    text = f"{mean:,.{digits}f}"
    spread = f'<small class="spread">± {deviation:.4f}</small>' if deviation is not None else ""
    bar = _bar(found, limits) if found is not None and limits is not None else ""
    kind = "number best" if is_best else "number"
    return f'<td class="{kind}" data-value="{mean!r}"><span>{text}</span>{spread}{bar}</td>'


def _difference_cell(difference: Difference | None, limits: tuple[float, float] | None) -> str:
    if difference is None:
        return '<td class="number"></td>'
    value, mark = difference.estimate.value, difference.mark
    return (
        f'<td class="number {escape(mark.split()[0])}" data-value="{value!r}"><span>{_signed(value)}</span>'
        f'<small class="mark">{MARKS.get(mark, "")} {escape(mark)}</small>'
        f"{_bar(difference.estimate, limits, True)}</td>"
    )


def _signed(value: float) -> str:
    text = f"{value:+.4f}"
    return text if float(text) else "0.0000"


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
    found = (comparison.measured.get((id(recipe), metric)) for recipe in comparison.recipes)
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
        (float(found.mean()), recipe)
        for recipe in comparison.recipes
        if (found := comparison.values(recipe, metric)).size
    ]
    if len(values) < 2:
        return None
    pick = min if is_lower_better(metric) else max
    return pick(values, key=lambda pair: pair[0])[1]
