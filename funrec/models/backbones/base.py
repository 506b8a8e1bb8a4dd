"""What a backbone is: the part of a model that decides what the tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from funrec.models.funnels.base import LogProbability
from funrec.models.layers.experts import GateBank
from funrec.models.layers.mlp import MLPBank
from funrec.models.structure import Structure
from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import Activation, Inherited, NotNegative, Rate


class Gates(NamedTuple):
    """What some gates made of a batch.

    Attributes:
        name: Where in the backbone they are, `level_1`; empty where there is one place only.
        readers: Who reads each gate: the towers' names, or `shared`.
        experts: The experts' names, as every one of these gates sees them.
        weights: `(readers, batch, experts)`, sums to 1 over the last axis.
        num_shared: How many of the experts, the last ones, are the same for all readers.
    """

    name: str
    readers: tuple[str, ...]
    experts: tuple[str, ...]
    weights: tf.Tensor
    num_shared: int = 0


class Experts(NamedTuple):
    """What some experts made of a batch.

    Attributes:
        name: Where in the backbone they are, as in `Gates`.
        experts: Their names.
        outputs: `(experts, batch, units)`.
    """

    name: str
    experts: tuple[str, ...]
    outputs: tf.Tensor


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Return what a look inside calls so many experts of one kind."""
    return tuple(f"{name}_{place + 1}" for place in range(count))


class Backbone(keras.layers.Layer):
    """Turns the features of a row into one representation per tower.

    A backbone works in two stages, so that a weighting can take per-task gradients between them:
    `share` computes the deepest tensor that every tower reads, `specialise` what each tower makes of it.

    Input shape: `(batch, width)`, or `(copies, batch, width)` where `embedding_layout` asks for copies.
    Output shape: `(towers, batch, units)`.
    """

    #: Where it is from, for `funrec list models`.
    paper = ""
    #: The attribute that holds the last shared layer, where others are made after it.
    last_shared_layer: str | None = None
    #: Whether towers stand on it; the logistic backbone's output is the logits themselves.
    has_towers = True

    #: Embeddings start uniform on (-limit, limit).
    embedding_limit = 0.05
    #: Ridge penalty on the effective embeddings; that of the model where None.
    l2: float | None = None

    #: Whether it takes means over the rows of a batch, or one random draw for all of them: it trains in one piece then.
    takes_whole_batches = False

    #: What it reads beside the features, in the last columns of its input, see `split`: `domain`, the row's domain
    #: one-hot, and `embeddings`, all features' as they are before the interaction.
    context: tuple[str, ...] = ()

    structure: Structure

    def configure(self, structure: Structure) -> None:
        """Take the shape of the model, or raise `InputError`; called once, before the backbone is built."""
        if self.context and structure.domain is None:
            name = type(self).__module__.rpartition(".")[2]
            raise InputError(f"dataset.domain should name a column for model.backbone={name}. Received: null.")
        self.structure = structure
        self.num_towers = len(structure.towers)

    def receive_fields(self, structure: Structure) -> None:
        """Take the features' embeddings, which depend on `embedding_layout`; called once, after `configure`."""
        self.structure = structure

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the features `(batch, width)` of an input, and the parts of its `context`."""
        widths = [self.structure.context_width([part]) for part in self.context]
        first, *parts = tf.split(x, [x.shape[-1] - sum(widths), *widths], axis=-1)
        return first, parts

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        """Return how many independent copies of every embedding it reads, and their width.

        `dim` is the width that the features ask for; None where each feature has its own.
        """
        return 1, dim

    def effective(self, embeddings: tf.Tensor) -> tf.Tensor:
        """Return the embeddings as they act, from those that are kept; penalties are on the former."""
        return embeddings

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor | None, Any]:
        """Return the deepest tensor every tower reads (None if nothing is shared), and what else `specialise` needs."""
        raise NotImplementedError

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        """Return `(towers, batch, units)` from what `share` returned."""
        raise NotImplementedError

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        """Return what every gate makes of a batch, for a look inside; empty where there are none."""
        return []

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        """Return what every expert makes of a batch, for a look inside; empty where there are none."""
        return []

    def auxiliary_loss(
        self, probabilities: Mapping[str, LogProbability], tasks: Sequence[Task], x: tf.Tensor
    ) -> tf.Tensor | None:
        """Return what the backbone adds to the tasks' losses, a scalar mean over the batch; None for most.

        The probabilities are every binary task's over all exposures, each `(batch,)`; `x` is what `share` read.
        """
        return None

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.specialise(*self.share(x, training), training=training)


class NetworkBackbone(Backbone):
    """A backbone made of networks that have these options in common.

    Args:
        activation: Activation of the networks, and of gates' hidden layers.
        dropout: Dropout rate after every hidden layer.
        batch_normalization: Whether networks normalise before their activation; gates do not.
    """

    def __init__(
        self, activation: Activation = "relu", dropout: Rate = 0.1, batch_normalization: bool = False, **layer: Any
    ) -> None:
        super().__init__(**layer)
        self.activation = activation
        self.dropout = dropout
        self.batch_normalization = batch_normalization

    def bank(self, count: int, units: Sequence[int], name: str | None = None) -> MLPBank:
        """Return `count` networks of these hidden units."""
        network = (self.activation, self.dropout, self.batch_normalization)
        return MLPBank(count, units, *network, dtype=self.dtype_policy, name=name)


class MixtureBackbone(NetworkBackbone):
    """A backbone whose gates mix experts.

    Args:
        gate_dropout: How often a gate loses an expert in training; the others' weights are scaled up to sum to 1
            (Zhao et al., RecSys 2019, section 4.2).
        load_balance: Weight of the squared coefficient of variation of the experts' importance, which is the sum of
            their gates' weights over the batch (Shazeer et al., ICLR 2017, eq. 6-7) and, here, over the gates' readers;
            0 for none.
    """

    def __init__(self, gate_dropout: Rate = 0.0, load_balance: NotNegative = 0.0, **network: Inherited) -> None:
        super().__init__(**network)
        self.gate_dropout = gate_dropout
        self.load_balance = load_balance

    def gate_bank(self, count: int, num_experts: int, units: Sequence[int], name: str | None = None) -> GateBank:
        """Return `count` gates over so many experts, with these hidden units before their softmax."""
        network = (self.activation, self.dropout, self.gate_dropout)
        return GateBank(count, num_experts, units, *network, dtype=self.dtype_policy, name=name)

    def auxiliary_loss(
        self, probabilities: Mapping[str, LogProbability], tasks: Sequence[Task], x: tf.Tensor
    ) -> tf.Tensor | None:
        if not self.load_balance:
            return None
        variations = []
        for gates in self.gates_of(x):
            importance = tf.reduce_mean(tf.cast(gates.weights, tf.float32), axis=(0, 1))  # sums to 1
            variations.append(len(gates.experts) * tf.reduce_sum(tf.square(importance)) - 1.0)
        return self.load_balance * tf.add_n(variations)
