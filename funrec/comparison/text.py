"""A comparison as text: its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from funrec.comparison.compare import Comparison, rows
from funrec.comparison.differences import DELTA_M, Difference
from funrec.comparison.measuring import marked, split_of
from funrec.comparison.notes import ABOUT_MODELS, sentences
from funrec.comparison.variants import Variant
from funrec.metrics import is_count
from funrec.metrics.sorting import Array
from funrec.runs.tables import render, render_blocks

EXPOSURE_TITLE = "Random exposure beside standard exposure"
RANDOM = "random"


@dataclass(frozen=True)
class Exposure:
    """A variant's metric by run, `(seeds,)`: on rows the log's recommender exposed, and on random ones."""

    variant: Variant
    metric: str
    standard: Array
    random: Array

    @property
    def difference(self) -> Array:
        """Random less standard, `(seeds,)`."""
        return self.random - self.standard


def exposures(comparison: Comparison) -> list[Exposure]:
    """Return the shown metrics that were measured on randomly exposed rows too, variants inside metrics."""
    found = []
    for metric in comparison.metrics:
        other = marked(metric.partition("@")[0], RANDOM)
        if is_count(metric) or split_of(metric) == RANDOM:
            continue
        for variant in comparison.variants:
            standard, random = comparison.values(variant, metric), comparison.values(variant, other)
            if standard.size and standard.size == random.size:
                found.append(Exposure(variant, metric, standard, random))
    return found


def comparison_tables(comparison: Comparison, format: str = "grid", width: int | None = None) -> str:
    """Return the tables of a comparison, without the sentences.

    Without a baseline one row per variant; with one a block per metric, with the differences. In both cases a second
    table of gains and losses against single_task where that is compared, and a third of random beside standard exposure
    where both were measured. CSV is one table, of what `compare` returns.
    """
    if format == "csv":
        flat = rows(comparison)
        return render(flat, format, columns=list(flat[0]))
    tables = [_first_table(comparison, format, width)]
    if comparison.against_single_task:
        title = f"Multi-task training against {comparison.against_single_task[0].baseline.model}:"
        tables.append(f"{title}\n\n{_differences(comparison, comparison.against_single_task, format)}")
    if found := exposures(comparison):
        tables.append(f"{EXPOSURE_TITLE}:\n\n{_exposures(comparison, found, format)}")
    return "\n\n".join(tables)


def comparison_html(comparison: Comparison) -> str:
    """Return the first table and the sentences as HTML, for a notebook."""
    table = _first_table(comparison, "html")
    return f"{table}<ul>{''.join(f'<li>{escape(line)}</li>' for line in sentences(comparison))}</ul>"


def behind(comparison: Comparison, metric: str) -> str:
    """Return what stands behind a metric: `506 users`, of a macro `506-6,534 users`; empty where that is unknown."""
    counts = dict.fromkeys(comparison.users.get(metric, ()))
    return f"{'-'.join(f'{count:,}' for count in counts)} {comparison.unit}s" if counts else ""


def signed(value: float, is_share: bool = False) -> str:
    """Return a difference with its sign: four decimals, or percent with two; zero has none."""
    text = f"{100 * value:+.2f}%" if is_share else f"{value:+.4f}"
    return text if float(text.rstrip("%")) else text[1:]


def _first_table(comparison: Comparison, format: str, width: int | None = None) -> str:
    if comparison.against_baseline:
        return _differences(comparison, comparison.against_baseline, format)
    table: list[dict[str, Any]] = []
    for variant in comparison.variants:
        row: dict[str, Any] = {"model": variant.model, **variant.settings}
        if any(len(other.runs) > 1 for other in comparison.variants):
            row["seeds"] = str(len(variant.runs))
        if any(comparison.selected_on(other) for other in comparison.variants):
            row["selected on"] = comparison.selected_on(variant)
        table.append(row | {metric: _mean(comparison, variant, metric) for metric in comparison.metrics})
    leading = list(dict.fromkeys(name for row in table for name in row if name not in comparison.metrics))
    table += _oracles(comparison)
    return render(table, format, [*leading, *comparison.metrics], width)


def _oracles(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the row of what no model can beat, where the data knows it."""
    oracles: list[dict[str, Any]] = []
    for variant in comparison.variants:
        known = variant.runs[0].record.get("oracle") or {}
        row = {metric: known[metric] for metric in comparison.metrics if metric in known}
        if row and {"model": "oracle", **row} not in oracles:
            oracles.append({"model": "oracle", **row})
    return oracles


