"""One HTML file that holds everything and asks for nothing: tables, figures, Plotly's JavaScript."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from funrec.comparison.compare import Comparison, compare_runs
from funrec.comparison.notes import about_differences, about_values, verdicts
from funrec.report.figures import Figure, Shown, colour_of, learning_curves, trade_offs
from funrec.report.fused import fused_scores
from funrec.report.run_figures import constants_of, figures_of_run
from funrec.report.studies import studies
from funrec.report.tables import comparison_table, differences_table, exposures_table, inside_table
from funrec.runs import record as records
from funrec.utils.errors import InputError
from funrec.utils.files import flatten, replacing


def write_report(
    paths: Sequence[Any], output: str | Path, baseline: str | Path | None = None, columns: Sequence[str] | None = None
) -> Comparison:
    """Write a report on finished runs to the file `output`, and return what `compare` would show; nothing is trained.

    Raises:
        InputError: If there is no finished run, or the file cannot be written.
    """
    comparison = compare_runs(paths, baseline, columns=columns)
    page = render(comparison).encode("utf-8", "replace")
    with replacing(Path(output)) as temporary:
        temporary.write_bytes(page)
    return comparison


def render(comparison: Comparison) -> str:
    """Return the page."""
    environment = Environment(loader=PackageLoader("funrec.report", "."), autoescape=True, trim_blocks=True)
    environment.filters["breakable"] = _breakable
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "ensure_ascii": False,
        "allow_nan": False,
        "sort_keys": False,
    }
    files = resources.files("funrec.report")
    return environment.get_template("page.html").render(
        sections(comparison),
        comparison=comparison,
        now=datetime.now(UTC),
        style=Markup(files.joinpath("page.css").read_text("utf-8")),
        script=Markup(files.joinpath("page.js").read_text("utf-8")),
        plotly=_packed(get_plotlyjs()),
    )


def _packed(script: str) -> str:
    """Return a script as page.js unpacks it: a page of 5 MB becomes one of 2."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def sections(comparison: Comparison) -> dict[str, Any]:
    """Return what the sections of `page.html` show, by name; the template leaves out a section without content.

    A new section is a function whose result is an entry here, such as a `Table`, and a `{% call section(...) %}` there.
    One of figures is an entry of `figures` here, by choice (a run, a pair of tasks), and a `{{ choice(...) }}` there.
    """
    shown = list(_shown(comparison))
    figures = {
        "trade": trade_offs(comparison),
        "tuning": studies(comparison),
        "fusion": fused_scores(shown),
        "curves": learning_curves(comparison, shown),
        "run": {run.name: figures_of_run(comparison, run) for run in shown},
    }
    return {
        "metrics": comparison_table(comparison),
        "about_metrics": _about_metrics(comparison),
        "differences": [
            {
                "table": differences_table(title, comparison, differences),
                "verdicts": verdicts(differences),
                "about": ["The vertical line is zero.", *about_differences(comparison, [differences])],
            }
            for title, differences in (
                ("Differences from the baseline", comparison.against_baseline),
                ("What multi-task training gains or costs each task", comparison.against_single_task),
            )
            if differences
        ],
        "exposures": exposures_table(comparison),
        "inside": inside_table(comparison),
        "data": {
            "figures": {name: _choices(found) for name, found in figures.items()},
            "legend": [
                {"name": str(variant), "colour": colour_of(place)} for place, variant in enumerate(comparison.variants)
            ],
            **_described(shown),
        },
    }


def _about_metrics(comparison: Comparison) -> list[str]:
    interval = f"Bars are 95% intervals over {comparison.unit}s, and over seeds where there are three or more"
    best = ["Bold is the best mean, which noise alone may have made."] if len(comparison.variants) > 1 else []
    return [*about_values(comparison), f"{interval}; their scale is in the last row.", *best]


def _choices(found: Mapping[str, Sequence[Figure]]) -> list[dict[str, Any]]:
    return [{"name": name, "figures": [figure.to_json() for figure in figures]} for name, figures in found.items()]


def _shown(comparison: Comparison) -> Iterator[Shown]:
    for place, variant in enumerate(comparison.variants):
        for run in variant.runs:
            try:
                history = records.read_history(run.path)
            except InputError:  # popularity has none, and a damaged one costs no more than its curves
                history = []
            yield Shown(f"{variant}, seed {run.record.get('seed')}", colour_of(place), run, variant, history)


def _described(shown: Sequence[Shown]) -> dict[str, Any]:
    """Return what is told of every run in words.

    `runs` has for each its folder, findings, versions, and the places of its configuration's lines in `lines`, which
    most runs share; `common` says of each line whether all do.
    """
    places: dict[str, int] = {}
    runs: list[dict[str, Any]] = []
    for one in shown:
        diagnosis = one.run.record.get("diagnosis") or {}
        runs.append(
            {
                "name": one.name,
                "folder": str(one.run.path),
                "findings": [finding["message"] for finding in diagnosis.get("findings", [])],
                "is_diagnosed": bool(diagnosis),
                "facts": dict([*constants_of(one), *_facts(one.run.record)]),
                "config": [
                    places.setdefault(f"{key}: {json.dumps(value, ensure_ascii=False)}", len(places))
                    for key, value in flatten(one.run.record["config"])
                ],
            }
        )
    holders = [0] * len(places)
    for run in runs:
        for place in run["config"]:
            holders[place] += 1
    return {"runs": runs, "lines": list(places), "common": [count == len(runs) for count in holders]}


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("started", "finished", "git_commit", "source_hash", "data_fingerprint", "best_epoch", "selected_on"):
        if record.get(name) is not None:
            yield name.replace("_", " "), str(record[name])
    if record.get("rows_per_second"):
        yield "training speed", f"{record['rows_per_second']:,.0f} rows/s"
    if record.get("seconds"):
        yield "seconds", ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record["seconds"].items())
    if record.get("overrides"):
        yield "overrides", " ".join(map(str, record["overrides"]))
    for name, version in (record.get("versions") or {}).items():
        yield str(name), str(version)


def _breakable(name: str) -> Markup:
    """Return a name that a narrow column may break after `_`, `.` and `=`."""
    return Markup(re.sub(r"([_.=])", r"\1<wbr>", str(escape(name))))
