"""A comparison as text: the table, the differences, and the sentences that say how to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funrec.report.compare import COUNTS, Comparison, rows
from funrec.report.differences import DELTA_M, Difference
from funrec.report.significance import SEEDS_FOR_RECIPES
from funrec.table import render, render_blocks

#: Beside marks that say less than others of their table.
ABOUT_MODELS = "*"


def comparison_tables(comparison: Comparison, format: str = "grid", width: int | None = None) -> str:
    """Return the tables of a comparison, without the sentences.

    Without a baseline one row per recipe; with one a block per metric, with the differences. In both cases a second
    table of gains and losses against single_task where that is compared. CSV is one table, of what `compare` returns.

    Args:
        comparison: What `compare_runs` returned.
        format: `grid`, `github`, `latex` or `csv`.
        width: Characters in a line of the terminal.

    Raises:
        InputError: If the format is unknown.
    """
    if format == "csv":
        flat = rows(comparison)
        return render(flat, format, columns=list(flat[0]))
    if comparison.against_baseline:
        tables = [_differences(comparison, comparison.against_baseline, format)]
    else:
        tables = [_means(comparison, format, width)]
    if comparison.against_single_task:
        title = f"Multi-task training against {comparison.against_single_task[0].baseline.model}:"
        tables.append(f"{title}\n\n{_differences(comparison, comparison.against_single_task, format)}")
    return "\n\n".join(tables)


def sentences(comparison: Comparison) -> list[str]:
    """Return how to read the tables, and what was skipped or is to be warned of."""
    lines = []
    if any(len(recipe.runs) > 1 for recipe in comparison.recipes):
        lines.append("Values are mean ± standard deviation over seeds.")
    differences = [*comparison.against_baseline, *comparison.against_single_task]
    if differences:
        lines += [_about_intervals(comparison, differences), _about_marks(comparison), _about_claims(differences)]
    return [*lines, *comparison.notes]


def _means(comparison: Comparison, format: str, width: int | None) -> str:
    table: list[dict[str, Any]] = []
    for recipe in comparison.recipes:
        row: dict[str, Any] = {"model": recipe.model, **recipe.settings}
        if any(len(other.runs) > 1 for other in comparison.recipes):
            row["seeds"] = str(len(recipe.runs))
        if any(comparison.selected_on(other) for other in comparison.recipes):
            row["selected on"] = comparison.selected_on(recipe)
        table.append(row | {metric: _mean(comparison, recipe, metric) for metric in comparison.metrics})
    leading = list(dict.fromkeys(name for row in table for name in row if name not in comparison.metrics))
    table += _oracles(comparison)
    return render(table, format, [*leading, *comparison.metrics], width)


def _oracles(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the row of what no model can beat, where the data knows it."""
    oracles: list[dict[str, Any]] = []
    for recipe in comparison.recipes:
        known = recipe.runs[0].record.get("oracle") or {}
        row = {metric: known[metric] for metric in comparison.metrics if metric in known}
        if row and {"model": "oracle", **row} not in oracles:
            oracles.append({"model": "oracle", **row})
    return oracles


def _mean(comparison: Comparison, recipe: Any, metric: str) -> str | int | None:
    values = comparison.values(recipe, metric)
    if not values.size:
        return None
    if metric.startswith(COUNTS):
        return int(values[0])
    return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if values.size > 1 else "")


def _differences(comparison: Comparison, differences: Sequence[Difference], format: str) -> str:
    """Return a block per metric: the baseline, then every recipe with its difference."""
    found = {(id(difference.recipe), difference.metric): difference for difference in differences}
    baselines = {id(difference.baseline) for difference in differences}
    compared = {id(difference.recipe) for difference in differences}
    shown = [recipe for recipe in comparison.recipes if id(recipe) in baselines]
    shown += [recipe for recipe in comparison.recipes if id(recipe) in compared and id(recipe) not in baselines]
    settings = list(dict.fromkeys(key for recipe in shown for key in recipe.settings))
    mixed = len({difference.claim for difference in differences}) > 1
    with_seeds = any(len(recipe.runs) > 1 for recipe in shown)

    blocks = []
    for metric in dict.fromkeys(difference.metric for difference in differences):
        block = []
        for recipe in shown:
            difference = found.get((id(recipe), metric))
            if difference is None and metric == DELTA_M:
                continue
            row = [recipe.model, *(recipe.settings.get(key, "") for key in settings)]
            row += [str(len(recipe.runs))] if with_seeds else []
            row.append("" if metric == DELTA_M else str(_mean(comparison, recipe, metric)))
            block.append(row + (_difference(difference, mixed) if difference else ["baseline", "", ""]))
        title = [metric, f"{comparison.users[metric]} {comparison.unit}s"] if metric in comparison.users else [metric]
        blocks.append((title, block))
    value = "mean ± sd" if with_seeds else "value"
    headers = ["metric", "model", *settings, *(["seeds"] if with_seeds else []), value, "difference"]
    align = ["left"] * (2 + len(settings)) + (["right"] if with_seeds else []) + ["right", "right", "center", "left"]
    mark = "mark" if mixed else f"mark ({differences[0].claim})"
    return render_blocks(blocks, [*headers, "95% interval", mark], align, format)


def _difference(difference: Difference, mixed: bool) -> list[str]:
    scale, digits, unit = (100, 2, "%") if difference.metric == DELTA_M else (1, 4, "")
    value, low, high = (
        f"{scale * number:+.{digits}f}{unit}" if math.isfinite(number) else ""
        for number in (difference.estimate.value, difference.estimate.low, difference.estimate.high)
    )
    mark = difference.mark + (ABOUT_MODELS if mixed and not difference.estimate.about_recipes else "")
    return [value, f"[{low}, {high}]" if low else "", mark]


def _about_intervals(comparison: Comparison, differences: Sequence[Difference]) -> str:
    units = f"{comparison.unit}s"
    varies = f"{units} and seeds" if any(found.estimate.about_recipes for found in differences) else f"{units} alone"
    how = f"from {comparison.resamples} paired resamples of {units}" if comparison.resamples else "paired"
    return f"Intervals are plain 95% intervals of each difference by itself, {how}, over {varies}."


def _about_marks(comparison: Comparison) -> str:
    sizes = [len(found) for found in (comparison.against_baseline, comparison.against_single_task) if found]
    tests = f"the {sizes[0]} differences" if len(sizes) == 1 else " and ".join(map(str, sizes)) + " differences"
    each = "" if len(sizes) == 1 else ", table by table"
    return f"Marks follow Holm's procedure at 5% over {tests}{each}: they may hesitate where an interval does not."


def _about_claims(differences: Sequence[Difference]) -> str:
    claims = {found.claim for found in differences}
    takes = f"a claim about recipes takes at least {SEEDS_FOR_RECIPES} seeds a side"
    if claims == {"recipes"}:
        return "They speak of recipes: of what other seeds and other users would give."
    if len(claims) == 1:
        return f"They speak of these trained models, not of their recipes: {takes}."
    return f"They speak of recipes; those with {ABOUT_MODELS} of these trained models alone: {takes}."
