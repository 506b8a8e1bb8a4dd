"""What tasks share is found by probing, and is what each paper says."""

from __future__ import annotations

from functools import cache
from typing import Any

import contracts
import numpy as np
import pytest

from funrec.models.sharing import Sharing, find_sharing


@cache
def find(backbone: str, funnel: str = "independent", interaction: str = "none", tasks: int = 3) -> tuple[Any, Sharing]:
    model = contracts.build(backbone, funnel, interaction, tasks=contracts.chain(tasks))
    return model, find_sharing(model.interaction, model.backbone, model.embedding.width + 1)


def paths(variables: Any) -> set[str]:
    return {variable.path for variable in variables}


#: By backbone: its parts whose variables are shared.
SHARED = {
    "single_task": lambda b: [],
    "logistic": lambda b: [],
    "embedding_only": lambda b: [],
    "shared_bottom": lambda b: [b.bottom],
    "mmoe": lambda b: [b.experts],
    "omoe": lambda b: [b.experts, b.gate],
    "stem": lambda b: [b.shared],
    "cgc": lambda b: [b.levels[0].shared],
    "ple": lambda b: [b.levels[0].shared, b.levels[0].specific, b.levels[0].shared_gate, b.levels[1].shared],
    "cross_stitch": lambda b: b.banks,
}


@pytest.mark.parametrize("backbone", SHARED)
def test_what_is_found_is_what_the_paper_says(backbone: str) -> None:
    model, sharing = find(backbone)
    expected = {v.path for part in SHARED[backbone](model.backbone) for v in part.trainable_variables}
    if backbone == "cross_stitch":
        expected |= paths(model.backbone.stitches[:-1])
    assert paths(sharing.variables) == expected
    assert all(slices.all() for slices in sharing.slices)
    assert paths(sharing.own) == paths(model.backbone.trainable_variables) - expected


def test_a_tower_that_no_other_hears_keeps_its_slice_of_a_bank() -> None:
    model, sharing = find("aitm")
    slices = {v.path: list(which) for v, which in zip(sharing.variables, sharing.slices, strict=True)}
    assert slices[model.backbone.networks.kernels[0].path] == [True, False, False]
    assert all(slices[model.backbone.attention.path])


def test_copies_of_the_embeddings_are_shared_one_by_one() -> None:
    assert list(find("mmoe")[1].copies) == [True]
    assert list(find("single_task")[1].copies) == [False] * 3
    assert list(find("stem")[1].copies) == [False, False, False, True]


def test_the_last_layer_is_the_one_before_towers_part() -> None:
    for backbone, bank in {"mmoe": "experts", "omoe": "experts", "stem": "shared", "aitm": "networks"}.items():
        model, sharing = find(backbone)
        layer = getattr(model.backbone, bank)
        assert paths(sharing.last) == {layer.kernels[-1].path, layer.biases[-1].path}


@pytest.mark.parametrize("interaction", [name for name in contracts.names("model/interaction") if name != "none"])
def test_an_interaction_is_shared_copy_by_copy(interaction: str) -> None:
    model, sharing = find("embedding_only", interaction=interaction)
    assert paths(sharing.variables) == paths(model.interaction.trainable_variables) == paths(sharing.variables)
    assert paths(sharing.last) <= paths(sharing.variables) and sharing.last
    assert find("single_task", interaction=interaction)[1].variables == []
    model, sharing = find("stem", interaction=interaction)
    inside = paths(model.interaction.trainable_variables)
    for variable, slices in zip(sharing.variables, sharing.slices, strict=True):
        if variable.path in inside:
            copies = slices.reshape(4, -1)
            # A token of padding, RankMixer's last one here, projects zeros.
            is_read = copies[3, :3].all() if variable.path.endswith("projection") else copies[3].all()
            assert not copies[:3].any() and is_read, variable.path


def test_probing_leaves_the_model_as_it_is() -> None:
    model = contracts.build("ple", "independent")
    before = [variable.numpy() for variable in model.variables]
    find_sharing(model.interaction, model.backbone, model.embedding.width + 1)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_what_the_only_tower_reads_counts_as_shared() -> None:
    model, sharing = find("mmoe", tasks=1)
    assert paths(sharing.variables) == paths(model.backbone.trainable_variables)
