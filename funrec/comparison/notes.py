"""A comparison in sentences: what its marks come to, how to read it, and what to be warned of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from funrec.comparison.differences import Difference
from funrec.comparison.significance import BETTER, LEVEL, SEEDS_FOR_VARIANTS, WORSE
from funrec.comparison.variants import Variant

if TYPE_CHECKING:
    from funrec.comparison.compare import Comparison

LOGISTIC = "logistic"

#: Beside marks that say less than others of their table.
ABOUT_MODELS = "*"


@dataclass(frozen=True)
class Note:
    """A sentence for the reader of a comparison.

    Attributes:
        kind: `skipped` of runs that are left out, `warning` of numbers that mislead, `about` of anything else.
        text: The sentence.
    """

    kind: Literal["skipped", "warning", "about"]
    text: str

    @property
    def is_warning(self) -> bool:
        """Whether the reader should not miss it."""
        return self.kind != "about"

    def __str__(self) -> str:
        return self.text


def warnings_of(comparison: Comparison) -> list[Note]:
    """Return a comparison's warnings.

    They name models that do not beat logistic regression, what the runs' own diagnoses found, and a selection on the
    very rows that are reported.
    """
    beaten = _beaten_by_simple(comparison.variants, comparison.against_logistic)
    warnings = [Note("warning", f"Warning: {text}") for text in (*beaten, *_diagnosed(comparison.variants))]
    return [*warnings, *(Note("about", text) for text in _selected(comparison))]


def sentences(comparison: Comparison) -> list[str]:
    """Return what the marks come to, how to read the tables, and what was skipped or is to be warned of."""
    tables = [found for found in (comparison.against_baseline, comparison.against_single_task) if found]
    lines = [line for differences in tables for line in verdicts(differences)]
    lines += about_values(comparison)
    if tables:
        lines += about_differences(comparison, tables)
    return [*lines, *map(str, comparison.notes)]


def verdicts(differences: Sequence[Difference]) -> list[str]:
    """Return what the marks of a table come to, in a sentence or two."""
    against = listed(dict.fromkeys(str(difference.baseline) for difference in differences))
    tested = [difference for difference in differences if math.isfinite(difference.adjusted_p)]
    real = [difference for difference in tested if difference.mark in (BETTER, WORSE)]
    apart = [one for one in tested if one not in real and not one.estimate.low <= 0 <= one.estimate.high]
    count = "the only difference tested" if len(tested) == 1 else f"{len(tested)} differences"
    if not real:
        lines = [f"Against {against} nothing stands out from noise, in {count}."]
    else:
        parts = []
        for variant in dict.fromkeys(difference.variant for difference in real):
            marks: dict[str, list[str]] = {}
            for one in real:
                if one.variant is variant:
                    marks.setdefault(one.mark, []).append(one.metric)
            parts.append(f"{variant} is {' and '.join(f'{mark} in {listed(names)}' for mark, names in marks.items())}")
        rest = len(tested) - len(real)
        lines = [
            f"Against {against}, {'; '.join(parts)}." + (f" Noise may explain the other {rest}." if rest > 1 else "")
        ]
    if apart:
        which = f"{len(apart)} of the other intervals" if real else f"{len(apart)} of the intervals"
        lines.append(
            f"Yet {which} {'leaves' if len(apart) == 1 else 'leave'} zero out, where noise alone would make about "
            f"{max(round(LEVEL * len(tested)), 1)} of {len(tested)} do so. To be sure which: more seeds, or fewer "
            "metrics, chosen beforehand (--columns)."
        )
    return lines


def about_values(comparison: Comparison) -> list[str]:
    """Return how to read the values."""
    with_seeds = any(len(variant.runs) > 1 for variant in comparison.variants)
    return ["Values are mean ± standard deviation over seeds."] if with_seeds else []


def about_differences(comparison: Comparison, tables: Sequence[Sequence[Difference]]) -> list[str]:
    """Return how to read the intervals and marks of tables of differences."""
    differences = [difference for table in tables for difference in table]
    return [_about_intervals(comparison, differences), _about_marks(tables), _about_claims(differences)]


def _about_intervals(comparison: Comparison, differences: Sequence[Difference]) -> str:
    units = f"{comparison.unit}s"
    varies = f"{units} and seeds" if any(found.estimate.about_variants for found in differences) else f"{units} alone"
    return f"Intervals are plain 95% intervals of each difference by itself, paired, over {varies}."


def _about_marks(tables: Sequence[Sequence[Difference]]) -> str:
    sizes = [len(table) for table in tables]
    if sizes == [1]:
        return "The mark is that of a test at 5%."
    tests = f"the {sizes[0]} differences" if len(sizes) == 1 else " and ".join(map(str, sizes)) + " differences"
    each = "" if len(sizes) == 1 else ", table by table"
    return f"Marks follow Holm's procedure at 5% over {tests}{each}: they may hesitate where an interval does not."


def _about_claims(differences: Sequence[Difference]) -> str:
    claims = {found.claim for found in differences}
    takes = f"a claim about variants takes at least {SEEDS_FOR_VARIANTS} seeds a side"
    if claims == {"variants"}:
        return "Both speak of variants: of what other seeds and other users would give."
    if len(claims) == 1:
        return f"Both speak of these trained models, not of their variants: {takes}."
    return f"Both speak of variants; those with {ABOUT_MODELS} of these trained models alone: {takes}."


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _beaten_by_simple(variants: Sequence[Variant], differences: Sequence[Difference]) -> Iterator[str]:
    """Name models that are not shown to beat logistic regression everywhere; a sentence for those that fare alike."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for variant in variants:
        found = [difference for difference in differences if difference.variant is variant]
        better, worse = (tuple(one.metric for one in found if one.mark == mark) for mark in (BETTER, WORSE))
        if len(better) < len(found):
            alike.setdefault((better, worse, tuple(one.metric for one in found)), []).append(str(variant))
    for (better, worse, metrics), names in alike.items():
        verb = "is" if len(names) == 1 else "are"
        if better:
            text = f"shown to beat {LOGISTIC} in {listed(better)} alone, of {len(metrics)} metrics"
        else:
            where = metrics[0] if len(metrics) == 1 else f"any of {len(metrics)} metrics"
            text = f"not shown to beat {LOGISTIC} in {where}"
        text += f"; worse in {listed(worse)}" if worse else ""
        yield f"{listed(names)} {verb} {text}."


