"""`funrec compare`: what it says of planted runs, what it skips and what it refuses."""

import csv
import io
import subprocess
import sys

import pytest

import funrec
from funrec.comparison.compare import compare
from funrec.comparison.differences import Difference
from funrec.comparison.notes import verdicts
from funrec.comparison.significance import Estimate, mark
from funrec.comparison.variants import Variant


def test_unfinished_runs_are_named_and_skipped(sweep, funrec):
    (sweep / "mmoe_9").mkdir()
    (sweep / "mmoe_9" / "failure.json").write_text('{"reason": "the loss of click is NaN"}')
    done = funrec("compare", str(sweep))
    assert done.code == 0
    assert f"Skipped 1 unfinished run: {sweep / 'mmoe_9'} (failed: the loss of click is NaN)." in done.out


def test_of_many_unfinished_runs_ten_are_named(sweep):
    for number in range(10, 22):
        (sweep / f"mmoe_{number}").mkdir()
        (sweep / f"mmoe_{number}" / ".lock").touch()
    (note,) = [note for note in funrec.compare(sweep).attrs["notes"] if note.startswith("Skipped")]
    assert note.startswith("Skipped 12 unfinished runs: ")
    assert note.count("(interrupted)") == 10
    assert note.endswith(" and 2 more.")


def damage(kind, run):
    if kind == "record":
        (run / "record.json").write_text('{"label": "mm')
    elif kind == "fingerprint":
        text = (run / "record.json").read_text()
        (run / "record.json").write_text(text.replace("row_fingerprint", "row_fingerprints"))
    elif kind == "missing":
        (run / "predictions.parquet").unlink()
    elif kind == "truncated":
        content = (run / "predictions.parquet").read_bytes()
        (run / "predictions.parquet").write_bytes(content[: len(content) // 2])
    elif kind == "other scores":
        (run / "predictions.parquet").write_bytes((run.parent / "ple_0" / "predictions.parquet").read_bytes())


@pytest.mark.parametrize("kind", ["record", "fingerprint", "missing", "truncated", "other scores"])
def test_a_damaged_run_is_named_and_skipped_with_exit_code_1(sweep, funrec, kind):
    damage(kind, sweep / "mmoe_1")
    done = funrec("compare", str(sweep), "--baseline", "ple")
    assert done.code == 1
    (note,) = [line for line in done.out.splitlines() if line.startswith("Skipped: ")]
    assert str(sweep / "mmoe_1") in note
    assert "| mmoe " in done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere should be a run folder, a folder of runs or a glob."),
        (["{sweep}", "--baseline", "shared_botom"], "Did you mean shared_bottom?"),
        (["{sweep}", "--format", "gird"], "Did you mean grid?"),
        (["{sweep}", "--columns", "auc_clikc"], "Did you mean auc_click?"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(sweep, funrec, arguments, message):
    done = funrec("compare", *(argument.format(sweep=sweep) for argument in arguments))
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert message in done.err


def test_folders_without_a_finished_run_are_refused(tmp_path, funrec):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    done = funrec("compare", str(tmp_path))
    assert done.code == 2
    assert "run (interrupted)" in done.err


def test_the_grid_has_a_block_per_metric_and_fits_120_columns(sweep, funrec):
    done = funrec("compare", str(sweep), "--baseline", "shared_bottom")
    lines = done.out.splitlines()
    assert max(len(line) for line in lines if line.startswith(("|", "+"))) <= 120
    block = lines.index(next(line for line in lines if line.startswith("| auc_click ")))
    assert "shared_bottom" in lines[block]
    assert "baseline" in lines[block]
    assert lines[block + 1].startswith("| 400 users ")
    assert "Marks follow Holm's procedure at 5% over the 18 differences" in done.out
    assert "Both speak of variants" in done.out


def test_what_the_marks_come_to_is_said_in_words(sweep, funrec):
    done = funrec("compare", str(sweep), "--baseline", "shared_bottom", "--columns", "auc_*")
    everywhere = "is better in auc_click, auc_like and auc_macro"
    expected = f"Against shared_bottom, logistic {everywhere}; mmoe {everywhere}. Noise may explain the other 3."
    assert expected in done.out.splitlines()


def test_intervals_that_leave_zero_out_without_a_mark_are_weighed_against_chance():
    variant = Variant("mmoe", [])

    def difference(value, p):
        found = Estimate(value, value - 0.01, value + 0.01, 0.005, 9.0, p, True)
        return Difference(variant, Variant("ple", []), "auc_click", found, min(40 * p, 1), mark(value, 40 * p, True))

    noise = [difference(0.002, 0.7)] * 37
    assert verdicts([*noise, *[difference(0.011, 0.03)] * 3]) == [
        "Against ple nothing stands out from noise, in 40 differences.",
        "Yet 3 of the intervals leave zero out, where noise alone would make about 2 of 40 do so. To be sure which: "
        "more seeds, or fewer metrics, chosen beforehand (--columns).",
    ]
    first, second = verdicts([*noise, difference(-0.05, 0.0001), difference(0.05, 0.0001), difference(0.011, 0.03)])
    assert first == "Against ple, mmoe is worse in auc_click and better in auc_click. Noise may explain the other 38."
    assert second.startswith("Yet 1 of the other intervals leaves zero out")


def test_github_names_the_metric_in_every_row(sweep, funrec):
    done = funrec("compare", str(sweep), "--baseline", "ple", "--format", "github", "--columns", "auc_macro")
    rows = [line for line in done.out.splitlines() if line.startswith("| auc_macro (400 users)")]
    assert len(rows) == 4


def test_csv_holds_the_table_alone_with_every_digit(sweep, funrec):
    done = funrec("compare", str(sweep), "--baseline", "ple", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    frame = compare(sweep, baseline="ple")
    assert list(rows[0]) == list(frame.columns)
    assert float(rows[1]["auc_click_low"]) == frame["auc_click_low"][1]
    assert "Holm" in done.err


def test_latex_is_a_table(sweep, funrec):
    done = funrec("compare", str(sweep), "--format", "latex")
    assert done.out.startswith("\\begin{tabular}")
    assert done.out.rstrip().endswith("\\end{tabular}")


def test_marks_of_fewer_seeds_stand_out_in_a_mixed_table(sweep, funrec):
    done = funrec("compare", str(sweep / "mmoe_0"), str(sweep / "ple_*"), str(sweep / "shared_*"), "--baseline", "ple")
    marks = [line.split("|")[-2].strip() for line in done.out.splitlines() if "| mmoe " in line]
    assert marks
    assert all(mark.endswith("*") for mark in marks)
    assert "those with * of these trained models alone" in done.out


@pytest.mark.slow
def test_comparing_imports_no_tensorflow(sweep):
    code = f"import sys, funrec; funrec.compare({str(sweep)!r}, baseline='ple'); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr
