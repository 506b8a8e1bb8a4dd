"""Experiments from Python: run one, or resume one that was stopped."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from funrec.data.datasets.sources import handed_over
from funrec.experiment.experiment import run_with_baselines
from funrec.experiment.run import Run
from funrec.runs.folder import new_run_folder
from funrec.utils.logging import logging_to


def run_experiment(model: str | None = None, *overrides: str, data: Any = None, verbose: bool = False) -> Run:
    """Run one experiment and return it.

    Args:
        model: A model's name, such as `mmoe`; or the first override.
        overrides: Hydra overrides, such as `trainer.epochs=2`. With `baselines=true` the runs of the
            baselines land beside it.
        data: The rows, instead of files: a pandas or Polars frame, a Hugging Face `Dataset` or whatever exports Arrow,
            divided by `dataset.split`; or a mapping of them by `train`, `valid`, `test` and `calibrate`. The dataset is
            `tabular` unless an override says otherwise.
        verbose: Whether to say on standard error what is happening.

    Raises:
        InputError: If the configuration or the data is not what it should be.

    Examples:
        >>> run = run_experiment("logistic", "dataset.rows=3000", "trainer=smoke")
        >>> run.metrics["auc_is_click"] > 0.5
        True
    """
    from funrec.config.compose import compose  # Hydra takes a tenth of a second that load_run need not wait

    chosen = [] if model is None else [model if "=" in model else f"model={model}"]
    if data is not None and not any(override.startswith(("dataset=", "experiment=")) for override in overrides):
        chosen.append("dataset=tabular")
    with handed_over(data) as paths:
        asked = [*chosen, *overrides, *paths]
        config = compose(asked)
        folder = new_run_folder(Path("outputs", "runs"), f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
        with logging_to(folder, verbose):
            return run_with_baselines(config, folder, overrides=asked)[0]


def resume(
    folder: str | Path, force: bool = False, live: bool = False, verbose: bool = False, data: Any = None
) -> list[Run]:
    """Resume a run that was interrupted or failed, and its baselines, from their last checkpoints.

    It ends with the table of a run that was never stopped, to the last digit. What is finished is kept as it is.

    Args:
        folder: The run's folder.
        force: Whether to resume even if the code, the data or the configuration are not those of the checkpoint.
        live: Whether to draw progress on the terminal.
        verbose: Whether to say on standard error what is happening.
        data: The rows once more, if they were handed over as frames.

    Raises:
        InputError: If there is no run to resume, or it would not resume as it began.
    """
    from funrec.config.compose import load

    folder = Path(folder)
    config, overrides = load(folder / ".hydra")
    with handed_over(data), logging_to(folder, verbose):
        return run_with_baselines(config, folder, overrides, live, resume=True, force=force)
