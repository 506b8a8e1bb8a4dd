"""What a fused score should do: a weighted sum of ranking metrics, and its value on some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from funrec.comparison.significance import Accumulator, Measured
from funrec.fusion.rows import Part
from funrec.metrics.base import Metric, Sample
from funrec.metrics.intervals import Bootstrapped, Statistic
from funrec.metrics.sorting import Array
from funrec.runs.formula import parse_formula
from funrec.schema import Task
from funrec.utils.errors import InputError


class Objective:
    """A weighted sum of ranking metrics, such as `gauc_is_click + 2*gauc_is_like`.

    Args:
        text: The sum, in the grammar of `funrec.runs.formula`.
        tasks: What the run predicts.
        metrics: What it measures; those of probabilities or values cannot be asked of a score that only ranks.

    Attributes:
        coefficients: By metric.
        measured: The metric and the task that each is of.
    """

    def __init__(self, text: str, tasks: Sequence[Task], metrics: Sequence[Metric]) -> None:
        known = {
            f"{metric.name}_{task.name}": (metric, task.name)
            for task in tasks
            for metric in metrics
            if metric.kind in task.kinds and metric.higher_is_better and not metric.needs_probabilities
        }
        self.text = text.strip()
        self.coefficients: dict[str, float] = {}
        for term in parse_formula(text, known, "--objective").terms:
            if list(term.powers.values()) != [1.0]:
                raise InputError(
                    f"--objective should be a sum of metrics, as in gauc_a + 2*gauc_b. Received: {self.text}."
                )
            (name,) = term.powers
            self.coefficients[name] = self.coefficients.get(name, 0.0) + term.coefficient
        self.measured = {name: known[name] for name in self.coefficients}

    @property
    def weights(self) -> Array:
        """The coefficients, in the order of the metrics, `float64 (metrics,)`."""
        return np.array(list(self.coefficients.values()))

    def is_avoided(self, task: str) -> bool:
        """Whether it counts nothing but harm of a task: then a higher chance of it should lower the score."""
        counts = [self.coefficients[name] for name, (_, target) in self.measured.items() if target == task]
        return bool(counts) and max(counts) < 0


class Gauge:
    """Measures an objective's metrics of any score of the same rows.

    Args:
        objective: What to measure.
        part: The rows.
    """

    def __init__(self, objective: Objective, part: Part) -> None:
        self._metrics: list[tuple[Metric, Sample, Statistic]] = []
        for name, (metric, task) in objective.measured.items():
            if metric.needs_groups and part.users is None:
                raise InputError(f"--objective should do without {name}: the dataset names no group column.")
            sample = part.sample(part.labels[task])
            statistic = metric.statistic(sample)
            if not statistic.is_defined:
                raise InputError(f"--objective should be defined on {part.name}. {name} is not: too few labels.")
            self._metrics.append((metric, sample, statistic))
        if any(isinstance(statistic, Bootstrapped) for *_, statistic in self._metrics):  # then all, to be added up
            self._metrics = [(metric, sample, Bootstrapped(metric, sample)) for metric, sample, _ in self._metrics]

    def values(self, scores: Array) -> Array:
        """Return the metrics of a score, `float64 (metrics,)`."""
        single = scores.astype(np.float32)
        return np.array(
            [
                metric.value(sample.scored(single))
                if isinstance(statistic, Bootstrapped)
                else statistic.measure(single)[0]
                for metric, sample, statistic in self._metrics
            ]
        )

    def measure(self, scores: Array) -> Measured:
        """Return the metrics of a score with how they vary with the users."""
        found = [statistic.measure(scores.astype(np.float32)) for *_, statistic in self._metrics]
        counts = np.array([statistic.count for *_, statistic in self._metrics])
        measured = Accumulator(counts)
        measured.add(np.array([value for value, _ in found]), np.stack([deviations for _, deviations in found]))
        return measured.result()


def named(objective: Objective, values: Array) -> Mapping[str, float]:
    """Return the metrics by name."""
    return dict(zip(objective.coefficients, map(float, values), strict=True))
