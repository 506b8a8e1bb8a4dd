"""Whole comparisons of runs that were planted: who is better is known."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from runs import TASKS, noisy, planted, write_run

import funrec
from funrec.errors import InputError
from funrec.metrics import auc
from funrec.report.compare import compare, compare_runs
from funrec.run import Run

ROWS = planted(users=400)


@pytest.fixture
def sweep(tmp_path):
    """Three seeds each: mmoe knows more than shared_bottom, ple as much as shared_bottom; logistic knows most."""
    for model, noise in (("shared_bottom", 1.5), ("mmoe", 0.5), ("ple", 1.5), ("logistic", 0.3)):
        for seed in range(3):
            scores = noisy(ROWS, noise, seed + 10 * len(model))
            write_run(tmp_path / f"{model}_{seed}", ROWS, scores, model, seed)
    return tmp_path


def of(frame, model):
    return frame[frame["model"] == model].iloc[0]


def test_seeds_are_grouped_into_mean_and_standard_deviation(sweep):
    frame = funrec.compare([sweep])
    aucs = [funrec.load_run(sweep / f"mmoe_{seed}").metrics["auc_click"] for seed in range(3)]
    assert list(frame["model"]) == ["logistic", "mmoe", "ple", "shared_bottom"]
    assert list(frame["seeds"]) == [3] * 4
    assert of(frame, "mmoe")["auc_click"] == pytest.approx(np.mean(aucs))
    assert of(frame, "mmoe")["auc_click_sd"] == pytest.approx(np.std(aucs, ddof=1))


def test_a_baseline_adds_differences_intervals_and_marks(sweep):
    frame = funrec.compare(str(sweep), baseline="shared_bottom")
    mmoe, ple = of(frame, "mmoe"), of(frame, "ple")
    for metric in ("auc_click", "auc_like", "auc_macro", "gauc_click"):
        assert mmoe[f"{metric}_mark"] == "better"
        assert 0 < mmoe[f"{metric}_low"] < mmoe[f"{metric}_difference"] < mmoe[f"{metric}_high"]
        assert ple[f"{metric}_mark"] == "cannot tell"
    assert mmoe["claim"] == "recipes"
    assert mmoe["auc_click_difference"] == pytest.approx(mmoe["auc_click"] - of(frame, "shared_bottom")["auc_click"])
    assert of(frame, "shared_bottom")["baseline"] == ""


def test_one_seed_a_side_speaks_of_trained_models(sweep):
    frame = funrec.compare([sweep / "mmoe_0", sweep / "shared_bottom_*"], baseline="shared_bottom")
    assert of(frame, "mmoe")["claim"] == "trained models"


def test_the_bootstrap_gives_the_same_intervals(sweep):
    plain, resampled = (funrec.compare(sweep, baseline="ple", bootstrap=count) for count in (None, 1000))
    for metric in ("auc_click", "gauc_like", "auc_macro"):
        plain_width, width = (
            of(frame, "mmoe")[f"{metric}_high"] - of(frame, "mmoe")[f"{metric}_low"] for frame in (plain, resampled)
        )
        # 1000 resamples know a standard error to 1 / sqrt(2000) = 2.2%; the rest is second order in 400 users.
        assert width == pytest.approx(plain_width, rel=0.1)
        assert width != plain_width


def test_lower_is_better_for_a_loss(sweep):
    frame = funrec.compare(sweep, baseline="shared_bottom", columns=["log_loss_click"])
    mmoe = of(frame, "mmoe")
    assert mmoe["log_loss_click_mark"] == "better"
    assert mmoe["log_loss_click_difference"] < 0


def test_columns_without_intervals_are_shown_without(sweep):
    frame = funrec.compare(sweep, baseline="ple", columns=["ece_*", "auc_click"])
    assert {"ece_click", "ece_like", "auc_click_mark"} <= set(frame.columns)
    assert "ece_click_mark" not in frame.columns


def test_patterns_leave_out_other_splits_and_unknown_ones_name_the_nearest(sweep):
    frame = funrec.compare(sweep, columns=["auc_*"])
    assert [name for name in frame.columns if name.startswith("auc") and not name.endswith("_sd")] == [
        "auc_click",
        "auc_like",
        "auc_macro",
    ]
    with pytest.raises(InputError, match=r"No run has the metric auc_clik\. Did you mean auc_click\?"):
        funrec.compare(sweep, columns=["auc_clik"])


def test_rows_are_sorted_best_first(sweep):
    frame = funrec.compare(sweep, sort="auc_macro")
    assert list(frame["auc_macro"]) == sorted(frame["auc_macro"], reverse=True)
    losses = funrec.compare(sweep, columns=["log_loss_click"], sort="log_loss_click")["log_loss_click"]
    assert list(losses) == sorted(losses)
    with pytest.raises(InputError, match=r"Did you mean auc_macro\?"):
        funrec.compare(sweep, sort="auc_makro")


def test_a_models_failure_to_beat_logistic_is_a_warning(sweep):
    notes = funrec.compare(sweep).attrs["notes"]
    (ple,) = [note for note in notes if note.startswith("Warning: ple ")]
    assert ple.startswith("Warning: ple does not beat logistic everywhere: worse in auc_click")
    assert not [note for note in notes if "logistic does not" in note]


def test_gains_over_single_task_come_with_delta_m(tmp_path):
    for model, noise in (("single_task", 1.5), ("mmoe", 0.5), ("logistic", 1.0)):
        for seed in range(3):
            write_run(tmp_path / f"{model}_{seed}", ROWS, noisy(ROWS, noise, seed + len(model)), model, seed)
    frame = funrec.compare(tmp_path, baseline="single_task")
    ours, base = of(frame, "mmoe"), of(frame, "single_task")
    gains = [(ours[name] - base[name]) / base[name] for name in ("auc_click", "auc_like")]
    assert ours["delta_m"] == pytest.approx(np.mean(gains))
    assert 0 < ours["delta_m_low"] < ours["delta_m"] < ours["delta_m_high"]
    assert ours["delta_m_mark"] == "better"
    found = compare_runs([tmp_path], baseline="logistic")
    assert {difference.recipe.model for difference in found.against_single_task} == {"mmoe"}
    assert "delta_m" in {difference.metric for difference in found.against_single_task}


def test_delta_m_varies_over_users_as_a_bootstrap_says(tmp_path):
    for model, noise in (("single_task", 1.5), ("mmoe", 0.5)):
        write_run(tmp_path / model, ROWS, noisy(ROWS, noise, len(model)), model)
    row = of(funrec.compare(tmp_path, baseline="single_task"), "mmoe")
    random = np.random.default_rng(0)
    rows_of = [np.flatnonzero(ROWS["group"] == user) for user in range(400)]
    ours, base = noisy(ROWS, 0.5, 4), noisy(ROWS, 1.5, 11)
    resampled = []
    for _ in range(400):
        index = np.concatenate([rows_of[user] for user in random.integers(0, 400, 400)])
        labels = ROWS["labels"][index]
        pairs = [(auc(labels[:, t], ours[index, t]), auc(labels[:, t], base[index, t])) for t in range(2)]
        resampled.append(np.mean([(m - b) / b for m, b in pairs]))
    # 400 resamples know a standard error to 3.5%; four of them.
    half_width = (row["delta_m_high"] - row["delta_m_low"]) / 2
    assert half_width == pytest.approx(1.966 * np.std(resampled), rel=0.15)


def test_other_rows_are_refused_even_where_there_are_as_many(tmp_path):
    other = planted(users=400, seed=1)
    write_run(tmp_path / "a", ROWS, noisy(ROWS, 1, 0))
    write_run(tmp_path / "b", other, noisy(other, 1, 0), "ple")
    with pytest.raises(InputError, match=r"should be scored on the same rows\. .*a and .*b differ"):
        funrec.compare(tmp_path)


def test_the_order_of_tasks_does_not_make_other_rows(tmp_path):
    scores = noisy(ROWS, 1, 0)
    write_run(tmp_path / "a", ROWS, scores)
    swapped = ROWS | {"labels": ROWS["labels"][:, ::-1]}
    write_run(tmp_path / "b", swapped, scores[:, ::-1], "ple", tasks=TASKS[::-1], row_fingerprint={"valid": "other"})
    frame = funrec.compare(tmp_path, baseline="mmoe")
    assert of(frame, "ple")["auc_click_difference"] == 0
    assert of(frame, "ple")["auc_click_mark"] == "cannot tell"


def test_without_users_rows_are_the_unit(tmp_path):
    for model, noise in (("mmoe", 0.5), ("ple", 1.5)):
        write_run(tmp_path / model, ROWS, noisy(ROWS, noise, 0), model, has_users=False)
    found = compare_runs([tmp_path], baseline="ple")
    assert found.unit == "row"
    assert found.users["auc_click"] == len(ROWS["labels"])
    assert "gauc_click" not in found.metrics


def test_masked_labels_are_left_out(tmp_path):
    labels = ROWS["labels"].copy()
    labels[labels[:, 0] == 0, 1] = np.nan
    masked = ROWS | {"labels": labels}
    for model, noise in (("mmoe", 0.5), ("ple", 1.5)):
        write_run(tmp_path / model, masked, noisy(ROWS, noise, 0), model, row_fingerprint={"valid": "masked"})
    frame = funrec.compare(tmp_path, baseline="ple")
    clicked = labels[:, 0] == 1
    assert of(frame, "mmoe")["auc_like"] == pytest.approx(auc(labels[clicked, 1], noisy(ROWS, 0.5, 0)[clicked, 1]))
    assert of(frame, "mmoe")["auc_like_mark"] == "better"


def test_a_test_split_is_preferred_and_lifts_the_selection_mark(tmp_path):
    split = np.where(ROWS["group"] % 2 == 0, "valid", "test")
    for model, noise in (("mmoe", 0.5), ("ple", 1.5)):
        write_run(tmp_path / model, ROWS, noisy(ROWS, noise, 0), model, split=split, selected_on="valid")
    frame = funrec.compare(tmp_path, baseline="ple")
    assert "auc_click@test_mark" in frame.columns
    assert "auc_click" not in frame.columns
    assert of(frame, "mmoe")["selected_on"] == ""
    on_valid = funrec.compare(tmp_path, baseline="ple", columns=["auc_click"])
    assert of(on_valid, "mmoe")["selected_on"] == "valid"
    assert [note for note in on_valid.attrs["notes"] if note.startswith("Selected on valid")]
    part = split == "test"
    expected = auc(ROWS["labels"][part, 0], noisy(ROWS, 0.5, 0)[part, 0])
    assert of(frame, "mmoe")["auc_click@test"] == pytest.approx(expected)


def test_runs_may_be_given_as_objects_and_twice(sweep):
    runs = [funrec.load_run(sweep / "mmoe_0"), Run(sweep / "ple_0", {})]
    frame = funrec.compare([*runs, sweep / "mmoe_0"], baseline=str(sweep / "ple_0"))
    assert list(frame["seeds"]) == [1, 1]
    assert of(frame, "mmoe")["baseline"] == "ple"


def test_a_baseline_elsewhere_joins_the_comparison(sweep):
    frame = funrec.compare(sweep / "mmoe_*", baseline=sweep / "shared_bottom_1")
    assert sorted(frame["model"]) == ["mmoe", "shared_bottom"]


def test_unfinished_runs_are_named_and_skipped(sweep, funrec):
    (sweep / "mmoe_9").mkdir()
    (sweep / "mmoe_9" / "failure.json").write_text('{"reason": "the loss of click is NaN"}')
    done = funrec("compare", str(sweep))
    assert done.code == 0
    assert f"Skipped 1 unfinished run: {sweep / 'mmoe_9'} (failed: the loss of click is NaN)." in done.out


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
        (["{sweep}", "--bootstrap", "10"], "at least 100 resamples"),
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
    assert "They speak of recipes" in done.out


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


def test_comparing_imports_no_tensorflow(sweep):
    code = f"import sys, funrec; funrec.compare({str(sweep)!r}, baseline='ple'); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr
