"""Set runs side by side, and say which differences are real: a pure read of records and saved predictions."""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from funrec.comparison.differences import DELTA_M, Difference, Family, is_macro, measure_all
from funrec.comparison.measuring import TEST, VALID, Meter, marked, split_of
from funrec.comparison.notes import LOGISTIC, Note, warnings_of
from funrec.comparison.significance import Estimate
from funrec.comparison.variants import RunRecord, Variant, check_comparable, find, group, match_baseline, runs_at
from funrec.metrics import is_count, is_higher_better, table_columns
from funrec.utils.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("funrec")

#: Of a sweep that was killed, or tuned with pruning, hundreds may be unfinished.
MOST_NAMED = 10

SINGLE_TASK, POPULARITY, GBDT = "single_task", "popularity", "gbdt"


@dataclass
class Comparison:
    """Runs side by side.

    Attributes:
        variants: Runs grouped by what differs in seed alone, in the order to show them.
        metrics: The metrics to show.
        measured: By variant and metric, the mean over seeds with its interval, where there is one.
        users: Users behind each metric that has an interval, of a macro those behind the task with the fewest and
            with the most; rows where the data has no group column.
        unit: `user`, or `row`.
        against_baseline: Differences from the baseline that was asked for.
        against_single_task: Likewise from single_task, where it is compared and is not the baseline.
        against_logistic: Likewise from logistic.
        remarks: What was skipped or could not be compared.
        damaged: Whether some record or predictions file was.
    """

    variants: list[Variant]
    metrics: list[str]
    measured: dict[tuple[int, str], Estimate] = field(default_factory=dict)
    users: dict[str, tuple[int, int]] = field(default_factory=dict)
    unit: str = "user"
    against_baseline: list[Difference] = field(default_factory=list)
    against_single_task: list[Difference] = field(default_factory=list)
    against_logistic: list[Difference] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)
    damaged: bool = False

    @property
    def notes(self) -> list[Note]:
        """What a reader should know: the remarks, then what to be warned of."""
        return [*self.remarks, *warnings_of(self)]

    @property
    def split(self) -> str:
        """The split that is shown."""
        return TEST if any(split_of(metric) == TEST for metric in self.metrics) else VALID

    def _repr_html_(self) -> str:
        from funrec.comparison.text import comparison_html

        return comparison_html(self)

    def values(self, variant: Variant, metric: str) -> np.ndarray:
        """Return the metric of every run that has it, `(seeds,)`."""
        metrics = [run.record["metrics"] for run in variant.runs]
        return np.array([values[metric] for values in metrics if metric in values], np.float64)

    def selected_on(self, variant: Variant) -> str:
        """Return the split that is shown and chose the variant's epoch or parameters; empty if nothing chose on it."""
        shown = {split_of(metric) for metric in self.metrics}
        return next((on for run in variant.runs if (on := run.record.get("selected_on")) in shown and on), "")


def compare(
    paths: str | os.PathLike[str] | Iterable[Any] = (),
    baseline: str | Path | None = None,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    mixed_history: bool = False,
) -> pd.DataFrame:
    """Set runs side by side; nothing is trained.

    Args:
        paths: Run folders, sweep folders or globs of either; also `Run` objects.
        baseline: What to compare with: a model (`shared_bottom`), a setting (`weighting=fixed`) or a run's folder.
        columns: Metrics or patterns such as `gauc_*`; by default those of a run's table, on the test split if all have,
            and `delta_m` where single_task is compared.
        sort: A metric, best first, or another column.
        mixed_history: Compare runs whose histories know the outcomes of other days, too (`dataset.history`).

    Returns:
        A row per variant (runs that differ in seed alone): `model`, what else differs, `seeds`, `selected_on`, and for
        every metric `<metric>` and `<metric>_sd`, mean and standard deviation over seeds. With a baseline also its
        `<metric>_difference`, the ends of a plain 95% interval `<metric>_low` and `<metric>_high`, the two-sided
        `<metric>_p` before Holm's adjustment and the `<metric>_mark` after it; `baseline`, and `claim`, which says
        whether that is about `variants` or about `trained models`. Against single_task, `delta_m` too. What was skipped
        and other notes are in `.attrs["notes"]`.

    Raises:
        InputError: If there is no finished run, runs differ in tasks or rows, or a name matches nothing.
    """
    import pandas as pd

    listed = [paths] if isinstance(paths, str | os.PathLike) or hasattr(paths, "path") else list(paths)
    comparison = compare_runs(listed, baseline, columns, sort, mixed_history)
    for note in comparison.notes:
        log.log(logging.WARNING if note.kind == "skipped" else logging.INFO, "%s", note)
    frame = pd.DataFrame(rows(comparison))
    frame.attrs["notes"] = [str(note) for note in comparison.notes]
    return frame


