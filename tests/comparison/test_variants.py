"""Runs to variants: what is grouped, what tells variants apart, what a baseline's name matches."""

from pathlib import Path

import pytest

from funrec.comparison.variants import RunRecord, Variant, check_comparable, group, match_baseline, partner
from funrec.utils.errors import InputError


def run(
    name="0", model="mmoe", seed=0, overrides=(), finished="2026-01-01", tasks=("click",), source_hash="a", **config
):
    record = {
        "label": model,
        "seed": seed,
        "overrides": [f"model={model}", f"seed={seed}", *overrides],
        "config": {"seed": seed, "model": {"backbone": {"_target_": f"funrec.models.{model}.X"}}, **config},
        "finished": finished,
        "tasks": list(tasks),
        "source_hash": source_hash,
        "row_fingerprint": {"valid": "x"},
        "metrics": {},
    }
    return RunRecord(Path(name), record)


def pareto(name="1", **changes):
    return run(
        name, overrides=["weighting=pareto"], weighting={"_target_": "funrec.weighting.pareto.Pareto"}, **changes
    )


def fixed(name="0", **changes):
    return run(name, weighting={"_target_": "funrec.weighting.fixed.Fixed"}, **changes)


def test_runs_that_differ_in_seed_alone_are_one_variant():
    variants, notes = group([run("0", seed=1), run("1", seed=2), run("2", model="ple", seed=1)])
    assert [(str(variant), len(variant.runs)) for variant in variants] == [("mmoe", 2), ("ple", 1)]
    assert notes == []


def test_a_repeated_seed_counts_once_and_the_latest_run_counts():
    variants, notes = group([run("old", seed=1), run("new", seed=1, finished="2026-02-01"), run("other", seed=2)])
    assert [str(seed.path) for seed in variants[0].runs] == ["new", "other"]
    assert notes == ["1 run repeats a seed of the same variant (mmoe): the latest counts."]


def test_where_the_data_lies_and_what_is_printed_make_no_variant():
    here = run("0", seed=1, dataset={"root": "/data/kuairand", "path": "logs/a.csv"}, report={"gates": True})
    there = run("1", seed=2, dataset={"root": "../kuairand", "path": "a.csv"}, report={"gates": False})
    elsewhere = run("2", seed=3, dataset={"root": "../kuairand", "path": "b.csv"})
    assert [len(variant.runs) for variant in group([here, there, elsewhere])[0]] == [2, 1]


def test_what_was_asked_for_tells_variants_apart_and_defaults_are_spelled_out():
    variants, _ = group([fixed(), pareto()])
    assert [variant.settings for variant in variants] == [{"weighting": "fixed"}, {"weighting": "pareto"}]
    assert str(variants[1]) == "mmoe (weighting=pareto)"


def test_a_default_that_changed_between_runs_still_tells_them_apart():
    variants, _ = group([run("0", trainer={"epochs": 4}), run("1", trainer={"epochs": 6})])
    assert [variant.settings for variant in variants] == [{"trainer.epochs": "4"}, {"trainer.epochs": "6"}]


def test_seeds_that_ran_on_different_code_are_mentioned():
    _, notes = group([run("0", seed=1), run("1", seed=2, source_hash="b")])
    assert len(group([run("0", seed=1), run("1", seed=2)])[1]) == 0
    assert "different versions of funrec's code" in notes[0]


def test_a_baseline_is_a_model_a_setting_or_both():
    variants, _ = group([fixed("0"), pareto("1"), fixed("2", model="ple"), pareto("3", model="ple")])
    for name, count in (("mmoe", 2), ("weighting=fixed", 2), ("model=ple,weighting=pareto", 1)):
        assert len(match_baseline(variants, name)) == count


def test_a_baseline_that_matches_nothing_names_the_nearest():
    variants, _ = group([fixed("0"), pareto("1")])
    with pytest.raises(InputError, match=r"Received: weighting=parto\. Did you mean weighting=pareto\?"):
        match_baseline(variants, "weighting=parto")
    with pytest.raises(InputError, match=r"Did you mean mmoe\?"):
        match_baseline(variants, "mmo")


def test_of_several_baselines_like_is_compared_with_like():
    variants, _ = group([fixed("0"), pareto("1"), fixed("2", model="ple"), pareto("3", model="ple")])
    mmoe_fixed, mmoe_pareto, ple_fixed, ple_pareto = variants
    assert partner(mmoe_pareto, [mmoe_fixed, ple_fixed]) is mmoe_fixed
    assert partner(ple_pareto, [mmoe_fixed, mmoe_pareto]) is mmoe_pareto
    assert partner(Variant("esmm", []), [mmoe_fixed, ple_fixed]) is None


def test_different_tasks_are_not_compared():
    check_comparable([run(tasks=("click", "like")), run(tasks=("like", "click"))])
    with pytest.raises(InputError, match=r"0 has click; 1 has click, like"):
        check_comparable([run("0"), run("1", tasks=("click", "like"))])


def test_differently_weighted_gaucs_are_not_compared():
    with pytest.raises(InputError, match=r"one metrics.gauc_weight. 0 has impressions; 1 has none"):
        check_comparable([run("0"), run("1", metrics={"gauc_weight": "none"})])


def test_histories_that_look_back_differently_are_compared_only_if_asked():
    features = {"user": {}, "rate": {"kind": "history", "by": ["user"], "rate": "click"}}
    plain = run("0", dataset={"features": {"user": {}}, "history": {"until": "train_end"}})
    by_row, frozen = (
        run(path, dataset={"features": features, "history": {"until": until, "lag": "1d"}})
        for path, until in (("1", "row"), ("2", "train_end"))
    )
    check_comparable([plain, by_row])
    with pytest.raises(InputError, match=r"1 has until=row, lag=1d; 2 has until=train_end, lag=1d.*--mixed-history"):
        check_comparable([by_row, plain, frozen])
    check_comparable([by_row, plain, frozen], mixed_history=True)
