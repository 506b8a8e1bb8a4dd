"""One HTML file that holds everything and asks for nothing: tables, figures, Plotly's JavaScript."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from funrec.comparison.compare import Comparison, compare_runs
from funrec.comparison.text import (
    about_values,
)
from funrec.report.html_tables import comparison_table, differences_section, exposures_section, notes_list, section
from funrec.report.pages import figures_of, runs_of
from funrec.utils.errors import InputError
from funrec.utils.files import replacing

#: Nothing but what is in the file: a report never asks the network for anything.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


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
    runs = sum(len(variant.runs) for variant in comparison.variants)
    count = f"{runs} run{'s' * (runs != 1)}, {len(comparison.variants)} variant{'s' * (len(comparison.variants) != 1)}"
    data = {"figures": figures_of(comparison), **runs_of(comparison)}
    body = [
        f"<header><h1>funrec report</h1><p>{count} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</p></header>",
        "<main>",
        section("Comparison", comparison_table(comparison), _notes(comparison)),
        differences_section("Differences from the baseline", comparison, comparison.against_baseline),
        differences_section(
            "What multi-task training gains or costs each task", comparison, comparison.against_single_task
        ),
        exposures_section(comparison),
        _choice("trade", "Task against task", "Pair of tasks"),
        _choice("tuning", "Tuning", "Study"),
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


def _choice(key: str, title: str, label: str) -> str:
    """Return a section whose figures `page.js` draws, for one of several choices."""
    return (
        f'<section data-choice="{key}" hidden><h2>{escape(title)}</h2><label>{escape(label)} '
        f'<select></select></label><div class="about"></div><div class="figures"></div>'
        '<div class="more"></div></section>'
    )


def _notes(comparison: Comparison) -> str:
    interval = f"Bars are 95% intervals over {comparison.unit}s, and over seeds where there are three or more."
    best = ["Bold is the best mean, which noise alone may have made."] if len(comparison.variants) > 1 else []
    return notes_list([*about_values(comparison), interval, *best, *comparison.notes])
