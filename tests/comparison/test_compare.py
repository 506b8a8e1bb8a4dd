"""Whole comparisons of runs that were planted: who is better is known."""

import json

import numpy as np
import pytest
from runs import TASKS, noisy, planted, write_run

import funrec
import funrec as package
from funrec.comparison.compare import compare, compare_runs
from funrec.comparison.text import comparison_tables, exposures
from funrec.experiment.run import Run
from funrec.metrics import TaskRows, auc, evaluate
from funrec.metrics.ranking import NDCGAtK
from funrec.utils.errors import InputError

ROWS = planted(users=400)


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
    assert mmoe["claim"] == "variants"
    assert mmoe["auc_click_difference"] == pytest.approx(mmoe["auc_click"] - of(frame, "shared_bottom")["auc_click"])
    assert of(frame, "shared_bottom")["baseline"] == ""


def test_one_seed_a_side_speaks_of_trained_models(sweep):
    frame = funrec.compare([sweep / "mmoe_0", sweep / "shared_bottom_*"], baseline="shared_bottom")
    assert of(frame, "mmoe")["claim"] == "trained models"


def test_lower_is_better_for_a_loss(sweep):
    frame = funrec.compare(sweep, baseline="shared_bottom", columns=["log_loss_click"])
    mmoe = of(frame, "mmoe")
    assert mmoe["log_loss_click_mark"] == "better"
    assert mmoe["log_loss_click_difference"] < 0


def test_columns_without_intervals_are_shown_without(sweep):
    frame = funrec.compare(sweep, baseline="ple", columns=["ratio_*", "auc_click"])
    assert {"ratio_click", "ratio_like", "auc_click_mark"} <= set(frame.columns)
    assert "ratio_click_mark" not in frame.columns


def test_a_metric_without_influence_values_is_bootstrapped(sweep):
    frame = funrec.compare(sweep, baseline="ple", columns=["pr_auc_click"])
    row = of(frame, "logistic")
    assert row["pr_auc_click_low"] < row["pr_auc_click_difference"] < row["pr_auc_click_high"]
    by_auc = of(funrec.compare(sweep, baseline="ple", columns=["auc_click"]), "logistic")
    assert row["pr_auc_click_mark"] == by_auc["auc_click_mark"] == "better"


def test_a_metric_that_some_runs_did_not_record_is_measured_from_their_scores(tmp_path):
    extra = {"ndcg_at_k": {"_target_": "funrec.metrics.ranking.NDCGAtK", "k": 3, "users": "both_labels"}}
    asked = {"gauc_weight": "impressions", "extra": extra}
    scores = [noisy(ROWS, noise, 0) for noise in (0.3, 2.0)]
    ndcg = [NDCGAtK(3).value(TaskRows(ROWS["labels"][:, 0], each[:, 0], ROWS["group"])) for each in scores]
    plain = write_run(tmp_path / "plain", ROWS, scores[1], "ple")
    recorded = json.loads((plain / "record.json").read_text())
    write_run(
        tmp_path / "asked",
        ROWS,
        scores[0],
        overrides=["model=mmoe", "metrics/extra=[ndcg_at_k]", "metrics.extra.ndcg_at_k.k=3"],
        config=recorded["config"] | {"model": {"name": "mmoe"}, "metrics": asked},
        metrics=recorded["metrics"]
        | evaluate(TASKS, ROWS["labels"], scores[0], groups=ROWS["group"]).metrics
        | {"ndcg_at_3_click": ndcg[0]},
    )
    text = comparison_tables(compare_runs([tmp_path], baseline="ple", columns=["ndcg_at_3_click"]))
    assert f"{ndcg[0]:.4f}" in text and f"{ndcg[1]:.4f}" in text
    assert f"{ndcg[0] - ndcg[1]:+.4f}" in text
    assert "metrics" not in text.splitlines()[1]


def test_nothing_to_compare_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^There should be a finished run\. Received: none\.$"):
        compare()


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
    (warning,) = [note for note in notes if "ple" in note]
    assert warning == (
        "Warning: ple is not shown to beat logistic in any of 4 metrics; "
        "worse in auc_click, auc_like, gauc_click and gauc_like."
    )
    assert sum("not shown to beat" in note for note in notes) == 3


def test_a_model_that_beats_logistic_in_part_is_told_where(tmp_path):
    for model, noises in (("logistic", (1.5, 0.5)), ("mmoe", (0.5, 0.5))):
        for seed in range(3):
            scores = np.stack([noisy(ROWS, noise, seed + len(model))[:, t] for t, noise in enumerate(noises)], axis=1)
            write_run(tmp_path / f"{model}_{seed}", ROWS, scores, model, seed)
    notes = funrec.compare(tmp_path).attrs["notes"]
    assert notes == ["Warning: mmoe is shown to beat logistic in auc_click and gauc_click alone, of 4 metrics."]


