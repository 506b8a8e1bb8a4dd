"""The report: one file that opens offline, in a real browser, with every name as text."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command
from pages import GATES, ROGUE, data_of, figures_of, history, write_full_run
from runs import noisy, planted, write_run

from funrec.comparison.compare import compare_runs
from funrec.runs import record
from funrec.utils.errors import InputError

for library in ("plotly", "jinja2"):
    pytest.importorskip(library, reason='needs Plotly and Jinja2: pip install "funrec-lab[report]"')

from funrec.report.figures import axis_range, pareto_front, plain, widest_interval  # noqa: E402
from funrec.report.page import write_report  # noqa: E402
from funrec.report.run_figures import FEW_ROWS, GREY  # noqa: E402

# The file


def test_names_are_text_never_markup(page: Path) -> None:
    from plotly.offline import get_plotlyjs

    text = page.read_text()
    assert get_plotlyjs()[:100] not in text  # it is compressed
    assert ROGUE not in text
    assert "<b>bold</b>" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
    assert len(re.findall(r"</script", text)) == 3


def test_nothing_is_asked_of_the_network(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", text)


def test_every_figure_has_words_and_data(page: Path) -> None:
    figures = [
        figure for choices in data_of(page)["figures"].values() for choice in choices for figure in choice["figures"]
    ]
    assert all(figure["data"] and len(figure["alt"]) > 20 and figure["title"] for figure in figures)
    titles = {figure["title"] for figure in figures}
    assert {"Every head on every task's labels", "Reliability", "Gate utilisation", "Task weights", "Slices"} <= titles
    assert {"Gradient cosines", "auc_like against auc_click", "click", "like"} <= titles


def test_each_run_has_its_whole_configuration_and_versions(page: Path, runs: Path) -> None:
    data = data_of(page)
    (run,) = (run for run in data["runs"] if run["folder"] == str(runs / "mmoe_1"))
    shown = dict(data["lines"][place].split(": ", 1) for place in run["config"])
    assert {key: json.loads(value) for key, value in shown.items()} == leaves(record.read(runs / "mmoe_1")["config"])
    assert (run["facts"]["tensorflow"], run["facts"]["python"]) == ("2.21", "3.11")


def leaves(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def test_a_number_that_is_none_is_no_number(page: Path) -> None:
    (matrix,) = (f for f in data_of(page)["figures"]["run"][0]["figures"] if f["title"].startswith("Every head"))
    assert matrix["data"][0]["z"] == [[0.8, 0.6], [0.55, None]]


def test_fifty_runs_fit_into_three_megabytes(tmp_path: Path) -> None:
    rows = planted(users=30)
    for seed in range(50):
        write_full_run(tmp_path / str(seed), rows, seed, epochs=30, weighting=f"w{seed % 10}")
    write_report([tmp_path], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_a_closer_look_makes_no_other_variant(tmp_path: Path) -> None:
    """Slices asked for in one seed alone leave three seeds of one variant."""
    rows = planted()
    for seed in range(3):
        run = write_full_run(tmp_path / str(seed), rows, seed)
        saved = record.read(run)
        saved["config"]["metrics"] = {"gauc_weight": "impressions", "slices": ["tab"] if seed else []}
        saved["overrides"] = ["metrics.slices=[tab]", "report.slices=true"] if seed else []
        record.write(run, saved)
    found = write_report([tmp_path], tmp_path / "report.html")
    assert [(variant.model, len(variant.runs), variant.settings) for variant in found.variants] == [("mmoe", 3, {})]


def test_an_older_record_draws_what_it_has(tmp_path: Path) -> None:
    rows = planted()
    write_run(tmp_path / "run", rows, noisy(rows, 1, 0))
    write_report([tmp_path], tmp_path / "report.html")
    data = data_of(tmp_path / "report.html")
    assert data["figures"]["curves"] == []
    assert not data["runs"][0]["is_diagnosed"]


def test_the_pareto_front_is_what_nothing_beats_in_both() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 3.0), (0.0, 0.0), (3.0, 1.0)]
    assert pareto_front(points) == [0, 1, 3]
    assert pareto_front(points, (-1, 1)) == [4, 0]
    assert pareto_front([(1.0, 1.0), (1.0, 1.0)]) == [0, 1]


# Noise is not drawn as structure


def test_an_axis_is_as_wide_as_its_values_and_at_least_as_wide_as_asked() -> None:
    assert axis_range([0.70, 0.71], least=0.1) == pytest.approx([0.649, 0.761])
    low, high = axis_range([0.5, 0.9], least=0.1)
    assert low < 0.5 < 0.9 < high
    assert axis_range([0.7, 0.7]) is None


def test_axes_hold_whole_intervals(page: Path, runs: Path) -> None:
    comparison = compare_runs([runs])
    width = widest_interval(comparison, "auc_click")
    (trade,) = figures_of(page, "trade").values()
    for axis, metric in (("xaxis", "auc_click"), ("yaxis", "auc_like")):
        low, high = trade["layout"][axis]["range"]
        ends = [found for (_, name), found in comparison.measured.items() if name == metric]
        assert low < min(found.low for found in ends)
        assert high > max(found.high for found in ends)
    for figure in figures_of(page, "curves").values():
        low, high = figure["layout"]["yaxis"]["range"]
        assert high - low > width


def test_a_constant_is_told_in_words_and_not_drawn(tmp_path: Path) -> None:
    rows = planted()
    run = write_full_run(tmp_path / "run", rows, 0, gates=[{**gate, "weight": [0.499, 0.501]} for gate in GATES])
    constant = [{**row, "weight_click": 1.0, "weight_like": 0.5} for row in history(4, 0)]
    record.write_history(run, constant)
    write_report([run], tmp_path / "report.html")
    titles = set(figures_of(tmp_path / "report.html", "run"))
    assert "Gradient cosines" in titles
    assert not titles & {"Task weights", "Gate utilisation"}
    facts = data_of(tmp_path / "report.html")["runs"][0]["facts"]
    assert facts["task weights"] == "click 1.0000, like 0.5000, in every epoch"
    assert facts["gates"] == "every mean weight is between 0.499 and 0.501"


def test_slices_of_few_rows_are_grey_and_have_wider_bars(tmp_path: Path) -> None:
    parts = [
        {"split": "valid", "slice": "user", "value": value, "rows": rows, "metrics": {"auc_click": 0.7}}
        for value, rows in (("known", FEW_ROWS), ("cold", FEW_ROWS - 1))
    ]
    rows = planted()
    run = write_full_run(tmp_path / "run", rows, 0, slices=parts)
    write_report([run], tmp_path / "report.html")
    figure = figures_of(tmp_path / "report.html", "run")["Slices"]
    (trace,) = figure["data"]
    known, cold = trace["error_x"]["arrayminus"]
    colours = trace["marker"]["color"]
    assert (colours[0] == GREY, colours[1] == GREY) == (False, True)
    assert [GREY in name for name in figure["layout"]["yaxis"]["ticktext"]] == [False, True]
    comparison = compare_runs([run])
    (error,) = (found.standard_error for (_, name), found in comparison.measured.items() if name == "auc_click")
    assert known == pytest.approx(1.96 * error * np.sqrt((2 * FEW_ROWS - 1) / FEW_ROWS), abs=1e-4)
    assert cold >= known


def test_the_axis_of_slices_holds_every_point_and_the_bars_of_large_slices(tmp_path: Path) -> None:
    parts = [
        {"split": "valid", "slice": "user", "value": value, "rows": rows, "metrics": {"auc_click": auc}}
        for value, rows, auc in (("known", 10_000, 0.7), ("cold", 20, 0.9))
    ]
    rows = planted()
    run = write_full_run(tmp_path / "run", rows, 0, slices=parts)
    write_report([run], tmp_path / "report.html")
    figure = figures_of(tmp_path / "report.html", "run")["Slices"]
    low, high = figure["layout"]["xaxis"]["range"]
    (below, _), (above, beyond) = (figure["data"][0]["error_x"][side] for side in ("arrayminus", "array"))
    assert low < 0.7 - below < 0.7 + above < high
    assert 0.9 < high < 0.9 + beyond


def test_bars_have_a_scale_that_holds_their_intervals(page: Path, runs: Path) -> None:
    scales = re.findall(r'<span class="scale"><span>(.*?)</span><span>(.*?)</span></span>', page.read_text())
    found = [estimate for (_, name), estimate in compare_runs([runs]).measured.items() if name == "auc_click"]
    low, high = map(float, scales[0])
    assert low <= min(estimate.low for estimate in found)
    assert high >= max(estimate.high for estimate in found)


# Markup


def test_plotly_would_read_markup_and_is_given_none() -> None:
    assert plain("<b>a</b> & b") == "&lt;b&gt;a&lt;/b&gt; &amp; b"


# The command


def test_the_command_writes_the_file_and_says_where(runs: Path, workdir: Path, funrec: Command) -> None:
    done = funrec("report", str(runs), "-o", "out.html")
    assert done.code == 0, done.err
    assert done.out == "out.html\n"
    assert (workdir / "out.html").stat().st_size > 1_000_000


def test_without_plotly_one_line_says_what_to_install(
    runs: Path, workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("funrec.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    done = funrec("report", str(runs))
    assert done.code == 2
    assert done.err == 'funrec: funrec report should find Plotly. It is missing: pip install "funrec-lab[report]".\n'


def test_no_run_and_no_folder_are_refused(workdir: Path, runs: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        write_report(["nowhere"], "report.html")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([runs], workdir / "missing" / "report.html")


def test_what_the_parts_do_has_a_table_of_its_own(tmp_path: Path) -> None:
    rows = planted()
    part = {"tower": "click", "network": 0.01, "wide": 0.81, "covariance": 0.0}
    inside = {
        "logits": [part],
        "gate_costs": {"rows": {"click": 0.0, "like": -0.002}},
        "experts": [],
        "shared_gradient_norms": {"click": 0.1},
    }
    gates = [{**gate, "deviation": [0.02, 0.04], "num_shared": 2} for gate in GATES]
    write_run(tmp_path / "0", rows, noisy(rows, 1.0, 0), model="mmoe + linear", inside=inside, gates=gates)
    write_run(tmp_path / "1", rows, noisy(rows, 1.0, 1), model="shared_bottom")
    write_report([tmp_path], tmp_path / "out.html")
    table = (tmp_path / "out.html").read_text().partition("What the parts of the models do")[2].partition("</table>")[0]
    for value in ("11.0%", "0.0300", "-0.0020"):
        assert value in table


def test_a_fused_run_has_a_section_with_its_pareto_front(tmp_path: Path) -> None:
    fuse = pytest.importorskip("funrec.fusion.fuse", reason='needs Optuna: pip install "funrec-lab[tune]"').fuse
    rows = planted(users=60)
    write_run(tmp_path / "plain", rows, noisy(rows, 1.0, 1), seed=1)
    found = fuse(write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0)), "gauc_click + gauc_like", trials=12)
    write_report([tmp_path], tmp_path / "page.html")
    (choice,) = data_of(tmp_path / "page.html")["figures"]["fusion"]
    differences, front = choice["figures"]
    assert choice["name"].endswith("seed 0") and found.formula in differences["title"]
    assert front["title"] == "gauc_like against gauc_click, by weights"
    assert len(front["data"][0]["x"]) == len(found.front)


def test_random_exposure_has_a_table_of_its_own(tmp_path: Path) -> None:
    rows = planted()
    split = np.where(rows["group"] % 3 == 0, "random", "valid")
    write_run(tmp_path / "run", rows, noisy(rows, 1, 0), split=split)
    write_report([tmp_path], tmp_path / "out.html")
    metrics = record.read(tmp_path / "run")["metrics"]
    table = (tmp_path / "out.html").read_text().partition("Random exposure beside standard exposure")[2]
    assert f"<span>{metrics['auc_click@random']:.4f}</span>" in table
    assert f"({metrics['auc_click@random'] - metrics['auc_click']:+.4f})" in table


def test_a_calibrated_run_shows_ratios_before_and_after(tmp_path: Path) -> None:
    parts = [
        {"split": "valid", "slice": "tab", "value": str(tab), "task": "click", "rows": 600 + tab, "ratio": [1.3, 1.02]}
        for tab in range(3)
    ]
    few = {**parts[0], "value": "rare", "rows": FEW_ROWS - 1, "ratio": [9.0, 9.0]}
    rows = planted(users=60)
    found = {"method": "platt", "by": "tab", "own_curves": {}, "metrics": {}, "slices": [*parts, few]}
    write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0), calibration=found)
    write_report([tmp_path], tmp_path / "page.html")
    figure = figures_of(tmp_path / "page.html", "run")["Predicted over observed by slice"]
    assert [trace["x"] for trace in figure["data"]] == [[1, 1], [1.3] * 3, [1.02] * 3]
