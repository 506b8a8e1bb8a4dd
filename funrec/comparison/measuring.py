"""Read saved predictions and measure how every run's metrics vary with the users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from funrec.comparison.significance import Accumulator, Measured
from funrec.comparison.variants import RunRecord
from funrec.metrics import Metric, build_metrics
from funrec.metrics.base import Sample
from funrec.metrics.intervals import RESAMPLES, Statistic
from funrec.metrics.sorting import Array
from funrec.runs.record import PREDICTIONS
from funrec.runs.tables import MACRO
from funrec.utils.errors import InputError
from funrec.utils.files import one_line, read_parquet

if TYPE_CHECKING:
    import polars as pl

VALID, TEST = "valid", "test"

#: Saved scores are those that the record's metrics were computed from, so that only rounding may differ.
TOLERANCE = 1e-6


def split_of(metric: str) -> str:
    """Return the evaluation split of a metric: `auc_is_click@test` is of `test`, without a mark it is validation."""
    return metric.partition("@")[2] or VALID


def marked(metric: str, split: str) -> str:
    """Return a metric's name on a split."""
    return metric if split == VALID else f"{metric}@{split}"


@dataclass(frozen=True, slots=True)
class Rows:
    """What all compared runs share: the rows of one split, without their scores.

    Attributes:
        users: A code from 0 per row's user, `int64 (rows,)`; None where the data has no group column.
        labels: By task, `float32 (rows,)`, NaN where the row is not in the task's sample space.
    """

    users: Array | None
    labels: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    @property
    def units(self) -> int:
        """Number of sampling units: users, or rows where there is no group column."""
        return len(self) if self.users is None else int(self.users.max(initial=-1)) + 1

    def sample(self, labels: Array) -> Sample:
        """Return the rows where labels are not NaN."""
        places = np.flatnonzero(~np.isnan(labels))
        units = places if self.users is None else self.users[places]
        index = None if places.size == labels.size else places
        return Sample(labels[places], units, self.units, self.users is not None, index)


class Prepared(NamedTuple):
    """A metric's statistic, and the heads whose scores it reads: the first of them that a run has."""

    statistic: Statistic
    heads: tuple[str, ...]


class Meter:
    """Measures runs that were scored on the same rows.

    Args:
        runs: The runs, with the same tasks. The first with readable predictions lends its rows and labels.
        metrics: Names of metrics. Left out are those of which neither more nor less is better (a count of users), and
            those of a split that some run lacks.

    Attributes:
        metrics: The metrics that are measured one by one; a macro is a mean of them.
        counts: Users behind each of them, `int64 (metrics,)`.
        damaged: Why the predictions of a run cannot be read, a line each.
        has_users: Whether the data has a group column.
    """

    def __init__(self, runs: Sequence[RunRecord], metrics: Sequence[str]) -> None:
        self.tasks = runs[0].tasks
        self.damaged: list[str] = []
        self._recorded = {name for run in runs for name in run.record["metrics"]}
        uncalibrated = {task for run in runs for task in run.record.get("uncalibrated") or ()}
        built = [metric for run in runs for metric in build_metrics(run.record["config"].get("metrics") or {})]
        self._measured = list({metric.name: metric for metric in built}.values())
        self._statistics: dict[str, Prepared] = {}
        self._rows: dict[str, int] = {}
        self._width = 0
        self.has_users = True
        wanted = {part for metric in metrics for part in self._parts(metric)}
        for split in sorted({split_of(metric) for metric in wanted}):
            if not all(split in run.rows for run in runs):
                continue
            rows = load_rows(runs, split)
            self.has_users = rows.users is not None
            names = {metric.partition("@")[0] for metric in wanted if split_of(metric) == split}
            found = build_statistics(rows, self._measured, names, uncalibrated)
            self._statistics |= {marked(name, split): prepared for name, prepared in found.items()}
            self._rows[split] = len(rows)
            self._width = max(self._width, rows.units, RESAMPLES)
        self.metrics = list(self._statistics)
        self.counts: Array = np.array([statistic.count for statistic, _ in self._statistics.values()], np.int64)

    def is_measured(self, metric: str) -> bool:
        """Whether a metric has a sampling error."""
        parts = self._parts(metric)
        return bool(parts) and all(part in self._statistics for part in parts)

    def weights(self, metric: str) -> Array:
        """Return a metric that is measured as a weighted sum of those of `metrics`, `(metrics,)`."""
        parts = self._parts(metric)
        weights = np.zeros(len(self.metrics))
        weights[[self.metrics.index(part) for part in parts]] = 1 / len(parts)
        return weights

    def users(self, metric: str) -> tuple[int, int]:
        """Return the users behind a metric that is measured; of a macro, the fewest and the most of a task."""
        counts = [self._statistics[part].statistic.count for part in self._parts(metric)]
        return min(counts), max(counts)

    def measure(self, runs: Sequence[RunRecord]) -> tuple[list[RunRecord], Measured | None]:
        """Measure the runs of a variant one after the other, keeping no more than their mean.

        Returns:
            The runs whose predictions can be read, and what they give: None if there is none. `damaged` says why.
        """
        sound, measured = [], Accumulator(self.counts)
        for run in runs:
            try:
                measured.add(*self._measure(run))
            except InputError as error:
                self.damaged.append(str(error))
            else:
                sound.append(run)
        return sound, measured.result() if sound else None

    def _measure(self, run: RunRecord) -> tuple[Array, Array]:
        values, vectors = np.zeros(len(self.metrics)), np.zeros((len(self.metrics), self._width))
        heads = {head for _, heads in self._statistics.values() for head in heads}
        for split, rows in self._rows.items():
            frame = read_split(run, split, [f"score_{head}" for head in sorted(heads)])
            if len(frame) != rows:
                raise _damage(run, f"it has {len(frame):,} rows of the {split} split, and should have {rows:,}")
            for place, (metric, (statistic, choices)) in enumerate(self._statistics.items()):
                if split_of(metric) != split:
                    continue
                head = next((head for head in choices if f"score_{head}" in frame.columns), None)
                if head is None:
                    raise _damage(run, f"it should have the column score_{choices[-1]}")
                try:
                    scores = frame[f"score_{head}"].to_numpy()
                    values[place], vector = statistic.measure(scores)
                except ValueError as error:
                    raise _damage(run, str(error).rstrip(".")) from error
                vectors[place, : vector.size] = vector
                recorded = run.record["metrics"].get(metric, values[place])
                if not abs(values[place] - recorded) <= TOLERANCE:
                    raise _damage(run, f"its scores give {metric} {values[place]:.6f}, the record has {recorded:.6f}")
        return values, vectors

    def _parts(self, column: str) -> list[str]:
        """Return the metrics that a macro is the mean of; of any other metric, itself."""
        name, split = column.partition("@")[0], split_of(column)
        for metric in self._measured:
            if metric.has_macro and name == f"{metric.name}_{MACRO}" and MACRO not in self.tasks:
                columns = [f"{metric.name}_{task}" for task in self.tasks]
                return [marked(column, split) for column in columns if column in self._recorded]
        return [column]


