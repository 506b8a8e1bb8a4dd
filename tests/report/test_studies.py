"""The report's part on tuning: drawn from a study's own words, and silent where there are none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import noisy, planted, write_run

from funrec.comparison.compare import compare_runs

for library in ("plotly", "jinja2"):
    pytest.importorskip(library, reason='needs Plotly and Jinja2: pip install "funrec-lab[report]"')

from funrec.report.page import write_report  # noqa: E402
from funrec.report.studies import studies  # noqa: E402

ROGUE = "<script>alert('x')</script>"


def trial(number: int, value: float, state: str = "finished") -> dict[str, Any]:
    values = [value] if state == "finished" else []
    return {"number": number, "state": state, "values": values, "params": {f"key {ROGUE}": f"{ROGUE} {number}"}}


def write_study(folder: Path, direction: str = "max", **changes: Any) -> Path:
    rows = planted()
    for number in (0, 1):
        write_run(folder / str(number), rows, noisy(rows, 1.0, number), seed=number)
    story = {
        "objectives": {"auc_click": direction},
        "trials": [trial(0, 0.70), trial(1, 0.72), trial(2, 0.0, "pruned"), trial(3, 0.0, "failed"), trial(4, 0.71)],
        "importance": {"auc_click": {"optimizer.learning_rate": 0.7, ROGUE: 0.3}},
    }
    (folder / "trials.json").write_text(json.dumps(story | changes))
    return folder


def found(study: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of the one study, and its figures as the page has them."""
    ((name, figures),) = studies(compare_runs([study])).items()
    return name, json.loads(json.dumps([figure.to_json() for figure in figures]))


def test_a_study_is_drawn_with_its_best_so_far(tmp_path: Path) -> None:
    (name, figures) = found(write_study(tmp_path / "study"))
    history, importance = figures
    points, best = history["data"]
    assert name == "study"
    assert (points["x"], points["y"], best["y"]) == ([0, 1, 4], [0.7, 0.72, 0.71], [0.7, 0.72, 0.72])
    assert points["marker"]["symbol"] == ["diamond", "circle", "circle"]
    assert "the best is 0.7200 of trial 1, and 0.7000 of trial 0" in history["alt"]
    assert "1 pruned, 1 failed" in history["note"]
    assert importance["data"][0]["x"] == [0.7, 0.3]
    assert importance["alt"] == "Most important for auc_click: optimizer.learning_rate."


def test_less_is_better_where_the_study_says_so(tmp_path: Path) -> None:
    _, figures = found(write_study(tmp_path / "study", "min"))
    assert list(figures[0]["data"][1]["y"]) == [0.7, 0.7, 0.7]


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    _, figures = found(write_study(tmp_path / "study"))
    shown = json.dumps([figure["data"] for figure in figures])
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown


def test_runs_without_a_study_have_no_such_part(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    (study / "trials.json").unlink()
    assert studies(compare_runs([study])) == {}


@pytest.mark.parametrize("damaged", ["{", "[]", '{"trials": [], "objectives": {"auc_click": "max"}}'])
def test_a_damaged_story_costs_no_more_than_its_figures(tmp_path: Path, damaged: str) -> None:
    study = write_study(tmp_path / "study")
    (study / "trials.json").write_text(damaged)
    assert studies(compare_runs([study])) == {}


def test_the_page_has_the_part(tmp_path: Path) -> None:
    write_report([write_study(tmp_path / "study")], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["figures"]["tuning"][0]["name"] == "study"
    assert 'data-choice="tuning"' in page
