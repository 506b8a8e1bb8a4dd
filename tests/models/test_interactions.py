"""Every interaction under backbones and funnels, found by the files in `conf/`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import contracts
import numpy as np
import pytest
import tensorflow as tf
from examples import model, randomise, rich_batch, rich_layout

from funrec.models.backbones.single_task import SingleTask
from funrec.models.backbones.stem import STEM
from funrec.models.interactions.base import Interaction
from funrec.utils.errors import InputError

INTERACTIONS = contracts.names("model/interaction")
CROSSING = [name for name in INTERACTIONS if name != "none"]
BACKBONES = [name for name in contracts.names("model/backbone") if name != "logistic"]
PAIRS = [(backbone, funnel) for backbone in BACKBONES for funnel in contracts.names("model/funnel")]
SAMPLED = [(interaction, *random.Random(interaction).choice(PAIRS)) for interaction in CROSSING]


def check_it_composes(interaction: str, backbone: str, funnel: str, folder: Path) -> None:
    built = contracts.build(backbone, funnel, interaction)
    randomise(built, 0.3)
    batch = contracts.batch_of(contracts.nested_rows(rows=32)) | {
        "labels": tf.constant(contracts.nested_rows(rows=32).labels)
    }
    with tf.GradientTape() as tape:
        losses = built.task_losses(built(batch), batch)
    values = [variable.value for variable in built.interaction.trainable_variables]
    for variable, gradient in zip(built.interaction.trainable_variables, tape.gradient(losses, values), strict=True):
        assert gradient is not None and np.isfinite(gradient.numpy()).all(), variable.path
        assert gradient.numpy().any(), variable.path
    again = contracts.build(backbone, funnel, interaction, seed=1)
    contracts.check_a_rebuilt_model_scores_bit_for_bit_alike(built, again, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("interaction", "backbone", "funnel"), SAMPLED)
def test_an_interaction_composes(interaction: str, backbone: str, funnel: str, tmp_path: Path) -> None:
    check_it_composes(interaction, backbone, funnel, tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_every_interaction_composes_with_every_backbone_and_funnel(tmp_path: Path) -> None:
    for interaction in CROSSING:
        for backbone, funnel in PAIRS:
            check_it_composes(interaction, backbone, funnel, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_training_lowers_the_loss(interaction: str) -> None:
    contracts.check_training_lowers_the_loss(contracts.build("shared_bottom", "independent", interaction))


@pytest.mark.parametrize("tasks", [1, 5])
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_one_task_and_five_are_served(interaction: str, tasks: int) -> None:
    built = contracts.build("mmoe", "independent", interaction, tasks=contracts.chain(tasks))
    assert built(contracts.batch_of(contracts.nested_rows(rows=8))).shape == (tasks, 8)


@pytest.mark.parametrize("interaction", CROSSING)
def test_logistic_takes_none_alone(interaction: str) -> None:
    with pytest.raises(InputError, match=rf"^model\.interaction should be none .* Received: {interaction}\.$"):
        contracts.build("logistic", "independent", interaction)


@pytest.mark.parametrize("interaction", CROSSING)
def test_copies_of_the_embeddings_stay_apart(interaction: str) -> None:
    """Else single_task would share the interaction."""
    built = contracts.build("single_task", "independent", interaction)
    randomise(built, 0.3)
    batch = contracts.batch_of(contracts.nested_rows(rows=8))
    x = tf.convert_to_tensor(built.embed(batch).x)
    before = built.interaction(x).numpy()
    after = built.interaction(x * tf.constant([[[1.0]], [[1.0]], [[2.0]]])).numpy()
    np.testing.assert_array_equal(after[:2], before[:2])
    assert (after[2] != before[2]).any()


class Fields(Interaction):
    """The sum of the fields' vectors."""

    reads = "fields"

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        self.seen = x
        return tf.reduce_sum(x, axis=2)


class EqualFields(Fields):
    reads = "equal"


@pytest.mark.parametrize("backbone", [lambda: None, lambda: STEM(expert_units=(8,)), lambda: SingleTask((8,))])
def test_narrow_fields_are_projected_numbers_embedded_and_wide_fields_left_as_they_are(backbone: Any) -> None:
    built = model(backbone(), rich_layout(), interaction=Fields())
    randomise(built)
    batch = rich_batch()
    built(batch)
    seen, x = built.interaction.seen.numpy(), built.embed(batch).x.numpy()
    x = x if x.ndim == 3 else x[None]
    names = [field.name for field in built.interaction.structure.fields]
    assert names == ["user", "item", "seen", "tab", "tags", "topics"]
    np.testing.assert_array_equal(seen[:, :, :3], x[..., :12].reshape(len(x), 6, 3, 4))
    projection = built.interaction.projections["2"].numpy()
    narrow = x[..., 12:18].reshape(len(x), 6, 3, 2)
    np.testing.assert_allclose(seen[:, :, 3:6], narrow @ projection[:, None], rtol=1e-5, atol=1e-6)
    vectors = built.interaction.number_vectors.numpy()
    np.testing.assert_allclose(seen[:, :, 6:], x[..., 18:, None] * vectors[:, None], rtol=1e-5, atol=1e-6)


def test_unequal_widths_are_refused_by_an_interaction_that_says_so() -> None:
    with pytest.raises(InputError, match=r"should have features of one embedding_dim\. Received: 2, 4\."):
        model(inputs=rich_layout(), interaction=EqualFields())
