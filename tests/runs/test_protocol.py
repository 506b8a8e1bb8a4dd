"""Public protocols: their files, the rows they ask for, and their metrics against an independent implementation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import Command
from numpy.typing import NDArray
from runs import planted, write_run
from tables import write_kuairand

from funrec.comparison.compare import compare_runs
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.prepare import prepare
from funrec.metrics import build_metrics, evaluate
from funrec.runs.protocol import check_rows, read_protocol, render_published
from funrec.utils.errors import InputError

PROTOCOLS = sorted(
    file.stem for file in (Path(__file__).parents[2] / "conf" / "protocol").glob("*.yaml") if file.stem[0] != "_"
)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_says_where_its_figures_are_from_and_calls_them_as_runs_do(name: str) -> None:
    config = compose([f"protocol={name}"])
    protocol = read_protocol(config)
    assert protocol is not None and protocol.name == name
    assert len(protocol.source) > 10 and protocol.comparable.endswith(".")
    metrics = {metric.name for metric in build_metrics(config["metrics"])}
    tasks = [*config["dataset"]["tasks"], *(f"{task}_given_click" for task in config["dataset"]["tasks"])]
    known = {f"{metric}_{task}{split}" for metric in metrics for task in tasks for split in ("", "@test")}
    for figures in protocol.published.values():
        assert set(figures) <= known
        assert all(0.4 < value < 1 for value in figures.values())


def test_rows_that_differ_are_said_in_one_line_and_rounded_ones_may_lie_between() -> None:
    config = {"protocol": {"name": "mine", "rows": {"train": 70, "valid": [15, 24]}}}
    check_rows(config, {"train": 70, "valid": 15})
    with pytest.raises(InputError, match=r"protocol=mine should have 70 rows in the split train. Received: 71\."):
        check_rows(config, {"train": 71, "valid": 15})
    with pytest.raises(InputError, match=r"should have 15 to 24 rows in the split valid. Received: 0\. Complete"):
        check_rows(config, {"train": 70})
    with pytest.raises(InputError, match=r"protocol.row: no such key. Did you mean rows"):
        check_rows({"protocol": {"name": "mine", "row": {}}}, {})


def test_a_run_is_shown_above_the_published_figures() -> None:
    protocol = {"name": "mine", "source": "here", "comparable": "So it is.", "published": {"fm": {"auc_click": 0.5}}}
    shown = render_published(
        [{"label": "mmoe", "metrics": {"auc_click": 0.75, "auc_like": 0.6}, "config": {"protocol": protocol}}]
    )
    assert [line.split("|")[1:-1] for line in shown.splitlines() if "0." in line] == [
        [" mmoe           ", "      0.7500 "],
        [" fm (published) ", "      0.5000 "],
    ]
    assert shown.endswith("mine: So it is. Source: here")


def test_a_comparison_and_a_sweep_of_two_protocols_are_refused(tmp_path: Path, funrec: Command) -> None:
    rows = planted()
    config: dict[str, Any] = {"seed": 0, "model": {}, "dataset": {}, "metrics": {}}
    for name in ("none", "mine"):
        protocol = None if name == "none" else {"name": name}
        write_run(tmp_path / name, rows, rows["signal"], config={**config, "protocol": protocol})
    with pytest.raises(InputError, match=r"follow one protocol. Received: mine for .*mine, none for .*none. Compare"):
        compare_runs([tmp_path / "mine", tmp_path / "none"])
    both = "protocol=techjam2026_track2,kuairand_1k_stem"
    done = funrec("run", "-m", both, f"hydra.sweep.dir={tmp_path}/sweep", "hydra.sweep.subdir=${hydra.job.num}")
    assert done.code == 2
    assert "Received: techjam2026_track2 for 0, kuairand_1k_stem for 1. Compare them separately." in done.err


def auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)


def ndcg_at_5(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    discounts = 1 / np.log2(np.arange(2, 7))[: labels.size]
    ranked, best = labels[np.argsort(-scores)][:5], np.sort(labels)[::-1][:5]
    return float(ranked @ discounts / (best @ discounts)) if labels.any() else 0.0


def check_techjam(root: Path, cache: Path) -> None:
    """Compare a test split's metrics with those of its raw rows."""
    split = ["dataset.split.valid_from=20220501", "dataset.split.test_from=20220503"]
    config = compose(["protocol=techjam2026_track2", f"dataset.root={root}", *split])
    config["dataset"]["features"] = {"user_id": {}}
    data = prepare(build(config["dataset"], Dataset, "dataset"), cache)
    rows, tasks = data.splits["test"], [task.name for task in data.tasks]
    scores = np.random.default_rng(0).permutation(len(rows)).astype(np.float32)
    found = evaluate(
        data.tasks,
        rows.labels,
        np.stack([scores] * len(tasks), axis=1),
        metrics=build_metrics(config["metrics"]),
        groups=rows.groups,
        suffix="@test",
    ).metrics
    raw = pl.concat([pl.read_csv(file) for file in sorted((root / "data").glob("log_standard_*.csv"))])
    raw = raw.filter(pl.col("date") >= 20220503)
    order = np.argsort(raw["user_id"].to_numpy(), kind="stable")
    users, labels, own = raw["user_id"].to_numpy()[order], raw["long_view"].to_numpy()[order], scores[order]
    parts = [slice(start, stop) for start, stop in pairwise(np.flatnonzero(np.diff(users, prepend=-1, append=-1)))]
    mixed = [part for part in parts if 0 < labels[part].sum() < labels[part].size]
    positives = [labels[part].sum() for part in mixed]
    gauc = np.average([auc(labels[part], own[part]) for part in mixed], weights=positives)
    ndcg = np.mean([ndcg_at_5(labels[part], own[part]) for part in parts])
    assert found["gauc_long_view@test"] == pytest.approx(gauc, abs=1e-12)
    assert found["ndcg_at_5_all_long_view@test"] == pytest.approx(ndcg, abs=1e-12)
    assert 0 < len(mixed) < sum(labels[part].any() for part in parts) < len(parts)  # users of every kind


def test_techjam_metrics_equal_an_independent_implementation_on_a_generated_log(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    for file in (root / "data").glob(
        "log_standard_*.csv"
    ):  # users of each kind: without a positive, and with nothing else
        label = pl.when(pl.col("user_id") < 3).then(0).when(pl.col("user_id") == 3).then(1).otherwise("long_view")
        pl.read_csv(file).with_columns(long_view=label).write_csv(file)
    check_techjam(root, tmp_path / "cache")


@pytest.mark.slow
def test_techjam_metrics_equal_an_independent_implementation_on_kuairand(shared_data: Path, tmp_path: Path) -> None:
    check_techjam(shared_data / "kuairand_pure_sample", tmp_path / "cache")
