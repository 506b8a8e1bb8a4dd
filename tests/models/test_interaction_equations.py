"""Every interaction against its paper's equations in NumPy, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from examples import layout, model, randomise
from numpy.typing import NDArray
from reference import network, relu, softmax
from scipy.special import erf

from funrec.models.backbones.single_task import SingleTask
from funrec.models.interactions.autoint import AutoInt
from funrec.models.interactions.base import Interaction
from funrec.models.interactions.dcn_v2 import DCNv2
from funrec.models.interactions.finalmlp import FinalMLP
from funrec.models.interactions.fm import FM
from funrec.models.interactions.gdcn import GDCN
from funrec.models.interactions.masknet import MaskNet
from funrec.models.interactions.rankmixer import RankMixer
from funrec.models.interactions.wukong import Wukong
from funrec.utils.errors import InputError

Array = NDArray[np.float64]
FIELDS, WIDTH, NUMBERS = 4, 4, 2
INPUTS = layout({f"feature_{place}": 9 for place in range(FIELDS)}, ["age", "price"], dim=WIDTH)


def value(variable: Any, copy: int = 0) -> Array:
    return variable.numpy()[copy].astype(np.float64)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def normalised(norm: Any, x: Array, copy: int = 0) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * value(norm.gamma, copy) + value(norm.beta, copy)


def fields(layer: Any, x: Array, copy: int) -> list[Array]:
    """Return the vectors of a copy's rows, one array `(batch, width)` per feature and number."""
    numbers = value(layer.number_vectors, copy)
    vectors = [x[:, WIDTH * place : WIDTH * (place + 1)] for place in range(FIELDS)]
    return [*vectors, *(x[:, [FIELDS * WIDTH + place]] * numbers[place] for place in range(NUMBERS))]


def dcn(layer: Any, x: Array, copy: int) -> Array:
    first = x
    for (kernel,), bias in zip(layer.kernels, layer.biases, strict=True):
        x = first * (x @ value(kernel, copy) + value(bias, copy)) + x
    return x


def ended(bank: Any, number: int, x: Array) -> Array:
    """Return what one network of `Towers` makes of `x`."""
    return network(bank.hidden, number, x) @ value(bank.kernel, number) + value(bank.bias, number)


def dcn_mixture(layer: Any, x: Array, copy: int) -> Array:
    first = x
    for depth, (inner, middle, outer) in enumerate(layer.kernels):
        gates = softmax(x @ value(layer.gates[depth], copy))
        total = 0
        for expert in range(3):
            place = 3 * copy + expert
            low = np.tanh(np.tanh(x @ value(inner, place)) @ value(middle, place))
            crossed = first * (low @ value(outer, place) + value(layer.biases[depth], copy))
            total = total + gates[:, [expert]] * crossed
        x = total + x
    return x


def fm(layer: Any, x: Array, copy: int) -> Array:
    vectors = fields(layer, x, copy)
    pairs = sum(vectors[i] * vectors[j] for i in range(len(vectors)) for j in range(i))
    return np.concatenate([*vectors, pairs], axis=1)


def gdcn(layer: Any, x: Array, copy: int) -> Array:
    first = x
    for kernel, bias, gate in zip(layer.kernels, layer.biases, layer.gates, strict=True):
        x = first * (x @ value(kernel, copy) + value(bias, copy)) * sigmoid(x @ value(gate, copy)) + x
    return x


def masknet(layer: Any, x: Array, copy: int) -> Array:
    vectors = fields(layer, x, copy)
    embeddings = np.concatenate(vectors, axis=1)
    gamma, beta = layer.norm.gamma.numpy()[copy, 0], layer.norm.beta.numpy()[copy, 0]
    parts = []
    for place, vector in enumerate(vectors):
        centred = vector - vector.mean(axis=1, keepdims=True)
        parts.append(centred / np.sqrt(vector.var(axis=1, keepdims=True) + 1e-5) * gamma[place] + beta[place])
    x, outputs = np.concatenate(parts, axis=1), []
    for block in layer.blocks:
        mask = ended(block.mask, copy, embeddings)
        read = outputs[-1] if outputs and layer.arrangement == "serial" else x
        outputs.append(relu(normalised(block.norm, (mask * read) @ value(block.kernel, copy), copy)))
    return outputs[-1] if layer.arrangement == "serial" else np.concatenate(outputs, axis=1)


def finalmlp(layer: Any, x: Array, copy: int) -> Array:
    outputs = []
    for gate, stream in zip(layer.gates, layer.streams, strict=True):
        logit = value(gate.bias, copy)
        if gate.columns:
            read = np.concatenate([x[:, start:end] for start, end in gate.columns], axis=1)
            logit = network(gate.hidden, copy, read) @ value(gate.kernel, copy) + logit
        outputs.append(network(stream, copy, 2 * sigmoid(logit) * x))
    first, second = (np.split(output, layer.num_heads, axis=1) for output in outputs)
    heads = [
        first[head] * (second[head] @ value(layer.fusion, copy * layer.num_heads + head))
        for head in range(layer.num_heads)
    ]
    return np.concatenate([*outputs, *heads], axis=1)


def autoint(layer: Any, x: Array, copy: int) -> Array:
    vectors = fields(layer, x, copy)
    for kernels in layer.kernels:
        maps = {name: np.split(value(kernel, copy), layer.num_heads, axis=1) for name, kernel in kernels.items()}
        after = []
        for vector in vectors:
            heads = []
            for query, key, worth in zip(maps["query"], maps["key"], maps["value"], strict=True):
                products = [((vector @ query) * (other @ key)).sum(axis=1) for other in vectors]
                attention = softmax(np.stack(products, axis=1))
                heads.append(sum(attention[:, [k]] * (other @ worth) for k, other in enumerate(vectors)))
            after.append(relu(np.concatenate(heads, axis=1) + vector @ value(kernels["residual"], copy)))
        vectors = after
    return np.concatenate(vectors, axis=1)


