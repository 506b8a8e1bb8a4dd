"""Embeddings only: towers read the shared embeddings themselves."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Backbone


class EmbeddingOnly(Backbone):
    """Towers share the embeddings and nothing else, `h_t = x` (Ma et al., SIGIR 2018, section 2.2 and figure 2).

    The backbone of the ESMM paper; all depth is in the towers (`model.tower_units`).
    """

    paper = "Ma et al., SIGIR 2018"

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        return x, None

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(ops.expand_dims(shared, 0), self.num_towers, axis=0)
