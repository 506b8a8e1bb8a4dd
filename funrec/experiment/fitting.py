"""One run's training: from a configuration and prepared data to what can score rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.datasets.base import Dataset
from funrec.data.inputs import save_inputs
from funrec.data.preparation.checks import check_nesting
from funrec.experiment.evaluation import measure_validation, validation_metrics
from funrec.metrics import build_metrics
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.provenance import origin
from funrec.schema import InputLayout
from funrec.utils.logging import load_tensorflow
from funrec.utils.signals import Interruption

#: Told of every epoch: its row of the history.
EpochHook = Callable[[Mapping[str, Any]], None]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Give the time since the last lap to `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


@dataclass(frozen=True)
class Attempt:
    """One process at work on one run.

    Attributes:
        folder: The run's folder, locked.
        live: Whether to draw progress on the terminal.
        on_epoch: Told of every epoch.
        interruption: Whether to stop.
        clock: What took how long.
    """

    folder: Path
    live: bool
    on_epoch: EpochHook
    interruption: Interruption
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Trained:
    """What can score rows, and what its training left for the record.

    Attributes:
        score: Returns a split's scores by head.
        parts: The names of its `backbone`, `funnel`, `interaction` and `wide` part.
        fields: Of the record.
    """

    score: Callable[[SplitArrays], dict[str, np.ndarray]]
    parts: dict[str, str]
    fields: dict[str, Any]


def train(config: Mapping[str, Any], dataset: Dataset, data: PreparedData, attempt: Attempt) -> Trained:
    """Build and train what `config` names, from its checkpoint if there is one; weights and history go to its folder.

    Raises:
        InputError: If a part is not what it should be, or training diverges.
        KeyboardInterrupt: If it was interrupted.
    """
    from funrec.experiment.baselines import POPULARITY, Popularity, is_popularity

    if is_popularity(config):
        popularity = Popularity(data, config["model"]["smoothing"])
        attempt.clock.lap("train")
        untrained: dict[str, Any] = {"rows_per_second": None, "best_epoch": None, "selected_on": None, "gates": []}
        return Trained(popularity.score, {"backbone": POPULARITY, "funnel": "independent"}, untrained)

    load_tensorflow()
    from funrec.experiment import building

    building.forget_former_models()
    folder, rows, valid = attempt.folder, data.splits["train"], data.splits["valid"]
    layout = InputLayout(data.features, data.id_features, data.numeric_features, data.cardinalities)
    parts = building.build_parts(config, data.tasks, layout)
    names = building.part_names(parts.model)
    if parts.model.funnel.needs_nesting:
        check_nesting(dataset, data, names["funnel"])
    parts.model.initialise(
        config["seed"],
        building.base_rates(rows, data.tasks, data.logit_offsets),
        building.count_lookups(rows, parts.model.layout) if parts.model.has_penalty else None,
    )
    metrics = build_metrics(config["metrics"])
    scorer = building.Scorer(parts.model, parts.trainer.eval_batch_size)
    gates = building.GateMeter(parts.model)
    attempt.clock.lap("build")

    with attempt.interruption.deferred():
        result = parts.trainer.fit(
            parts.model,
            rows,
            parts.weighting,
            parts.optimizer,
            validate=lambda: (
                measure_validation(data.tasks, valid, scorer.score(valid), metrics)
                | building.gate_columns(gates.measure(valid))
            ),
            folder=folder / "model",
            seed=config["seed"],
            offsets=data.logit_offsets,
            live=attempt.live,
            on_epoch=attempt.on_epoch,
            checkpoint=building.CheckpointFile(folder / run_folder.CHECKPOINT, origin(config, data.fingerprint)),
            interruption=attempt.interruption,
        )
    record.write_history(folder, result.history)
    save_inputs(data, folder / "model")
    attempt.clock.lap("train")
    fields = {
        "rows_per_second": result.rows_per_second,
        "best_epoch": result.best_epoch,
        "weighting_fallbacks": result.weighting_fallbacks,
        "resumed_at": result.resumed_at,
        "selected_on": "valid" if parts.trainer.monitor and len(result.history) > 1 else config.get("tuned_on"),
        "gates": gates.measure(valid),
    }
    return Trained(scorer.score, names, fields)


def check_parts(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse what cannot train before the data is prepared, which may take long; a missing file comes first."""
    from funrec.experiment.baselines import is_popularity

    dataset.sources()
    if not is_popularity(config):
        load_tensorflow()
        from funrec.experiment import building

        names = validation_metrics(dataset.tasks, dataset.group is not None, build_metrics(config["metrics"]))
        building.check_parts(config, dataset.tasks, names)