def _mean(comparison: Comparison, variant: Any, metric: str) -> str | int | None:
    values = comparison.values(variant, metric)
    if not values.size:
        # Not recorded by these runs, but perhaps measured from their saved scores.
        found = comparison.measured.get((id(variant), metric))
        return None if found is None else f"{found.value:.4f}"
    if is_count(metric):
        return int(values[0])
    return mean_and_deviation(values)


def _differences(comparison: Comparison, differences: Sequence[Difference], format: str) -> str:
    """Return a block per metric: the baseline, then every variant with its difference."""
    found = {(id(difference.variant), difference.metric): difference for difference in differences}
    baselines = {id(difference.baseline) for difference in differences}
    compared = {id(difference.variant) for difference in differences}
    shown = [variant for variant in comparison.variants if id(variant) in baselines]
    shown += [variant for variant in comparison.variants if id(variant) in compared and id(variant) not in baselines]
    settings = list(dict.fromkeys(key for variant in shown for key in variant.settings))
    mixed = len({difference.claim for difference in differences}) > 1
    with_seeds = any(len(variant.runs) > 1 for variant in shown)

    blocks = []
    for metric in dict.fromkeys(difference.metric for difference in differences):
        block = []
        for variant in shown:
            difference = found.get((id(variant), metric))
            if difference is None and metric == DELTA_M:
                continue
            row = [variant.model, *(variant.settings.get(key, "") for key in settings)]
            row += [str(len(variant.runs))] if with_seeds else []
            row.append("" if metric == DELTA_M else str(_mean(comparison, variant, metric)))
            block.append(row + (_difference(difference, mixed) if difference else ["baseline", "", ""]))
        title = [metric, *filter(None, [behind(comparison, metric)])]
        blocks.append((title, block))
    value = "mean ± sd" if with_seeds else "value"
    headers = ["metric", "model", *settings, *(["seeds"] if with_seeds else []), value, "difference"]
    align = ["left"] * (2 + len(settings)) + (["right"] if with_seeds else []) + ["right", "right", "center", "left"]
    mark = "mark" if mixed else f"mark ({differences[0].claim})"
    return render_blocks(blocks, [*headers, "95% interval", mark], align, format)


def _exposures(comparison: Comparison, found: Sequence[Exposure], format: str) -> str:
    settings = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    with_seeds = any(one.standard.size > 1 for one in found)
    blocks = [
        (
            [metric],
            [
                [
                    one.variant.model,
                    *(one.variant.settings.get(key, "") for key in settings),
                    *(mean_and_deviation(values) for values in (one.standard, one.random)),
                    mean_and_deviation(one.difference, "+.4f"),
                ]
                for one in found
                if one.metric == metric
            ],
        )
        for metric in dict.fromkeys(one.metric for one in found)
    ]
    of = " (mean ± sd)" if with_seeds else ""
    headers = ["metric", "model", *settings, f"standard{of}", "random", "difference"]
    return render_blocks(blocks, headers, ["left"] * (2 + len(settings)) + ["right"] * 3, format)


def mean_and_deviation(values: Array, digits: str = ".4f") -> str:
    """Return the mean of a metric over seeds, and where there are several its standard deviation."""
    return f"{values.mean():{digits}}" + (f" ± {values.std(ddof=1):.4f}" if values.size > 1 else "")


def _difference(difference: Difference, mixed: bool) -> list[str]:
    is_share, found = difference.metric == DELTA_M, difference.estimate
    interval = f"[{_end(found.low, is_share)}, {_end(found.high, is_share)}]" if math.isfinite(found.low) else ""
    mark = difference.mark + (ABOUT_MODELS if mixed and not found.about_variants else "")
    return [signed(found.value, is_share), interval, mark]


def _end(value: float, is_share: bool) -> str:
    """Return an end of an interval; the sign of a rounded zero tells on which side of it the interval ends."""
    return f"{100 * value:+.2f}%" if is_share else f"{value:+.4f}"
