"""What the tasks of a model share, found by probing it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from funrec.models.backbones.base import Backbone
from funrec.models.interactions.base import Interaction

#: Rows of a probe, and how many probes there are: a gradient that is zero in all of them is zero everywhere.
ROWS, PROBES = 8, 2


class Sharing(NamedTuple):
    """What more than one tower reads.

    A variable often holds several networks side by side, one per place of its first axis; so what is shared is told by
    slices of that axis.

    Attributes:
        variables: Trainable variables of interaction and backbone with a shared slice, in the model's order.
        slices: By variable: which slices are shared, bool of the length of its first axis.
        own: The other trainable variables of the two.
        copies: Which copies of the embeddings are shared, bool `(copies,)`.
        last: Those of `variables` that make up the last layer, at which GradNorm compares gradients.
    """

    variables: list[keras.Variable]
    slices: list[NDArray[np.bool_]]
    own: list[keras.Variable]
    copies: NDArray[np.bool_]
    last: list[keras.Variable]


class Reach(NamedTuple):
    """Which towers read what.

    Attributes:
        variables: Trainable variables of interaction and backbone, in the model's order.
        slices: By variable: whether a tower reads a slice of its first axis, bool `(towers, slices)`.
        copies: Whether it reads a copy of the embeddings, bool `(towers, copies)`.
    """

    variables: list[keras.Variable]
    slices: list[NDArray[np.bool_]]
    copies: NDArray[np.bool_]


def find_sharing(interaction: Interaction, backbone: Backbone, width: int) -> Sharing:
    """Return what is shared in a built model: what two towers reach. (With one tower, what it reaches.)

    `width` is that of what the interaction reads.
    """
    reach = find_reach(interaction, backbone, width)
    enough = min(2, backbone.num_towers)
    slices = [found.sum(axis=0) >= enough for found in reach.slices]
    shared = [(variable, which) for variable, which in zip(reach.variables, slices, strict=True) if which.any()]
    known = {id(variable) for variable, _ in shared}
    return Sharing(
        [variable for variable, _ in shared],
        [which for _, which in shared],
        [variable for variable in reach.variables if id(variable) not in known],
        reach.copies.sum(axis=0) >= enough,
        _last_layer(backbone, [variable for variable, _ in shared]),
    )


def find_reach(interaction: Interaction, backbone: Backbone, width: int) -> Reach:
    """Probe a built model: a tower reads a slice if its gradient there is not zero.

    The probes have positive weights of about 1 / inputs and small positive rows, so that no rectifier is shut, no
    softmax or step saturated and no two terms cancel: gradients are zero only where nothing connects. The model's own
    weights stay as they are.
    """
    variables = [*interaction.trainable_variables, *backbone.trainable_variables]
    copies = interaction.structure.copies
    reached = [np.zeros((backbone.num_towers, variable.shape[0]), bool) for variable in variables]
    width_of_context = backbone.structure.context_width(backbone.context)
    read_copies = np.zeros((backbone.num_towers, copies), bool)
    for seed in range(PROBES):
        draw = np.random.default_rng(seed)
        x = _positive(draw, (copies, ROWS, width), 5.0)
        context = _positive(draw, (ROWS, width_of_context), 5.0)
        values = [_positive(draw, v.shape, v.shape[-2] if len(v.shape) > 1 else 1.0) for v in variables]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, *values])
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                read = interaction(x if copies > 1 else x[0])
                made = backbone(tf.concat([read, context], axis=-1) if width_of_context else read)
            towers = [tf.reduce_sum(made[tower]) for tower in range(backbone.num_towers)]
        for tower, output in enumerate(towers):
            at_x, *gradients = tape.gradient(output, [x, *values])
            read_copies[tower] |= _is_reached(at_x, copies)
            for found, gradient in zip(reached, gradients, strict=True):
                found[tower] |= _is_reached(gradient, found.shape[1])
    return Reach(variables, reached, read_copies)


def _positive(draw: np.random.Generator, shape: Any, inputs: float) -> tf.Tensor:
    return tf.constant(draw.uniform(0.5, 1.5, shape) / inputs, tf.float32)


def _is_reached(gradient: tf.Tensor | None, slices: int) -> NDArray[np.bool_]:
    if gradient is None:
        return np.zeros(slices, bool)
    is_reached: NDArray[np.bool_] = np.any(gradient.numpy().reshape(slices, -1) != 0, axis=1)
    return is_reached


def _last_layer(backbone: Backbone, shared: list[keras.Variable]) -> list[keras.Variable]:
    """Return the last kernel and bias among the shared variables; the backbone's before the interaction's.

    Which layer is last cannot be found from gradients, so a backbone that makes another layer after it says so.
    """
    for layer in (getattr(backbone, backbone.last_shared_layer or "", None), backbone):
        inside = {id(variable) for variable in layer.trainable_variables} if layer is not None else set()
        if last := [variable for variable in shared if id(variable) in inside][-2:]:
            return last
    return shared[-2:]
