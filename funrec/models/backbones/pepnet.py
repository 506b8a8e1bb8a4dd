"""PEPNet: gates personalise the embeddings by domain, and the towers' networks by user and item."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import NetworkBackbone
from funrec.models.layers.mlp import Towers
from funrec.models.structure import Structure
from funrec.utils.specs import Inherited, Names, PositiveInt, Units


class PEPNet(NetworkBackbone):
    """EPNet gates what the backbone reads by the row's domain; PPNet gates every layer of every tower's network.

    With `E` what the backbone reads, `d` the domain's embedding, `u` the prior features' embeddings, and `sg` a stopped
    gradient (Chang et al., KDD 2023, eq. 1-8):

        Gate(x) = 2 sigmoid(relu(x W + b) W' + b')
        O = Gate([d, sg(E)]) * E
        h_t' = activation((Gate_t([u, sg(O)]) * h_t) W_t + b_t),   h_t = O at first, layer upon layer

    Args:
        units: Hidden units of every tower's network, input side first.
        gate_units: Hidden units of every gate.
        priors: Names of the prior features, the paper's user, item and author ids; null for all features.

    Input shape: `(batch, width)`, with the features' embeddings behind it.
    Output shape: `(towers, batch, units[-1])`.
    """

    paper = "Chang et al., KDD 2023"
    context = ("embeddings",)

    def __init__(
        self,
        units: Units = (64, 32),
        gate_units: PositiveInt = 16,
        priors: Names | None = None,
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.units = units
        self.gate_units = gate_units
        self.priors = priors

    def receive_fields(self, structure: Structure) -> None:
        super().receive_fields(structure)
        names = [field.name for field in structure.fields] if self.priors is None else self.priors
        #: Where features' embeddings stand among all.
        self.prior_spans = structure.spans("model.backbone.priors", names)
        (self.domain_span,) = structure.spans("dataset.domain", [structure.domain or ""])

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = int(input_shape[-1] or 0) - self.structure.context_width(self.context)
        domain = self.domain_span[1] - self.domain_span[0]
        prior = sum(stop - start for start, stop in self.prior_spans)
        gates = {"units": (self.gate_units,), "dtype": self.dtype_policy}
        self.domain_gate = Towers(1, outputs=width, name="domain_gate", **gates)
        self.domain_gate.build((None, domain + width))
        self.gates, self.layers_of_towers = [], []
        read = width
        for depth, units in enumerate(self.units):
            gate = Towers(self.num_towers, outputs=read, name=f"gate_{depth + 1}", **gates)
            gate.build((None, prior + width))
            layer = self.bank(self.num_towers, (units,), name=f"layer_{depth + 1}")
            layer.build((self.num_towers, None, read))
            self.gates.append(gate)
            self.layers_of_towers.append(layer)
            read = units

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        x, (embeddings,) = self.split(x)
        domain = embeddings[:, slice(*self.domain_span)]
        gate = self.domain_gate(ops.concatenate([domain, tf.stop_gradient(x)], axis=-1))
        priors = ops.concatenate([embeddings[:, slice(*span)] for span in self.prior_spans], axis=-1)
        return 2 * ops.sigmoid(gate[0]) * x, priors

    def specialise(self, shared: tf.Tensor | None, private: tf.Tensor, training: bool = False) -> tf.Tensor:
        knows = ops.concatenate([private, tf.stop_gradient(shared)], axis=-1)
        h = shared
        for gate, layer in zip(self.gates, self.layers_of_towers, strict=True):
            h = layer(2 * ops.sigmoid(gate(knows)) * h, training=training)
        return h
