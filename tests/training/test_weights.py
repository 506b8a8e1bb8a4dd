"""Weights on disk: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from examples import layout, model, randomise, rich_batch, rich_layout, save_weights

from funrec.models.backbones.mmoe import MMoE
from funrec.models.wide.linear import Linear
from funrec.training.checkpoints import WEIGHTS, load_weights
from funrec.utils.errors import InputError


def test_a_model_scores_the_same_to_the_bit_after_a_round_trip(tmp_path: Path) -> None:
    def built(seed: int) -> MMoE:
        parts = MMoE(2, (8,), (4,), batch_normalization=True)
        return model(parts, rich_layout(), seed=seed, wide=Linear(l2=0.0), batch_normalization=True)

    first, second = built(1), built(2)
    randomise(first)
    first.backbone.experts.normalizations[0].mean.assign_add(np.ones((2, 1, 8)))  # not trainable, and kept
    expected = first(rich_batch()).numpy()
    assert (second(rich_batch()).numpy() != expected).all()
    save_weights(first, tmp_path / "model")
    load_weights(second, tmp_path / "model")
    np.testing.assert_array_equal(second(rich_batch()).numpy(), expected)


def test_saving_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    built = model()
    save_weights(built, tmp_path)
    randomise(built)
    save_weights(built, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    again = model()
    load_weights(again, tmp_path)
    np.testing.assert_array_equal(again.towers.kernel.numpy(), built.towers.kernel.numpy())


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_weights(model(), tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_weights(model(), tmp_path)
    path = tmp_path / WEIGHTS
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", bytes(len(whole)), whole.replace(b"NUMPY", b"NUMBY")):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            load_weights(model(), tmp_path)


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    save_weights(model(), tmp_path)
    other = model(inputs=layout({"user": 20, "item": 31}))
    before = other.towers.kernel.numpy().copy()
    with pytest.raises(InputError, match="another model's"):
        load_weights(other, tmp_path)
    np.testing.assert_array_equal(other.towers.kernel.numpy(), before)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(InputError, match="a_file"):
        save_weights(model(), tmp_path / "a_file" / "model")
