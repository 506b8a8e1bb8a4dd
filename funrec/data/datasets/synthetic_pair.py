"""The synthetic study of the MMoE paper: two regressions whose relatedness is a knob."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.datasets.synthetic import Generated, sigmoid
from funrec.data.hashing import uniform
from funrec.utils.specs import Inherited, WholeNumber, between, whole

LABELS = ("y1", "y2")
#: Part of the fingerprint of prepared data: raise it with any change to the rows that a seed makes.
RECIPE = 1


class SyntheticPair(Generated):
    """Two tasks with a known relation (Ma et al., KDD 2018, section 3.2).

    With `u1, u2` orthogonal unit vectors, `w1 = c u1`, `w2 = c (p u1 + sqrt(1 - p^2) u2)` and `x ~ N(0, I)`:

        y_k = w_k'x + sum_i sin(alpha_i w_k'x + beta_i) + e_k,   e_k ~ N(0, noise_variance)

    The paper leaves the sines open; here `alpha_i` is uniform in [0.5, 2.5] and `beta_i` in [0, 2 pi], the same for
    both tasks and fixed by the seed. Columns are `x0`, `x1`, ..., `y1`, `y2` and, for a regression, the labels'
    expectations `expected_y1` and `expected_y2`. The features are neither scaled nor shifted.

    For a binary pair, which the paper does not have, the labels are drawn from `p_y1` and `p_y2`: `sigmoid(logit_scale
    * z_k)`, where `z_k` is the expectation above standardised to mean 0 and variance 1. `e_k` is left out, so that
    no model can rank better than these probabilities.

    Args:
        features: Features by name; where not given, all of `x0`, `x1`, ... as numeric features.
        tasks: Tasks by name; a `kind` that is not given is the dataset's.
        rows: Number of rows.
        kind: `regression` (the paper's) or `binary`.
        task_correlation: The `p` above, in [-1, 1]: the cosine of `w1` and `w2`. The labels' Pearson correlation
            rises with it, but for the sines is not equal to it.
        num_features: Length of `x`, at least 2; the paper uses 100.
        scale: The `c` above: the standard deviation of `w_k'x`.
        num_sines: Number of sines; 0 makes the tasks linear.
        noise_variance: Variance of `e_k`; the paper uses 0.01.
        logit_scale: Standard deviation of a binary label's logit.
        seed: Everything is a function of it. Row i is the same whatever `rows` is.

    The other arguments are those of `Dataset`.
    """

    rows_per_file = 2**15
    leaky = dict.fromkeys(
        ("expected_y1", "expected_y2", "p_y1", "p_y2"), "it is the label without its noise, which a model should find"
    )

    def __init__(
        self,
        *,
        features: Mapping[str, Any] | None = None,
        tasks: Mapping[str, Any],
        rows: Annotated[int, whole(1)] = 100_000,
        kind: Literal["regression", "binary"] = "regression",
        task_correlation: Annotated[float, between(-1, 1)] = 0.5,
        num_features: Annotated[int, whole(2)] = 100,
        scale: Annotated[float, between(0, 1_000, strictly=True)] = 1.0,
        num_sines: WholeNumber = 5,
        noise_variance: Annotated[float, between(0, 1_000)] = 0.01,
        logit_scale: Annotated[float, between(0, 100)] = 2.0,
        seed: WholeNumber = 0,
        **dataset: Inherited,
    ) -> None:
        self.rows, self.kind, self.task_correlation, self.num_features = rows, kind, task_correlation, num_features
        self.scale, self.num_sines = scale, num_sines
        self.noise_variance, self.logit_scale = noise_variance, logit_scale
        self.seed, self.recipe = seed, RECIPE
        self._inputs = [f"x{i}" for i in range(num_features)]
        super().__init__(
            features=features or {name: {"kind": "numeric"} for name in self._inputs},
            tasks={name: {**(task or {}), "kind": (task or {}).get("kind") or kind} for name, task in tasks.items()},
            **dataset,
        )
        conditions = {f"dataset.tasks.{task.name}.where": task.where for task in self.tasks}
        conditions["dataset.where"] = self.where
        read = [self.parse(key, text).columns for key, text in conditions.items() if text is not None]
        # Rows chosen by their labels have other probabilities.
        if kind == "binary" and not any(label in columns for label in LABELS for columns in read):
            self.oracle = {task.name: f"p_{task.label}" for task in self.tasks if task.label in LABELS}

    def available_columns(self) -> list[str]:
        prefix = "expected_" if self.kind == "regression" else "p_"
        return [*self._inputs, *LABELS, *(prefix + label for label in LABELS)]

    def generate(self, start: int, rows: int) -> pl.DataFrame:
        numbers = np.arange(start, start + rows, dtype=np.uint64)
        x = np.stack([self._normal(numbers, name) for name in self._inputs], axis=1).astype(np.float32)
        expected = self._respond(x.astype(np.float64) @ self.weights.T)
        if self.kind == "regression":
            truth = expected.astype(np.float32)
            noise = np.stack([self._normal(numbers, label) for label in LABELS], axis=1)
            labels: NDArray[Any] = (expected + np.sqrt(self.noise_variance) * noise).astype(np.float32)
        else:
            mean, deviation = self._moments
            truth = sigmoid((self.logit_scale * (expected - mean) / deviation).astype(np.float32))
            draws = np.stack([uniform(numbers, self.seed, label) for label in LABELS], axis=1)
            labels = (draws < truth).astype(np.int8)
        values = [*x.T, *labels.T, *truth.T]
        return pl.DataFrame(dict(zip(self.available_columns(), values, strict=True)))

    def _normal(self, numbers: NDArray[np.uint64], site: str) -> NDArray[np.float64]:
        """Return a standard normal a row (Box and Muller, 1958); libraries take a varying number of draws."""
        radius = np.sqrt(-2 * np.log1p(-uniform(numbers, self.seed, f"{site}/radius")))
        return radius * np.cos(2 * np.pi * uniform(numbers, self.seed, f"{site}/angle"))

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """The vectors `w1` and `w2`, `(2, num_features)`."""
        random = np.random.default_rng([self.seed, 1])
        (first, second) = np.linalg.qr(random.standard_normal((self.num_features, 2)))[0].T
        p = self.task_correlation
        return self.scale * np.stack([first, p * first + np.sqrt(1 - p**2) * second])

    @cached_property
    def _sines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        random = np.random.default_rng([self.seed, 3])
        return random.uniform(0.5, 2.5, self.num_sines), random.uniform(0, 2 * np.pi, self.num_sines)

    def _respond(self, projection: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `t + sum_i sin(alpha_i t + beta_i)` for every `t` of any shape."""
        total = projection.copy()
        for alpha, beta in zip(*self._sines, strict=True):
            total += np.sin(alpha * projection + beta)
        return total

    @cached_property
    def _moments(self) -> tuple[float, float]:
        """Mean and standard deviation of a label's expectation, whose projection is N(0, scale^2)."""
        points = np.linspace(-8, 8, 20_001)
        density = np.exp(-(points**2) / 2)
        values = self._respond(self.scale * points)
        mean = np.average(values, weights=density)
        return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=density)))
