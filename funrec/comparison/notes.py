"""What the reader of a comparison should know beside its numbers: warnings, a sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from funrec.comparison.differences import Difference
from funrec.comparison.significance import BETTER, WORSE
from funrec.comparison.variants import Variant

if TYPE_CHECKING:
    from funrec.comparison.compare import Comparison


def warnings_of(comparison: Comparison, logistic: str) -> list[str]:
    """Return a comparison's warnings.

    They name models that do not beat logistic regression, what the runs' own diagnoses found, and a selection on the
    very rows that are reported.

    Args:
        comparison: The runs and their differences.
        logistic: What the logistic regression is called.
    """
    return [
        *_beaten_by_simple(comparison.variants, comparison.against_logistic, logistic),
        *_diagnosed(comparison.variants),
        *_selected(comparison),
    ]


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _beaten_by_simple(variants: Sequence[Variant], differences: Sequence[Difference], logistic: str) -> Iterator[str]:
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
            text = f"shown to beat {logistic} in {listed(better)} alone, of {len(metrics)} metrics"
        else:
            where = metrics[0] if len(metrics) == 1 else f"any of {len(metrics)} metrics"
            text = f"not shown to beat {logistic} in {where}"
        text += f"; worse in {listed(worse)}" if worse else ""
        yield f"Warning: {listed(names)} {verb} {text}."


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
        yield f"Warning: in {who}: {messages[key]}"


def _selected(comparison: Comparison) -> Iterator[str]:
    selected: dict[str, list[str]] = {}
    for variant in comparison.variants:
        if on := comparison.selected_on(variant):
            selected.setdefault(on, []).append(str(variant))
    for split, names in selected.items():
        who = "all models" if len(names) == len(comparison.variants) else listed(names)
        yield f"Selected on {split}, the rows reported here, and so a little flattered: {who}."
