"""MMoE's own mathematics (Ma et al., KDD 2018, eq. 5-7)."""

from __future__ import annotations

import numpy as np
import pytest
from examples import model, randomise, rich_batch, rich_layout

from funrec.models.backbones.mmoe import MMoE
from funrec.models.wide.linear import Linear
from funrec.utils.errors import InputError
from funrec.utils.specs import check


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    odds = np.exp(x - x.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("gate_units", [(), (5,)], ids=["linear gates", "hidden gates"])
def test_logits_equal_the_papers_equations(gate_units: tuple[int, ...]) -> None:
    batch = rich_batch()
    built = model(MMoE(3, (8, 4), gate_units, dropout=0.0), rich_layout(), wide=Linear(l2=0.0))
    randomise(built)
    backbone, towers = built.backbone, built.towers
    x, linear = built.embed(batch).x.numpy(), built.embed(batch).linear.numpy()
    np.testing.assert_allclose(x[:, -2:], batch["numeric"], rtol=1e-6)  # numbers stand last
    experts = []
    for expert in range(3):
        h = x
        for kernel, bias in zip(backbone.experts.kernels, backbone.experts.biases, strict=True):
            h = relu(h @ kernel.numpy()[expert] + bias.numpy()[expert])
        experts.append(h)
    for task in range(2):
        h = x
        for kernel, bias in zip(backbone.gates.hidden.kernels, backbone.gates.hidden.biases, strict=True):
            h = relu(h @ kernel.numpy()[task] + bias.numpy()[task])
        gate = softmax(h @ backbone.gates.kernel.numpy()[task])
        h = sum(gate[:, [expert]] * experts[expert] for expert in range(3))
        h = relu(h @ towers.hidden.kernels[0].numpy()[task] + towers.hidden.biases[0].numpy()[task])
        logit = (h @ towers.kernel.numpy()[task] + towers.bias.numpy()[task])[:, 0] + linear[task]
        np.testing.assert_allclose(built(batch)[task], logit, rtol=1e-4, atol=1e-4)


def test_equal_experts_make_the_gates_irrelevant() -> None:
    built = model(MMoE(3, (8,), dropout=0.0), rich_layout())
    randomise(built)
    for variable in built.backbone.experts.trainable_variables:
        variable.assign(np.repeat(variable.numpy()[:1], 3, axis=0))
    before = built(rich_batch()).numpy()
    built.backbone.gates.kernel.assign(-built.backbone.gates.kernel.numpy())
    np.testing.assert_allclose(built(rich_batch()).numpy(), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"num_experts": 0}, {"expert_units": []}, {"gate_units": [-1]}, {"dropout": 1.0}])
def test_impossible_sizes_are_refused(options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=rf"^model\.backbone\.{name} should be .* Received: .*\.$"):
        check(MMoE, options, "model.backbone")
