"""What the parts of a model ask of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funrec.models.backbones.base import Backbone
from funrec.models.funnels.base import Funnel
from funrec.models.interactions.base import Interaction
from funrec.models.losses.base import Loss
from funrec.schema import Task
from funrec.utils.errors import InputError


def check_fit(backbone: Backbone, funnel: Funnel, interaction: Interaction, losses: Sequence[Loss]) -> None:
    """Raise `InputError` if the parts do not go together."""
    name = _name(backbone)
    if not backbone.has_towers and not interaction.is_identity:
        raise InputError(
            f"model.interaction should be none where model.backbone={name}, whose weights are the logits' own. "
            f"Received: {_name(interaction)}."
        )
    outputs = max(loss.outputs for loss in losses)
    if outputs > 1 and (funnel.mixes_towers or not backbone.has_towers):
        raise InputError(
            f"A loss that reads {outputs} outputs of a tower should have towers of its own. Received: "
            f"model.backbone={name} and model.funnel={_name(funnel)}. Take model/funnel=independent and towers."
        )
    ranking = [_name(loss) for loss in losses if not loss.gives_probabilities]
    if ranking and funnel.mixes_towers:
        raise InputError(
            f"A task under model.funnel={_name(funnel)}, which multiplies probabilities, should have a loss that gives "
            f"them. Received: {ranking[0]}. Take bce or jrc, or model/funnel=independent."
        )


def check_delays(tasks: Sequence[Task], losses: Sequence[Loss], funnel: Funnel) -> None:
    """Raise `InputError` if a label that comes late would be read as a plain 0, or a loss is of late ones alone."""
    for task, loss in zip(tasks, losses, strict=True):
        where, is_late = f"dataset.tasks.{task.name}", task.observed_after is not None
        if loss.reads_delays and not is_late:
            raise InputError(
                f"{where}.observed_after should say how long after its row a label is seen, for the loss "
                f"{_name(loss)}. Received: null."
            )
        if is_late and not loss.reads_delays:
            raise InputError(
                f"{where}.loss should be delayed_feedback where its labels come late (observed_after). "
                f"Received: {_name(loss)}."
            )
        if is_late and funnel.reads_labels:
            raise InputError(
                f"model.funnel should be esmm or independent where labels of {task.name} come late (observed_after). "
                f"Received: {_name(funnel)}, which takes a label of 0 at once."
            )


def _name(part: Any) -> str:
    return type(part).__module__.rpartition(".")[2]
