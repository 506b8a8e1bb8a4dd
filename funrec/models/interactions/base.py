"""What an interaction is: the part of a model between the embeddings and the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar, Literal

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.mlp import add_bank_kernel
from funrec.models.structure import Structure
from funrec.utils.errors import InputError


class Interaction(keras.layers.Layer):
    """Crosses the features of a row; the backbone reads what it returns.

    A subclass says in `reads` how it wants the embeddings, makes its weights in `build`, and computes in `interact`.
    Where the backbone reads several copies of the embeddings (one per tower for single_task), a weight should have
    them as its first axis, `(copies, ...)`, as `add_bank_kernel` and `MLPBank` do: copies stay independent then.

    Input shape: `(batch, width)` or `(copies, batch, width)`: embeddings side by side, then plain numbers.
    Output shape: the same with a width of its own.
    """

    #: Where it is from, for `funrec list models`.
    paper = ""
    #: How it reads a row: `flat`, embeddings and plain numbers side by side, of any widths; `fields`, a vector per
    #: feature, those narrower than the widest projected to its width; `equal`, likewise, refusing features of unequal
    #: widths. The vector of a plain number is its value times a vector of weights.
    reads: ClassVar[Literal["flat", "fields", "equal"]] = "flat"
    #: Whether it does anything; a backbone without towers takes no interaction that does.
    is_identity = False

    structure: Structure

    def configure(self, structure: Structure) -> None:
        """Take the shape of the model, or raise `InputError`; called once, before the interaction is built."""
        self.structure = structure
        widths = sorted({field.width for field in structure.fields})
        name = type(self).__module__.rpartition(".")[2]
        if self.reads != "flat" and not widths:
            raise InputError(f"model.interaction={name} should have features with embeddings. Received: numbers alone.")
        if self.reads == "equal" and len(widths) > 1:
            raise InputError(
                f"model.interaction={name} should have features of one embedding_dim. Received: "
                f"{', '.join(map(str, widths))}. Set dataset.features.<name>.embedding_dim."
            )

    @property
    def field_width(self) -> int:
        """The width of a feature's vector where `reads` is not `flat`."""
        return max(field.width for field in self.structure.fields)

    @property
    def num_fields(self) -> int:
        """How many vectors a row has where `reads` is not `flat`."""
        return len(self.structure.fields) + self.structure.num_numeric

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights; a subclass that `reads` fields calls this first, for the vectors' own weights."""
        numbers = self.structure.num_numeric
        if self.reads != "flat" and numbers:
            shape = (self.structure.copies, numbers, self.field_width)
            self.number_vectors = add_bank_kernel(self, *shape, "number_vectors")
        self.projections = {}
        for width in {field.width for field in self.structure.fields}:
            if self.reads == "fields" and width < self.field_width:
                shape = (self.structure.copies, width, self.field_width)
                self.projections[str(width)] = add_bank_kernel(self, *shape, f"projection_{width}")

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Return `(copies, batch, width)`.

        `x` is `(copies, batch, width)` where `reads` is `flat`, else `(copies, batch, num_fields, field_width)`: the
        vectors of `structure.fields`, then those of the numbers.
        """
        raise NotImplementedError

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        has_copies = len(x.shape) == 3
        x = x if has_copies else x[None]
        crossed = self.interact(x if self.reads == "flat" else self._stack(x), training)
        return crossed if has_copies else crossed[0]

    def _stack(self, x: tf.Tensor) -> tf.Tensor:
        stacked, start = [], 0
        for width, fields in groupby(field.width for field in self.structure.fields):
            count = len(list(fields))
            block = x[..., start : start + count * width]
            block = ops.reshape(block, (x.shape[0], -1, count, width))
            if str(width) in self.projections:
                block = ops.matmul(block, ops.expand_dims(self.projections[str(width)], 1))
            stacked.append(block)
            start += count * width
        if self.structure.num_numeric:
            stacked.append(x[..., start:, None] * ops.expand_dims(self.number_vectors, 1))
        return stacked[0] if len(stacked) == 1 else ops.concatenate(stacked, axis=2)
