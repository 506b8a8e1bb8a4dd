"""One run, from a configuration to a record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import cache_folder
from funrec.data.preparation.prepare import prepare
from funrec.data.slicing import read_columns
from funrec.experiment.baselines import baseline_configs, baseline_folder, has_network, is_popularity, train_baseline
from funrec.experiment.calibration import CALIBRATE, build_calibration, calibrate, measure_calibration
from funrec.experiment.diagnosis import diagnose
from funrec.experiment.evaluation import (
    Scored,
    describe_group_means,
    evaluate_oracle,
    evaluate_scored,
    measure_reliability,
    measure_slices,
    write_scored,
)
from funrec.experiment.run import Attempt, EpochHook, Run, load_run
from funrec.experiment.settings import check_settings
from funrec.experiment.start import describe_seen, find_start
from funrec.experiment.team import run_in_team, size_of
from funrec.experiment.tracking import TrackedRun, Trackers
from funrec.metrics import build_metrics
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.folder import remove_temporary_files, remove_weights
from funrec.runs.protocol import check_rows
from funrec.runs.provenance import check_origin, running_code, versions
from funrec.runs.tables import label
from funrec.utils.errors import InputError, Pruned
from funrec.utils.files import explain
from funrec.utils.logging import load_tensorflow
from funrec.utils.memory import memory_errors_in_one_line
from funrec.utils.signals import Interrupted, Interruption

log = logging.getLogger("funrec")


def run(
    config: Mapping[str, Any],
    folder: Path,
    overrides: Sequence[str] = (),
    live: bool = False,
    *,
    resume: bool = False,
    force: bool = False,
    on_epoch: EpochHook | None = None,
) -> Run:
    """Run what `config` describes, in `folder`; leave a record there, or the reason why not.

    Args:
        config: The resolved configuration, plain values.
        folder: The run's folder, which exists and holds no finished run.
        overrides: What was asked for on top of the defaults.
        live: Whether to draw progress on the terminal.
        resume: Whether to resume from the checkpoint in `folder`, if there is one.
        force: See `resume`.
        on_epoch: Called after every epoch with its row of the history: losses, validation metrics. A resumed run
            first calls it for the epochs behind it. What it raises ends the run and comes out of it; after a
            `funrec.utils.errors.Pruned` the folder says "pruned", else "failed".

    Raises:
        InputError: If the configuration or the data is not what it should be, or not what it was.
        Interrupted: If the run was stopped from outside (Ctrl-C, SIGTERM): it can be resumed.
    """
    from funrec.config.compose import save

    if resume:
        check_origin(config, folder, force)
    if has_network(config) and size_of(config) > 1:
        if on_epoch is not None:
            raise InputError("trainer.workers should be 1 in a study. Received: more.")
        run_in_team(config, folder, overrides, {"resume": resume, "force": force, "live": live})
        return load_run(folder)
    epochs: list[int] = []

    def tell(row: Mapping[str, Any]) -> None:
        epochs.append(row["epoch"])
        trackers.epoch(row)
        if on_epoch is not None:
            on_epoch(row)

    trackers = Trackers(TrackedRun(folder, config, overrides))
    with run_folder.hold(folder), Interruption() as interruption, trackers:
        try:
            remove_temporary_files(folder)
            if not resume:
                remove_weights(folder, keep="none")
            save(config, overrides, folder / ".hydra")
            trackers.start()
            with memory_errors_in_one_line():
                done = _run(config, overrides, Attempt(folder, live, tell, interruption))
            record.write(folder, done)
            remove_weights(folder, config["trainer"].get("keep", "best"))
            trackers.finish(record.read(folder))
        except KeyboardInterrupt:
            if run_folder.is_finished(folder):
                raise
            raise Interrupted(folder, run_folder.progress(folder)) from None
        except Pruned:
            with suppress(InputError):
                run_folder.write_failure(folder, f"pruned at epoch {epochs[-1]}", "pruned")
            remove_weights(folder, keep="none")
            raise
        except BaseException as error:
            with suppress(InputError):  # a full disk has no room for the reason either
                run_folder.write_failure(folder, explain(error))
            raise
    return load_run(folder)


def run_with_baselines(
    config: Mapping[str, Any],
    folder: Path,
    overrides: Sequence[str] = (),
    live: bool = False,
    resume: bool = False,
    force: bool = False,
    on_epoch: EpochHook | None = None,
) -> list[Run]:
    """Run what `config` describes, and with `baselines: true` its baselines, each in a folder beside its own.

    Args and errors are those of `run`, except that `resume` takes a run that is finished as it is. The run itself
    comes first; `on_epoch` is called for that one only.
    """

    def start(config: Mapping[str, Any], place: Path, overrides: Sequence[str], hook: EpochHook | None = None) -> Run:
        if resume and run_folder.is_finished(place):
            return load_run(place)
        return run(config, place, overrides, live, resume=resume, force=force, on_epoch=hook)

    runs = [start(config, folder, overrides, on_epoch)]
    try:
        siblings = list(baseline_configs(config, overrides)) if config["baselines"] else []
    except InputError as error:  # a user's experiment, whose folder is not known here
        log.error("No baselines: %s", error)
        siblings = []
    for name, sibling in siblings:
        if name == runs[0].record["label"]:
            continue
        if is_popularity(sibling) and sibling["dataset"].get("item") is None:
            log.info("No popularity baseline: the dataset names no item column (dataset.item).")
            continue
        place = baseline_folder(folder, name, resume)
        kept = [asked for asked in overrides if not asked.lstrip("+~").startswith(("model", "weighting", "baselines"))]
        log.info("Baseline %s.", name)
        try:
            runs.append(start(sibling, place, [*kept, f"model={name}"]))
        except InputError as error:  # the run itself is done, and stands
            log.error("No %s baseline: %s", name, error)
        except Interrupted as stop:  # resuming the run resumes its baselines
            raise Interrupted(folder, stop.position) from None
    return runs


def assist(config: Mapping[str, Any], folder: Path) -> None:
    """Train what `config` describes as one of several workers that is not the first, and write nothing."""
    load_tensorflow()
    from funrec.experiment import fitting
    from funrec.training.shards import set_threads
    from funrec.training.workers import join_workers

    set_threads(config)
    join_workers(config["trainer"].get("workers", 1))
    dataset = build(config["dataset"], Dataset, "dataset")
    start = find_start(config, dataset)
    data = prepare(dataset, cache_folder(), None if start is None else start.known)
    fitting.assist(config, dataset, data, folder, start)


def _run(config: Mapping[str, Any], overrides: Sequence[str], attempt: Attempt) -> dict[str, Any]:
    """Prepare, train, evaluate and diagnose; return the record."""
    started, clock = datetime.now(UTC), attempt.clock
    check_settings(config)
    metrics, calibration = build_metrics(config["metrics"]), build_calibration(config)
    dataset = build(config["dataset"], Dataset, "dataset")
    if calibration is not None:
        calibration.check(dataset.tasks)
    dataset.sources()  # a missing file is reported before anything else
    start = find_start(config, dataset)
    if has_network(config):
        load_tensorflow()
        from funrec.experiment import fitting
        from funrec.training.shards import set_threads
        from funrec.training.workers import join_workers

        set_threads(config)
        join_workers(config["trainer"].get("workers", 1))
        fitting.check_parts(config, dataset)
    data = prepare(dataset, cache_folder(), None if start is None else start.known)
    check_rows(config, {name: len(split) for name, split in data.splits.items()})
    asked = [*config["metrics"]["slices"], *([] if dataset.domain is None else [dataset.domain])]
    if calibration is not None:
        calibration.check_data(data.layout, list(data.splits))
        asked += [] if calibration.by is None else [calibration.by]
    slices = read_columns(dataset, data, list(dict.fromkeys(map(str, asked))))
    clock.lap("prepare")

    if has_network(config):
        trained = fitting.train(config, dataset, data, attempt, start)
    else:
        trained = train_baseline(config, dataset, data, attempt)

    uncalibrated = trained.fields.get("uncalibrated", ())
    every = [
        Scored(name, rows, trained.score(rows), uncalibrated) for name, rows in data.splits.items() if name != "train"
    ]
    raw = [split for split in every if split.name != CALIBRATE]
    fitted = None
    if calibration is not None:
        every, fitted = calibrate(calibration, data, every, attempt.folder / "model")
        trained.fields["uncalibrated"] = list(every[0].uncalibrated)
    scored = [split for split in every if split.name != CALIBRATE]
    evaluation = evaluate_scored(data.tasks, scored, metrics)
    for line in describe_group_means(data.tasks, scored, metrics):
        log.info("%s", line)
    write_scored(attempt.folder, data, every)
    clock.lap("evaluate")
    for name, reason in evaluation.absent.items():
        log.debug("no %s: %s", name, reason)
    if data.splits["valid"].groups is None:
        log.info("No GAUC: the dataset names no group column (dataset.group).")
    diagnosis = {
        "diagnosis": diagnose(data, scored, trained.findings()),
        "reliability": measure_reliability(data, scored),
        "slices": measure_slices(data, scored, metrics, slices),
    }
    if fitted is not None:
        diagnosis["calibration"] = measure_calibration(data, raw, scored, fitted, metrics, slices)
    clock.lap("diagnose")

    return {
        "label": label(**trained.parts),
        **trained.parts,
        "overrides": list(overrides),
        "config": {key: value for key, value in config.items() if key != "baselines"},  # no part of what ran
        "seed": config["seed"],
        "started": started,
        "finished": datetime.now(UTC),
        **running_code(),
        "versions": versions(),
        "seen": describe_seen(dataset, data, {trained.fields["selected_on"], config.get("tuned_on")}),
        "lineage": [] if start is None else start.lineage,
        "data_fingerprint": data.fingerprint,
        "row_fingerprint": {name: data.row_fingerprints[name] for name in data.splits if name != "train"},
        "seconds": clock.seconds,
        "tasks": [task.name for task in data.tasks],
        "metrics": evaluation.metrics,
        "absent": evaluation.absent,
        "oracle": evaluate_oracle(data.tasks, scored, metrics),
        **trained.fields,
        **diagnosis,
    }
