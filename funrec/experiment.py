"""The story of one run: from a configuration to a record."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from funrec import record
from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.base import Dataset
from funrec.data.inputs import save_inputs
from funrec.data.nesting import check_nesting
from funrec.data.prepare import prepare
from funrec.data.slicing import read_columns
from funrec.diagnosing import diagnose, measure_reliability, measure_slices
from funrec.errors import InputError
from funrec.evaluation import (
    Scored,
    evaluate_oracle,
    evaluate_scored,
    measure_validation,
    validation_metrics,
    write_scored,
)
from funrec.quiet import load_tensorflow
from funrec.run import Run
from funrec.schema import InputLayout
from funrec.settings import check_settings
from funrec.table import label
from funrec.targets import build

log = logging.getLogger("funrec")


def run_experiment(model: str | None = None, *overrides: str, verbose: bool = False) -> Run:
    """Run one experiment and return it.

    Args:
        model: A model's name, such as `mmoe`; or the first override.
        overrides: Hydra overrides, such as `trainer.epochs=2`. With `baselines=true` the runs of the
            baselines land beside it.
        verbose: Whether to say on standard error what is happening.

    Raises:
        InputError: If the configuration or the data is not what it should be.
    """
    from funrec.configuration import compose  # Hydra takes a tenth of a second that load_run need not wait

    chosen = [] if model is None else [model if "=" in model else f"model={model}"]
    config = compose([*chosen, *overrides])
    folder = record.new_run_folder(Path("outputs", "runs"), f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    with _messages(folder, verbose):
        return run_with_baselines(config, folder, overrides=[*chosen, *overrides])[0]


def load_run(path: str | Path) -> Run:
    """Return a finished run from its folder.

    Raises:
        InputError: If there is no finished run.
    """
    return Run(Path(path), record.read(path))


def run(config: Mapping[str, Any], folder: Path, overrides: Sequence[str] = (), live: bool = False) -> Run:
    """Run what `config` describes, in `folder`; leave a record there, or the reason why not.

    Args:
        config: The resolved configuration, plain values.
        folder: The run's folder, which exists and holds no finished run.
        overrides: What was asked for on top of the defaults.
        live: Whether to draw progress on the terminal.

    Raises:
        InputError: If the configuration or the data is not what it should be.
    """
    from funrec.configuration import save

    with record.RunLock(folder):
        try:
            save(config, overrides, folder / ".hydra")
            record.write(folder, _run(config, folder, overrides, live))
        except BaseException as error:
            with suppress(InputError):  # a full disk has no room for the reason either
                record.write_failure(folder, f"{type(error).__name__}: {error}")
            raise
    return load_run(folder)


def run_with_baselines(
    config: Mapping[str, Any], folder: Path, overrides: Sequence[str] = (), live: bool = False
) -> list[Run]:
    """Run what `config` describes, and with `baselines: true` its baselines, each in a folder beside its own.

    Args and errors are those of `run`. The run itself comes first.
    """
    from funrec.baselines import baseline_configs, is_popularity

    runs = [run(config, folder, overrides, live)]
    for name, sibling in baseline_configs(config, overrides) if config["baselines"] else ():
        if name == runs[0].record["label"]:
            continue
        if is_popularity(sibling) and sibling["dataset"].get("item") is None:
            log.info("No popularity baseline: the dataset names no item column (dataset.item).")
            continue
        place = record.new_run_folder(folder.parent, f"{folder.name}_{name}")
        kept = [asked for asked in overrides if not asked.lstrip("+~").startswith(("model", "weighting", "baselines"))]
        log.info("Baseline %s.", name)
        try:
            runs.append(run(sibling, place, [*kept, f"model={name}"], live))
        except InputError as error:  # the run itself is done, and stands
            log.error("No %s baseline: %s", name, error)
    return runs


@dataclass(frozen=True)
class _Trained:
    """What can score rows, and what its training left for the record."""

    score: Callable[[SplitArrays], dict[str, np.ndarray]]
    backbone: str
    funnel: str
    fields: dict[str, Any]


def _run(config: Mapping[str, Any], folder: Path, overrides: Sequence[str], live: bool) -> dict[str, Any]:
    started, clock = datetime.now(UTC), _Clock()
    check_settings(config)
    gauc_weight = config["metrics"]["gauc_weight"]
    dataset = build(config["dataset"], Dataset, "dataset")
    _check_parts(config, dataset)
    data = prepare(dataset, cache_folder())
    slices = read_columns(dataset, data, config["metrics"]["slices"])
    clock.lap("prepare")

    trained = _train(config, dataset, data, folder, live, clock)

    scored = [Scored(name, rows, trained.score(rows)) for name, rows in data.splits.items() if name != "train"]
    evaluation = evaluate_scored(data.tasks, scored, gauc_weight, config["metrics"]["ndcg_k"])
    write_scored(folder, data, scored)
    clock.lap("evaluate")
    for name, reason in evaluation.absent.items():
        log.debug("no %s: %s", name, reason)
    if data.splits["valid"].groups is None:
        log.info("No GAUC: the dataset names no group column (dataset.group).")
    diagnosis = {
        "diagnosis": diagnose(data, scored),
        "reliability": measure_reliability(data, scored),
        "slices": measure_slices(data, scored, gauc_weight, slices),
    }
    clock.lap("diagnose")

    return {
        "label": label(trained.backbone, trained.funnel),
        "backbone": trained.backbone,
        "funnel": trained.funnel,
        "overrides": list(overrides),
        "config": {key: value for key, value in config.items() if key != "baselines"},  # no part of what ran
        "seed": config["seed"],
        "started": started,
        "finished": datetime.now(UTC),
        "git_commit": record.git_commit(),
        "source_hash": record.source_hash(),
        "versions": record.versions(),
        "data_fingerprint": data.fingerprint,
        "row_fingerprint": {name: data.row_fingerprints[name] for name in data.splits if name != "train"},
        "seconds": clock.seconds,
        "tasks": [task.name for task in data.tasks],
        "metrics": evaluation.metrics,
        "absent": evaluation.absent,
        "oracle": evaluate_oracle(data.tasks, scored, gauc_weight),
        **trained.fields,
        **diagnosis,
    }


def _train(
    config: Mapping[str, Any], dataset: Dataset, data: PreparedData, folder: Path, live: bool, clock: _Clock
) -> _Trained:
    """Build and train what `config` names; its weights and its history go to `folder`."""
    from funrec.baselines import POPULARITY, Popularity, is_popularity

    if is_popularity(config):
        popularity = Popularity(data, config["model"]["smoothing"])
        clock.lap("train")
        untrained: dict[str, Any] = {"rows_per_second": None, "best_epoch": None, "selected_on": None, "gates": []}
        return _Trained(popularity.score, POPULARITY, "independent", untrained)

    load_tensorflow()
    from funrec import building

    train, valid = data.splits["train"], data.splits["valid"]
    parts = building.build_parts(config, data.tasks, _layout(data))
    backbone, funnel = (building.part_name(config["model"][part]["_target_"]) for part in ("backbone", "funnel"))
    if parts.model.funnel.needs_nesting:
        check_nesting(dataset, data, funnel)
    parts.model.initialise(
        config["seed"],
        building.base_rates(train, data.tasks, data.logit_offsets),
        building.count_lookups(train, parts.model.layout) if parts.model.has_penalty else None,
    )
    scorer = building.Scorer(parts.model, parts.trainer.eval_batch_size)
    gates = building.GateMeter(parts.model)
    clock.lap("build")

    result = parts.trainer.fit(
        parts.model,
        train,
        parts.weighting,
        parts.optimizer,
        validate=lambda: (
            measure_validation(data.tasks, valid, scorer.score(valid), config["metrics"]["gauc_weight"])
            | building.gate_columns(gates.measure(valid))
        ),
        folder=folder / "model",
        seed=config["seed"],
        offsets=data.logit_offsets,
        live=live,
    )
    record.write_history(folder, result.history)
    save_inputs(data, folder / "model")
    clock.lap("train")
    fields = {
        "rows_per_second": result.rows_per_second,
        "best_epoch": result.best_epoch,
        "weighting_fallbacks": result.weighting_fallbacks,
        "selected_on": "valid" if parts.trainer.monitor and len(result.history) > 1 else None,
        "gates": gates.measure(valid),
    }
    return _Trained(scorer.score, backbone, funnel, fields)


def _check_parts(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse what cannot train before the data is prepared, which may take long; a missing file comes first."""
    from funrec.baselines import is_popularity

    dataset.sources()
    if not is_popularity(config):
        load_tensorflow()
        from funrec import building

        building.check_parts(config, dataset.tasks, validation_metrics(dataset.tasks, dataset.group is not None))


def cache_folder() -> Path:
    """Return where prepared data is kept: `FUNREC_CACHE`, else `outputs/.cache`."""
    return Path(os.environ.get("FUNREC_CACHE") or Path("outputs", ".cache"))


def _layout(data: Any) -> InputLayout:
    return InputLayout(data.features, data.id_features, data.numeric_features, data.cardinalities)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


@contextmanager
def _messages(folder: Path, verbose: bool) -> Iterator[None]:
    """Send what funrec says to the run's log, and to standard error if asked, and leave logging as it was."""
    logger = logging.getLogger("funrec")
    level, propagate = logger.level, logger.propagate
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "funrec.log")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if verbose:
        handlers.append(console := logging.StreamHandler())
        console.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    except Exception:
        logger.debug("The run failed.", exc_info=True)
        raise
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
