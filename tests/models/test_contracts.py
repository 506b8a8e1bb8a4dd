"""Every backbone under every funnel, found by their files in `conf/`."""

from __future__ import annotations

from pathlib import Path

import contracts
import pytest

BACKBONES = contracts.names("model/backbone")
FUNNELS = contracts.names("model/funnel")
#: Every backbone and every funnel is in a pair that is always tested; the others wait for `pytest -m exhaustive`.
PAIRS = [
    pytest.param(backbone, funnel, marks=[] if (i + j) % len(FUNNELS) == 0 else pytest.mark.exhaustive)
    for i, backbone in enumerate(BACKBONES)
    for j, funnel in enumerate(FUNNELS)
]


def test_the_files_are_found() -> None:
    assert {"mmoe", "ple", "embedding_only"} <= set(BACKBONES)
    assert {"independent", "esmm", "esm2"} <= set(FUNNELS)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "funnel"), PAIRS)
def test_a_pair_trains_is_the_same_when_saved_and_loaded_and_knows_its_parts(
    backbone: str, funnel: str, tmp_path: Path
) -> None:
    model, rebuilt = contracts.build(backbone, funnel), contracts.build(backbone, funnel, seed=1)
    contracts.check_training_lowers_the_loss(model)
    contracts.check_a_rebuilt_model_scores_bit_for_bit_alike(model, rebuilt, tmp_path)
    contracts.check_every_tower_reads_the_shared_tensor(rebuilt)
    contracts.check_what_is_found_to_be_shared(rebuilt)
    contracts.check_gates_are_shares(rebuilt)


@pytest.mark.parametrize("funnel", FUNNELS)
def test_a_funnels_gradients_are_finite_at_probabilities_of_1e12(funnel: str) -> None:
    contracts.check_gradients_are_finite(contracts.build("embedding_only", funnel))
