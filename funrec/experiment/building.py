"""Builds the parts that a configuration names."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import keras
from tensorflow.python.eager import context

from funrec.config.build import build
from funrec.config.catalogue import read_choice
from funrec.data.arrays import ModelInputs
from funrec.metrics import is_higher_better
from funrec.models.backbones.base import Backbone
from funrec.models.funnels.base import Funnel
from funrec.models.interactions.base import Interaction
from funrec.models.losses.base import Loss
from funrec.models.model import MultiTaskModel
from funrec.models.wide.none import NoWide
from funrec.schema import InputLayout, Task
from funrec.training.checkpoints import load_weights
from funrec.training.trainer import Trainer
from funrec.utils.errors import InputError
from funrec.weighting.base import Weighting

log = logging.getLogger("funrec")

#: Bytes of former models that may wait for Python's own garbage collection.
MAY_WAIT = 1 << 26
_models: WeakSet[MultiTaskModel] = WeakSet()


@dataclass(frozen=True)
class Parts:
    """What takes part in training."""

    model: MultiTaskModel
    weighting: Weighting
    optimizer: keras.optimizers.Optimizer
    trainer: Trainer


def build_parts(config: Mapping[str, Any], tasks: Sequence[Task], layout: InputLayout) -> Parts:
    """Build everything that `config` names."""
    trainer, weighting, optimizer = build_loop(config, tasks)
    if trainer.monitor != config["trainer"].get("monitor", trainer.monitor):
        log.info("No task is binary, so trainer.monitor is %s; lower is better.", trainer.monitor)
    return Parts(build_model(config["model"], tasks, layout, trainer.precision), weighting, optimizer, trainer)


def build_loop(
    config: Mapping[str, Any], tasks: Sequence[Task]
) -> tuple[Trainer, Weighting, keras.optimizers.Optimizer]:
    trainer = build(config["trainer"], Trainer, "trainer")
    if trainer.monitor == "auc_macro" and not any(task.is_binary for task in tasks):
        trainer.monitor = "rmse_macro"
    if trainer.monitor_mode is None and trainer.monitor is not None:
        trainer.monitor_mode = "max" if is_higher_better(trainer.monitor) else "min"
    weighting = build(config["weighting"], Weighting, "weighting")
    weighting.configure(tasks)
    optimizer = build(_check_optimizer(config["optimizer"]), keras.optimizers.Optimizer, "optimizer")
    return trainer, weighting, optimizer


def build_model(
    config: Mapping[str, Any], tasks: Sequence[Task], layout: InputLayout, precision: str
) -> MultiTaskModel:
    """Build the model that `config` describes; `initialise` makes its weights."""
    if not layout.features:
        raise InputError("dataset.features should name at least one feature. Received: none.")
    parts = build_model_parts(config, tasks, precision)
    rest = {key: value for key, value in config.items() if key not in parts}
    model = build(rest, MultiTaskModel, "model", layout=layout, tasks=tasks, precision=precision, **parts)
    _models.add(model)
    return model


def load_model(config: Mapping[str, Any], inputs: ModelInputs, run: Path) -> MultiTaskModel:
    """Build the model of a finished run's `config` and `inputs`, with the weights of its best epoch."""
    model = build_model(config["model"], inputs.tasks, inputs.layout, config["trainer"]["precision"])
    model.initialise(config["seed"])
    load_weights(model, run / "model")
    return model


def build_model_parts(config: Mapping[str, Any], tasks: Sequence[Task], precision: str) -> dict[str, Any]:
    layers = {"backbone": Backbone, "interaction": Interaction, "wide": NoWide}
    return {
        **{name: build(config[name], kind, f"model.{name}", dtype=precision) for name, kind in layers.items()},
        "funnel": build(config["funnel"], Funnel, "model.funnel"),
        "losses": [_build_loss(task) for task in tasks],
    }


def _build_loss(task: Task) -> Loss:
    """Build a task's loss: of its kind where it names none, else `conf/loss/<name>.yaml` with the options given."""
    where = f"dataset.tasks.{task.name}.loss"
    default = "mse" if not task.is_binary else "bce" if task.observed_after is None else "delayed_feedback"
    given = task.loss or default
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{where} should name a loss, as in focal or {{name: focal, gamma: 1}}. Received: {given}.")
    loss: Loss = build({**read_choice("loss", name, where), **options}, Loss, where)
    if loss.kind not in task.kinds:
        raise InputError(f"{where} should serve a {task.kind} task. Received: {name}, for {loss.kind} tasks.")
    return loss


def forget_former_models() -> None:
    """Free the memory of runs that finished earlier in this process.

    Keras layers form reference cycles, so a model of gigabytes stays in memory until Python collects garbage, which
    it triggers by the number of objects rather than their size. TensorFlow keeps about a megabyte per traced graph.
    """
    if sum(4 * model.count_params() for model in _models if model.built) > MAY_WAIT:
        gc.collect()
    context.context().clear_kernel_cache()


def part_names(model: MultiTaskModel) -> dict[str, str]:
    """Return what tables call a model's parts, the names of their modules: `funrec.models.backbones.mmoe` is `mmoe`."""
    parts = ("backbone", "funnel", "interaction", "wide")
    return {part: type(getattr(model, part)).__module__.rpartition(".")[2] for part in parts}


def _check_optimizer(config: Mapping[str, Any]) -> dict[str, Any]:
    if "learning_rate" not in config:
        return dict(config)
    # Keras refuses integers and accepts negative rates.
    rate = config["learning_rate"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise InputError(f"optimizer.learning_rate should be a positive number. Received: {rate}.")
    return {**config, "learning_rate": float(rate)}