def _diagnosed(variants: Sequence[Variant]) -> Iterator[str]:
    """Pass on what the runs' diagnoses found, each finding once."""
    runs = [(variant, run) for variant in variants for run in variant.runs]
    holders: dict[tuple[str, ...], list[Variant]] = {}
    messages: dict[tuple[str, ...], str] = {}
    for variant, run in runs:
        for finding in (run.record.get("diagnosis") or {}).get("findings", []):
            key = (finding["kind"], *finding["subjects"])
            holders.setdefault(key, []).append(variant)
            messages.setdefault(key, finding["message"])
    for key, found in holders.items():
        if len(found) == len(runs):
            who = "all runs" if len(runs) > 1 else str(found[0])
        else:
            who = listed(
                f"{variant} ({found.count(variant)} of {len(variant.runs)} seeds)"
                if len(variant.runs) > 1
                else str(variant)
                for variant in variants
                if variant in found
            )
        yield f"in {who}: {messages[key]}"


def _selected(comparison: Comparison) -> Iterator[str]:
    selected: dict[str, list[str]] = {}
    for variant in comparison.variants:
        if on := comparison.selected_on(variant):
            selected.setdefault(on, []).append(str(variant))
    for split, names in selected.items():
        who = "all models" if len(names) == len(comparison.variants) else listed(names)
        yield f"Selected on {split}, the rows reported here, and so a little flattered: {who}."
