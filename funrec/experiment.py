"""The story of one run: from a configuration to a record."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from funrec import record
from funrec.data.base import Dataset
from funrec.data.inputs import save_inputs
from funrec.data.nesting import check_nesting
from funrec.data.prepare import prepare
from funrec.data.slicing import read_columns
from funrec.diagnosing import diagnose, measure_reliability, measure_slices
from funrec.errors import InputError, did_you_mean
from funrec.evaluation import Scored, evaluate_oracle, evaluate_scored, measure_validation, write_scored
from funrec.quiet import load_tensorflow
from funrec.run import Run
from funrec.schema import InputLayout
from funrec.table import label
from funrec.targets import build

log = logging.getLogger("funrec")

KEYS = ("dataset", "model", "weighting", "optimizer", "trainer", "metrics", "report", "seed", "baselines")
METRIC_KEYS = ("gauc_weight", "ndcg_k", "slices")
REPORT_KEYS = ("gates", "diagnosis", "slices")


def run_experiment(model: str | None = None, *overrides: str, verbose: bool = False) -> Run:
    """Run one experiment and return it.

    Args:
        model: A model's name, such as `mmoe`; or the first override.
        overrides: Hydra overrides, such as `trainer.epochs=2`.
        verbose: Whether to say on standard error what is happening.

    Raises:
        InputError: If the configuration or the data is not what it should be.
    """
    from funrec.configuration import compose  # Hydra takes a tenth of a second that load_run need not wait

    chosen = [] if model is None else [model if "=" in model else f"model={model}"]
    config = compose([*chosen, *overrides])
    folder = record.new_run_folder(Path("outputs", "runs"), f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    with _messages(folder, verbose):
        return run(config, folder, overrides=[*chosen, *overrides])


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


def _run(config: Mapping[str, Any], folder: Path, overrides: Sequence[str], live: bool) -> dict[str, Any]:
    started, clock = datetime.now(UTC), _Clock()
    _check_keys(config)
    seed = _check_seed(config["seed"])
    _check_metrics(config["metrics"])
    dataset = build(config["dataset"], Dataset, "dataset")
    data = prepare(dataset, cache_folder())
    train, valid = data.splits["train"], data.splits["valid"]
    slices = read_columns(dataset, data, config["metrics"]["slices"])
    clock.lap("prepare")

    load_tensorflow()
    from funrec import building

    parts = building.build_parts(config, data.tasks, _layout(data))
    if parts.model.funnel.needs_nesting:
        check_nesting(dataset, data, building.part_name(config["model"]["funnel"]["_target_"]))
    parts.model.initialise(
        seed,
        building.base_rates(train, data.tasks, data.logit_offsets),
        building.count_lookups(train, parts.model.layout) if parts.model.has_penalty else None,
    )
    scorer = building.Scorer(parts.model, parts.trainer.eval_batch_size)
    gates = building.GateMeter(parts.model)
    gauc_weight = config["metrics"]["gauc_weight"]
    clock.lap("build")

    result = parts.trainer.fit(
        parts.model,
        train,
        parts.weighting,
        parts.optimizer,
        validate=lambda: (
            measure_validation(data.tasks, valid, scorer.score(valid), gauc_weight)
            | building.gate_columns(gates.measure(valid))
        ),
        folder=folder / "model",
        seed=seed,
        offsets=data.logit_offsets,
        live=live,
    )
    record.write_history(folder, result.history)
    save_inputs(data, folder / "model")
    clock.lap("train")

    scored = [Scored(name, rows, scorer.score(rows)) for name, rows in data.splits.items() if name != "train"]
    evaluation = evaluate_scored(data.tasks, scored, gauc_weight, config["metrics"]["ndcg_k"])
    write_scored(folder, data, scored)
    clock.lap("evaluate")
    diagnosis = diagnose(data, scored)
    clock.lap("diagnose")
    for name, reason in evaluation.absent.items():
        log.debug("no %s: %s", name, reason)
    if valid.groups is None:
        log.info("No GAUC: the dataset names no group column (dataset.group).")

    backbone, funnel = (building.part_name(config["model"][part]["_target_"]) for part in ("backbone", "funnel"))
    return {
        "label": label(backbone, funnel),
        "backbone": backbone,
        "funnel": funnel,
        "overrides": list(overrides),
        "config": config,
        "seed": seed,
        "started": started,
        "finished": datetime.now(UTC),
        "git_commit": record.git_commit(),
        "source_hash": record.source_hash(),
        "versions": record.versions(),
        "data_fingerprint": data.fingerprint,
        "row_fingerprint": {name: data.row_fingerprints[name] for name in data.splits if name != "train"},
        "seconds": clock.seconds,
        "rows_per_second": result.rows_per_second,
        "best_epoch": result.best_epoch,
        "tasks": [task.name for task in data.tasks],
        "selected_on": "valid" if parts.trainer.monitor and len(result.history) > 1 else None,
        "metrics": evaluation.metrics,
        "absent": evaluation.absent,
        "gates": gates.measure(valid),
        "oracle": evaluate_oracle(data.tasks, scored, gauc_weight),
        "diagnosis": diagnosis,
        "reliability": measure_reliability(data, scored),
        "slices": measure_slices(data, scored, gauc_weight, slices),
    }


def cache_folder() -> Path:
    """Return where prepared data is kept: `FUNREC_CACHE`, else `outputs/.cache`."""
    return Path(os.environ.get("FUNREC_CACHE") or Path("outputs", ".cache"))


def _layout(data: Any) -> InputLayout:
    return InputLayout(data.features, data.id_features, data.numeric_features, data.cardinalities)


def _check_keys(config: Mapping[str, Any]) -> None:
    """Check what no constructor checks: a key of a configuration file that nothing reads is a typo."""
    groups = (
        ("", config, KEYS),
        ("metrics.", config["metrics"], METRIC_KEYS),
        ("report.", config["report"], REPORT_KEYS),
    )
    for where, keys, known in groups:
        for key in keys:
            if key == "experiment":
                raise InputError('experiment/*.yaml should begin with "# @package _global_". It does not.')
            if key not in known:
                raise InputError(f"{where}{key}: no such key.{did_you_mean(key, known)}")


def _check_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InputError(f"seed should be a whole number from 0 to {2**31 - 1}. Received: {seed}.")
    return seed


def _check_metrics(config: Mapping[str, Any]) -> None:
    from funrec.metrics.gauc import check_gauc_weight

    check_gauc_weight(config["gauc_weight"])
    depth = config["ndcg_k"]
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(f"metrics.ndcg_k should be a positive whole number. Received: {depth}.")
    if not isinstance(config["slices"], list) or not all(isinstance(name, str | int) for name in config["slices"]):
        raise InputError(f"metrics.slices should list columns, such as [tab]. Received: {config['slices']}.")


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
