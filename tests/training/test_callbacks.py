"""Keras callbacks named in a configuration, and what a dry run prints."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from commands import Command

import funrec
from funrec.utils.errors import InputError

SMALL = ("dataset.rows=3000", "trainer=smoke", "model=logistic")


@pytest.mark.slow
def test_a_callback_sees_every_epoch_and_can_stop_the_training(workdir: Path) -> None:
    file = workdir / "epochs.csv"
    log = f"{{_target_: keras.callbacks.CSVLogger, filename: {file}}}"
    # No loss falls by 100, so that the second epoch is one without progress.
    stop = "{_target_: keras.callbacks.EarlyStopping, monitor: loss_is_click, min_delta: 100, patience: 1, mode: min}"
    run = funrec.run_experiment(*SMALL, "trainer.epochs=5", f"trainer.callbacks={{log: {log}, stop: {stop}}}")
    assert run.history()["epoch"].tolist() == [1, 2]
    written = list(csv.DictReader(file.read_text().splitlines()))
    assert [float(row["loss_is_click"]) for row in written] == run.history()["loss_is_click"].tolist()


def test_a_callback_must_be_one(workdir: Path) -> None:
    with pytest.raises(InputError, match=r"trainer\.callbacks\.x\._target_ should be a Callback"):
        funrec.run_experiment(*SMALL, "trainer.callbacks={x: {_target_: keras.layers.Dense, units: 3}}")


def test_what_a_callback_refuses_is_told_in_one_line(workdir: Path) -> None:
    stop = "{_target_: keras.callbacks.EarlyStopping, monitor: loss_is_click}"
    with pytest.raises(InputError, match=r"trainer\.callbacks: EarlyStopping .* isn't able to"):
        funrec.run_experiment(*SMALL, f"trainer.callbacks={{stop: {stop}}}")


def test_a_dry_run_prints_parameters_and_leaves_no_run(funrec: Command, workdir: Path) -> None:
    done = funrec("run", "--dry", "dataset.rows=3000", "model=mmoe")
    assert done.code == 0, done.err
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert {"embedding", "backbone", "towers", "all", "rows:"} <= set(lines)
    counts = {name: int(lines[name].split()[2].replace(",", "")) for name in ("embedding", "backbone", "towers", "all")}
    assert counts["embedding"] + counts["backbone"] + counts["towers"] == counts["all"]
    assert not (workdir / "outputs" / "runs").exists()


def test_a_dry_run_of_a_model_larger_than_memory_is_refused_in_one_line(funrec: Command, workdir: Path) -> None:
    done = funrec("run", "--dry", "dataset.rows=3000", "model.backbone.num_experts=1000000")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("funrec: The model should fit in memory")
    assert "unbuilt" not in done.err