def compare_runs(
    paths: Sequence[Any],
    baseline: str | Path | None = None,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    mixed_history: bool = False,
) -> Comparison:
    """Return what `compare` puts into a frame, and the command line into a table."""
    found = find(paths)
    baselines: list[Variant] = []
    variants, notes = group(found.runs)
    if baseline is not None and variants:
        try:
            baselines = match_baseline(variants, baseline)
        except InputError:
            if not runs_at(baseline):
                raise
            found = find([*paths, baseline])
            variants, notes = group(found.runs)
            baselines = match_baseline(variants, baseline)
    problems, skipped = list(found.damaged), []
    if found.unfinished:
        runs = "1 unfinished run" if len(found.unfinished) == 1 else f"{len(found.unfinished)} unfinished runs"
        more = len(found.unfinished) - MOST_NAMED
        named = ", ".join(found.unfinished[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        skipped.append(f"Skipped {runs}: {named}.")
    if not found.runs:
        raise InputError(f"There should be a finished run. {' '.join([*problems, *skipped]) or 'Received: none.'}")
    check_comparable(found.runs, mixed_history)

    remarks = [*(Note("about", text) for text in notes), *(Note("skipped", text) for text in skipped)]
    comparison = Comparison(variants, _choose_columns(found.runs, columns), remarks=remarks)
    if sort is not None:
        comparison.variants = sort_variants(comparison, sort)
    problems += _measure(comparison, found.runs, baselines, columns is None or DELTA_M in columns)
    if baselines and not comparison.against_baseline and not comparison.remarks:
        text = f"Nothing to compare with {baselines[0]}: there is no other run, or no interval."
        comparison.remarks.append(Note("about", text))
    comparison.damaged = bool(problems)
    comparison.remarks += [Note("skipped", f"Skipped: {problem}") for problem in problems]
    return comparison


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the frame that `compare` returns."""
    differences = {(id(found.variant), found.metric): found for found in comparison.against_baseline}
    baselines = {id(found.variant): found for found in comparison.against_baseline}
    result = []
    for variant in comparison.variants:
        row: dict[str, Any] = {"model": variant.model, **variant.settings, "seeds": len(variant.runs)}
        row["selected_on"] = comparison.selected_on(variant)
        if baselines:
            pair = baselines.get(id(variant))
            row["baseline"] = str(pair.baseline) if pair else ""
            row["claim"] = pair.claim if pair else ""
        has_delta = any(metric == DELTA_M for _, metric in differences)
        for metric in [*comparison.metrics, *([DELTA_M] if has_delta else [])]:
            if metric != DELTA_M:
                values = comparison.values(variant, metric)
                row[metric] = float(values.mean()) if values.size else None
                if not is_count(metric):
                    row[f"{metric}_sd"] = float(values.std(ddof=1)) if values.size > 1 else None
            if not any(name == metric for _, name in differences):
                continue
            difference = differences.get((id(variant), metric))
            found = difference.estimate if difference else None
            row[f"{metric}_difference" if metric != DELTA_M else metric] = found and found.value
            row |= {f"{metric}_low": found and found.low, f"{metric}_high": found and found.high}
            row |= {f"{metric}_p": found and found.p_value, f"{metric}_mark": difference.mark if difference else ""}
        result.append(row)
    return result


def sort_variants(comparison: Comparison, by: str) -> list[Variant]:
    """Return the variants by a metric, best first and those without it last, or by another column."""
    variants = comparison.variants
    known = {name for variant in variants for run in variant.runs for name in run.record["metrics"]}
    if by in known:
        sign = -1 if is_higher_better(by) else 1

        def place(variant: Variant) -> tuple[bool, float]:
            values = comparison.values(variant, by)
            return not values.size, sign * float(values.mean()) if values.size else 0.0

        return sorted(variants, key=place)
    leading = [{"model": variant.model, "seeds": str(len(variant.runs)), **variant.settings} for variant in variants]
    if not any(by in names for names in leading):
        names = [*sorted(known), *dict.fromkeys(name for row in leading for name in row)]
        raise InputError(f"sort should be a metric or another column. Received: {by}.{did_you_mean(by, names)}")
    order = sorted(range(len(variants)), key=lambda index: _natural(leading[index].get(by, "")))
    return [variants[index] for index in order]


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _choose_columns(runs: Sequence[RunRecord], patterns: Sequence[str] | None) -> list[str]:
    """Return the metrics to show: those that patterns name, or a run's table on the split nothing was chosen on."""
    known = list(dict.fromkeys(name for run in runs for name in run.record["metrics"]))
    if patterns is None:
        split = TEST if all(TEST in run.rows for run in runs) else VALID
        return [name for name in table_columns(known) if split_of(name) == split]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern == DELTA_M:
            continue
        on_split = [name for name in known if split_of(name) == split_of(pattern)]
        matching = [name for name in on_split if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise InputError(f"No run has the metric {pattern}.{did_you_mean(pattern, sorted(known))}")
        chosen |= dict.fromkeys([pattern] if pattern in matching else table_columns(matching) or sorted(matching))
    return list(chosen)


def _measure(
    comparison: Comparison,
    runs: Sequence[RunRecord],
    baselines: list[Variant],
    with_delta_m: bool,
) -> list[str]:
    """Fill a comparison with intervals and differences; return why the predictions of some runs cannot be read."""
    gains = [marked(f"{kind}_{task}", comparison.split) for task in runs[0].tasks for kind in ("auc", "rmse")]
    gains = [metric for metric in gains if with_delta_m and metric in runs[0].record["metrics"]]
    meter = Meter(runs, [*comparison.metrics, *gains])
    gains = [metric for metric in gains if meter.is_measured(metric)]
    tested = [metric for metric in comparison.metrics if meter.is_measured(metric)]
    per_task = [metric for metric in tested if not is_macro(metric)]

    def named(model: str) -> list[Variant]:
        return [variant for variant in comparison.variants if variant.model.partition(" + ")[0] == model]

    single, logistic = named(SINGLE_TASK), named(LOGISTIC)
    is_single = bool(baselines) and all(variant in single for variant in baselines)
    asked = Family(baselines, tested, gains if is_single else [])
    transfer = Family([] if is_single else single, per_task, gains, without=(SINGLE_TASK, LOGISTIC, POPULARITY, GBDT))
    plain = Family(logistic, per_task, without=(LOGISTIC, POPULARITY, GBDT))
    # Without a baseline the first family tests nothing, and its metrics get their intervals.
    comparison.measured = measure_all(comparison.variants, meter, [asked, transfer, plain])
    comparison.variants = [variant for variant in comparison.variants if variant.runs]
    if not comparison.variants:
        raise InputError(f"At least one run should have readable predictions. {meter.damaged[0]}")
    if baselines and not any(variant.runs for variant in baselines):
        raise InputError(f"The baseline should have readable predictions. {meter.damaged[0]}")
    comparison.unit = "user" if meter.has_users else "row"
    comparison.users = {metric: meter.users(metric) for metric in tested}
    comparison.against_baseline = asked.differences
    comparison.against_single_task = transfer.differences
    comparison.against_logistic = plain.differences
    if baselines and all(variant in logistic for variant in baselines):
        # The warnings then say what the table says.
        comparison.against_logistic = [found for found in asked.differences if not is_macro(found.metric)]
    for variant in asked.unpaired:
        text = f"{variant} is compared with nothing: several baselines are equally close to it."
        comparison.remarks.append(Note("about", text))
    return meter.damaged