def test_what_the_runs_diagnoses_found_is_passed_on_once(tmp_path):
    swapped = {"kind": "swapped", "subjects": ["click", "like"], "message": "the heads are swapped. Check the labels."}
    unknown = {"kind": "out_of_vocabulary", "subjects": ["tag"], "message": "tags are new. Check the split."}
    for place, (model, seed) in enumerate([("mmoe", 0), ("mmoe", 1), ("ple", 0)]):
        findings = [unknown, swapped] if place == 1 else [unknown]
        scores = noisy(ROWS, 1, place)
        write_run(tmp_path / str(place), ROWS, scores, model, seed, diagnosis={"findings": findings})
    assert funrec.compare(tmp_path).attrs["notes"] == [
        "Warning: in all runs: tags are new. Check the split.",
        "Warning: in mmoe (1 of 2 seeds): the heads are swapped. Check the labels.",
    ]


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
    assert {difference.variant.model for difference in found.against_single_task} == {"mmoe"}
    assert "delta_m" in {difference.metric for difference in found.against_single_task}


def test_columns_that_were_named_are_tested_alone(tmp_path):
    for model, noise in (("single_task", 1.5), ("mmoe", 0.5)):
        write_run(tmp_path / model, ROWS, noisy(ROWS, noise, len(model)), model)
    for columns, expected in ((["auc_click"], {"auc_click"}), (["auc_click", "delta_m"], {"auc_click", "delta_m"})):
        found = compare_runs([tmp_path], baseline="single_task", columns=columns)
        assert {difference.metric for difference in found.against_baseline} == expected


def test_a_baseline_alone_is_told_to_be_alone(sweep):
    frame = funrec.compare(sweep / "mmoe_*", baseline="mmoe")
    assert frame.attrs["notes"] == ["Nothing to compare with mmoe: there is no other run, or no interval."]


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
    assert found.users["auc_click"] == (len(ROWS["labels"]), len(ROWS["labels"]))
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


@pytest.fixture
def exposed(tmp_path):
    """Two seeds each, a third of the rows exposed at random."""
    split = np.where(ROWS["group"] % 3 == 0, "random", "valid")
    for model, noise in (("mmoe", 0.5), ("ple", 1.5)):
        for seed in range(2):
            write_run(tmp_path / f"{model}_{seed}", ROWS, noisy(ROWS, noise, seed), model, seed, split=split)
    return tmp_path


def test_random_exposure_stands_beside_standard_exposure_with_the_difference(exposed, funrec):
    done = funrec("compare", str(exposed), "--columns", "auc_click,val_user_like")
    table = done.out.partition("Random exposure beside standard exposure:")[2]
    (line,) = (line for line in table.splitlines() if " mmoe " in line)
    standard, random, difference = (float(cell.split("±")[0]) for cell in line.split("|")[3:6])
    runs = [package.load_run(exposed / f"mmoe_{seed}").metrics for seed in range(2)]
    assert standard == pytest.approx(np.mean([run["auc_click"] for run in runs]), abs=5e-5)
    assert random == pytest.approx(np.mean([run["auc_click@random"] for run in runs]), abs=5e-5)
    assert difference == pytest.approx(random - standard, abs=1.1e-4)
    assert "val_user" not in table


def test_runs_may_be_compared_on_random_exposure_alone(exposed):
    found = compare_runs([exposed], baseline="ple", columns=["auc_click@random"])
    assert [difference.metric for difference in found.against_baseline] == ["auc_click@random"]
    assert not exposures(found)


def test_without_random_exposure_there_is_no_such_table(sweep, funrec):
    assert "Random exposure" not in funrec("compare", str(sweep)).out


def test_a_notebook_shows_the_table_and_the_sentences_with_every_name_as_text(tmp_path):
    for model, noise in (("<b>mmoe</b>", 0.5), ("ple", 1.5)):
        write_run(tmp_path / model.strip("</b>"), ROWS, noisy(ROWS, noise, 0), model)
    for baseline in (None, "ple"):
        shown = compare_runs([tmp_path], baseline)._repr_html_()
        assert shown.startswith("<table>")
        assert "&lt;b&gt;mmoe&lt;/b&gt;" in shown
        assert "<b>" not in shown
    assert "<li>Against ple, &lt;b&gt;mmoe" in shown
    run = package.load_run(tmp_path / "mmoe")
    assert f"{run.metrics['auc_click']:.4f}" in run._repr_html_()
    assert "<b>" not in run._repr_html_()