def wukong(layer: Any, x: Array, copy: int) -> Array:
    rows = np.stack(fields(layer, x, copy), axis=1)
    after = []
    for row in rows:
        for block in layer.layers:
            pairs = row @ row.T @ value(block.compression, copy)
            crossed = ended(block.mlp, copy, normalised(block.pairs_norm, pairs.reshape(1, -1), copy))
            crossed = crossed.reshape(-1, row.shape[1])
            kept = row if block.residual is None else value(block.residual, copy).T @ row
            made = np.concatenate([crossed, value(block.linear, copy).T @ row])
            row = normalised(block.norm, made + kept, copy)[0]
        after.append(row.ravel())
    return np.stack(after)


def rankmixer(layer: Any, x: Array, copy: int) -> Array:
    tokens, dim = layer.num_tokens, layer.token_dim
    pieces = np.split(np.pad(x, ((0, 0), (0, -x.shape[1] % tokens))), tokens, axis=1)
    places = [copy * tokens + token for token in range(tokens)]
    x = [
        piece @ value(layer.projection, place) + value(layer.projection_bias, place)
        for piece, place in zip(pieces, places, strict=True)
    ]
    for norms, bank in zip(layer.norms, layer.networks, strict=True):
        hidden, kernel, bias = bank.hidden, bank.kernel, bank.bias
        part = dim // tokens
        mixed = [np.concatenate([token[:, part * h : part * (h + 1)] for token in x], axis=1) for h in range(tokens)]
        x = [normalised(norms[0], s + token, copy)[0] for s, token in zip(mixed, x, strict=True)]
        made = []
        for token, place in zip(x, places, strict=True):
            before = token @ value(hidden.kernels[0], place) + value(hidden.biases[0], place)
            gelu = 0.5 * before * (1 + erf(before / np.sqrt(2)))
            made.append(gelu @ value(kernel, place) + value(bias, place))
        x = [normalised(norms[1], f + token, copy)[0] for f, token in zip(made, x, strict=True)]
    return sum(x) / tokens


CASES: dict[str, tuple[Callable[[], Interaction], Callable[[Any, Array, int], Array]]] = {
    "dcn_v2": (lambda: DCNv2(num_layers=2), dcn),
    "dcn_v2, low rank": (lambda: DCNv2(num_layers=2, rank=2, num_experts=3), dcn_mixture),
    "fm": (FM, fm),
    "gdcn": (lambda: GDCN(num_layers=2), gdcn),
    "masknet, parallel": (lambda: MaskNet(units=6), masknet),
    "masknet, serial": (lambda: MaskNet("serial", num_blocks=3, units=6), masknet),
    "finalmlp": (lambda: FinalMLP((6,), (5, 4), num_heads=2), finalmlp),
    "finalmlp, gates that read": (
        lambda: FinalMLP((6,), (4,), 2, first_gate=("feature_2", "feature_0"), second_gate=("feature_1",)),
        finalmlp,
    ),
    "autoint": (lambda: AutoInt(num_layers=2, num_heads=2), autoint),
    "autoint, wider": (lambda: AutoInt(num_layers=2, num_heads=3, units=6), autoint),
    "wukong": (lambda: Wukong(num_crossed=3, num_linear=3, rank=2, units=(7,)), wukong),
    "wukong, fewer vectors": (lambda: Wukong(num_crossed=2, num_linear=2, rank=3, units=()), wukong),
    "rankmixer": (lambda: RankMixer(num_tokens=4, token_dim=8), rankmixer),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interaction_with_random_weights_is_its_papers_equations_in_every_copy(case: str) -> None:
    build, expected = CASES[case]
    built = model(SingleTask((8,), dropout=0.0), INPUTS, interaction=build())
    randomise(built, 0.4)
    draw = np.random.default_rng(0)
    ids, numbers = draw.integers(0, 9, (8, FIELDS)).astype(np.int32), draw.normal(size=(8, NUMBERS)).astype(np.float32)
    x = tf.convert_to_tensor(built.embed({"ids": ids, "numeric": numbers, "sequences": {}}).x)
    found = built.interaction(x).numpy()
    for copy, rows_of_copy in enumerate(x.numpy().astype(np.float64)):
        np.testing.assert_allclose(found[copy], expected(built.interaction, rows_of_copy, copy), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AutoInt(num_heads=3), r"num_heads should divide the features' embedding_dim, 4\. Received: 3\.$"),
        (lambda: AutoInt(num_heads=4, units=6), r"num_heads should divide model\.interaction\.units, 6\. Received: 4"),
        (lambda: FinalMLP((6,), (8,), 4), r"num_heads should divide .*first_units, 6\. Received: 4\.$"),
        (lambda: FinalMLP(second_gate=("featur_1",)), r"second_gate should name .* featur_1\. Did you mean feature_1"),
        (lambda: RankMixer(num_tokens=5), r"num_tokens should divide .*token_dim, 32\. Received: 5\.$"),
    ],
)
def test_sizes_that_do_not_divide_and_unknown_features_are_refused(
    build: Callable[[], Interaction], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^model\.interaction\.{message}"):
        model(inputs=INPUTS, interaction=build())