def build_statistics(
    rows: Rows, metrics: Sequence[Metric], names: set[str], uncalibrated: Collection[str] = ()
) -> dict[str, Prepared]:
    """Return those of the named metrics that are better in one direction and are defined on these rows.

    Args:
        rows: The split.
        metrics: What the runs measured.
        names: Metrics, without the mark of their split: `auc_is_like`, `auc_is_like_given_is_click`.
        uncalibrated: Tasks whose scores are no log odds in some run; metrics of probabilities are left out for them.
    """
    targets: dict[str, tuple[Array, tuple[str, ...]]] = {task: (rows.labels[task], (task,)) for task in rows.labels}
    for task, labels in rows.labels.items():
        for parent, given in rows.labels.items():
            name = f"{task}_given_{parent}"
            if any(wanted.endswith(f"_{name}") for wanted in names):
                targets.setdefault(name, (np.where(given == 1, labels, np.float32(np.nan)), (name, task)))
    built = {}
    for name, (labels, heads) in targets.items():
        sample = rows.sample(labels)
        for metric in metrics:
            column = f"{metric.name}_{name}"
            if metric.needs_probabilities and heads[-1] in uncalibrated:
                continue
            if column not in names or metric.higher_is_better is None or (metric.needs_groups and rows.users is None):
                continue
            statistic = metric.statistic(sample)
            if statistic.is_defined:
                built[column] = Prepared(statistic, heads)
    return built


def load_rows(runs: Sequence[RunRecord], split: str) -> Rows:
    """Return the rows of a split from the first run that can be read, once all are known to have the same."""
    columns = ["row", "group", *(f"label_{task}" for task in runs[0].tasks)]
    reasons = []
    for first in runs:
        try:
            frame = read_split(first, split, columns)
            break
        except InputError as error:
            reasons.append(str(error))
    else:
        raise InputError(f"At least one run should have readable predictions. {reasons[0]}")
    same = {first.rows[split]}
    for run in runs:
        if run.rows[split] in same:
            continue
        # A fingerprint also depends on the order of tasks: look at the rows themselves before refusing.
        if not frame.equals(read_split(run, split, columns)):
            raise InputError(
                f"Runs to compare should be scored on the same rows. {first.path} and {run.path} differ in the rows, "
                f"users or labels of the {split} split. Compare runs of one dataset and dataset.split."
            )
        same.add(run.rows[split])
    if missing := [name for name in columns if name not in frame.columns and name != "group"]:
        raise _damage(first, f"it should have the column {missing[0]}")
    return Rows(user_codes(frame), {task: frame[f"label_{task}"].to_numpy() for task in runs[0].tasks})


def user_codes(frame: pl.DataFrame) -> Array | None:
    """Return a code from 0 per row's user, `int64 (rows,)`; rows without a user are one user's. None without groups."""
    if "group" not in frame.columns:
        return None
    ranks: Array = frame["group"].rank("dense").fill_null(0).to_numpy().astype(np.int64)  # a dense rank begins at 1
    return ranks - (ranks.min() if ranks.size else 0)


def read_split(run: RunRecord, split: str, columns: Sequence[str]) -> pl.DataFrame:
    """Return those of the columns that a run saved, for the rows of one split, in the order they were scored."""
    import polars as pl

    path = run.path / PREDICTIONS
    try:
        saved = pl.read_parquet_schema(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Run it again or leave it out.") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}. Run it again or leave it out.") from error
    present = [name for name in columns if name in saved]
    if len(run.rows) == 1 or "split" not in saved:
        return read_parquet(path, present)
    return read_parquet(path, ["split", *present]).filter(pl.col("split") == split).drop("split")


def _damage(run: RunRecord, what: str) -> InputError:
    return InputError(f"{run.path / PREDICTIONS} is damaged: {what}. Run it again or leave it out.")
