"""Features, tasks, the split rule and InputLayout: the terms that every package uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from funrec.utils.specs import Name, NotNegative, PositiveInt, PositiveNumber, Share, Text, whole


@dataclass(frozen=True)
class Feature:
    """One input of the model; every kind of it is a class of its own.

    Attributes:
        name: The feature's name, unique in a dataset.
        column: The raw column it is read from; empty for the column of the feature's own name.
        embedding_dim: Width of its embedding. Has no meaning for an unbucketed numeric feature.
        known_before: Why its value is known before the labels are, although it is marked as leaky or a label is
            computed from it; the reason goes into the record.
    """

    kind: ClassVar[str]
    name: str
    column: Name = ""
    embedding_dim: PositiveInt = 8
    known_before: str | None = None
    #: Another feature whose vocabulary and embedding rows this one uses.
    share_with: ClassVar[str | None] = None
    #: Whether a number becomes one of several buckets.
    is_bucketed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, "column", self.name)

    @property
    def is_history(self) -> bool:
        """Whether its column is computed from earlier rows; such a number may be missing."""
        return self.column.startswith("history/")

    @property
    def has_embedding(self) -> bool:
        """Whether the model reads it as embedding rows rather than as a number."""
        return self.kind != "numeric" or self.is_bucketed

    def to_plain(self) -> dict[str, Any]:
        """Return its keys and values, its kind among them, as `read_feature` takes them."""
        return {"name": self.name, "kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class CategoricalFeature(Feature):
    """An id per row; of a list, the first.

    Attributes:
        min_count: Values seen fewer times in the training split share the out-of-vocabulary row.
        max_vocabulary: Keep the most frequent values only; null keeps all.
        hash_buckets: Hash values into this many rows instead of building a vocabulary.
        share_with: Another feature whose vocabulary and embedding rows this one uses.
        separator: What separates the values of a list stored as text.
    """

    kind: ClassVar[str] = "categorical"

    min_count: PositiveInt = 1
    max_vocabulary: PositiveInt | None = None
    hash_buckets: PositiveInt | None = None
    share_with: Name | None = None  # type: ignore[misc]  # a class attribute where no vocabulary can be shared
    separator: Text = ","


@dataclass(frozen=True)
class SequenceFeature(CategoricalFeature):
    """Ids per row.

    Attributes:
        pooling: How a sequence's embeddings become one: the name of a file in `conf/pooling`, or a mapping of `name`
            and options.
        max_length: A sequence keeps its first `max_length` values.
        target: The row's own feature that `attention` and `transformer` compare the values with; by default the one
            that `share_with` names.
        search: Pool only values of events that agree with the row on this feature, which one of the events' columns
            shares its embedding rows with.
        search_length: How many of the events found to keep, the last.
        events: A name that sequences have in common whose lists are of the same events, value by value. They are read
            together, as the first of them says; a null is a value as well, unknown.
    """

    kind: ClassVar[str] = "sequence"

    pooling: str | dict[str, Any] = "mean"
    max_length: PositiveInt = 20
    target: Name | None = None
    search: Name | None = None
    search_length: PositiveInt = 50
    events: Name | None = None

    @property
    def counterpart(self) -> str | None:
        """The row's own feature that its values are compared with; no feature of that name may have one id a row."""
        return self.target or self.share_with


@dataclass(frozen=True)
class NumericFeature(Feature):
    """A number per row, standardised, or put into a bucket that has an embedding.

    Attributes:
        boundaries: Cut points that turn the number into a bucket.
        quantiles: Number of equally filled buckets, cut at the training split's quantiles.
        fill: Stands in for a null or NaN; without it such a value is an error.
    """

    kind: ClassVar[str] = "numeric"

    boundaries: tuple[float, ...] | None = None
    quantiles: Annotated[int, whole(2)] | None = None
    fill: float | None = None

    @property
    def is_bucketed(self) -> bool:  # type: ignore[override]
        return self.boundaries is not None or self.quantiles is not None


#: The kinds of features; a further one is a class here.
FEATURES: tuple[type[Feature], ...] = (CategoricalFeature, SequenceFeature, NumericFeature)
KINDS = {feature.kind: feature for feature in FEATURES}


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to predict.

    Attributes:
        name: The task's name, unique in a dataset.
        label: A raw column, or an SQL expression over the raw row (`"is_click = 1 AND is_like = 1"`); empty for the
            column of the task's own name.
        where: The task's sample space, likewise; rows outside it are masked in loss and metrics.
        weight: The task's weight in the loss, read by the `fixed` weighting.
        kind: `binary`, `regression`, or `duration`: a time of at least 0, such as watch time.
        after: The parent task in a funnel; null for a root.
        loss: The name of its loss in `conf/loss`, or a mapping of `name` and options; null for that of its kind.
        length: Of a duration: how long it could be at once, such as the video's length, a column or an expression in
            the label's unit.
        most_lengths: Times its `length` that a duration may be; a longer one is an error. Null allows any.
        observed_after: Of a binary label that comes late: how long after the row's time (`dataset.time`) it is seen, a
            column or an expression in that time's unit (days of dates, seconds of date-times). Training then knows
            the labels seen before validation begins, and the loss `delayed_feedback` reads the others.
    """

    name: str
    label: Name = ""
    where: str | None = None
    weight: NotNegative = 1.0
    kind: Literal["binary", "regression", "duration"] = "binary"
    after: Name | None = None
    loss: str | dict[str, Any] | None = None
    length: Name | None = None
    most_lengths: PositiveNumber | None = None
    observed_after: Name | None = None

    @property
    def is_binary(self) -> bool:
        return self.kind == "binary"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of losses and metrics that serve it: a duration is a regression too."""
        return ("duration", "regression") if self.kind == "duration" else (self.kind,)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How the rows of one log are divided.

    Attributes:
        by: `time` (from `valid_from` on is validation, from `test_from` on is test), `group` (a share of the
            groups), `random` (a share of the rows) or `column` (a column that says train, valid, calibrate or test).
        column: The column to split on; `dataset.time` or `dataset.group` where not given.
        valid_from: First value of the validation split, in the column's own terms.
        valid: Share of groups or rows in the validation split.
        test_from: First value of the test split; null for no test split.
        test: Share of groups or rows in the test split.
        calibrate_from: First value of the split for `calibration` and `funrec fuse`, between validation and test.
        calibrate: Share of groups or rows in that split.
        seed: Which groups or rows fall where; also which negatives `dataset.downsample` keeps.
    """

    by: Literal["time", "group", "random", "column"] = "random"
    column: Name | None = None
    valid_from: Any = None
    valid: Share | None = None
    test_from: Any = None
    test: Share | None = None
    calibrate_from: Any = None
    calibrate: Share | None = None
    seed: int = 0


@dataclass(frozen=True)
class InputLayout:
    """What a batch carries: which column of which array is which feature.

    Attributes:
        features: All features of the dataset.
        id_features: Names of the columns of `ids`, in order.
        numeric_features: Names of the columns of `numeric`, in order.
        cardinalities: Embedding rows of every feature that has its own, the out-of-vocabulary row included.
        domain: The feature that is the row's domain, one of `id_features`; None without one.
    """

    features: tuple[Feature, ...]
    id_features: tuple[str, ...]
    numeric_features: tuple[str, ...]
    cardinalities: Mapping[str, int]
    domain: str | None = None

    @property
    def num_domains(self) -> int:
        return 0 if self.domain is None else self.cardinalities[self.domain] - 1

    @property
    def embedded_features(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.has_embedding)

    @property
    def sequence_features(self) -> tuple[SequenceFeature, ...]:
        return tuple(feature for feature in self.features if isinstance(feature, SequenceFeature))

    def empty_batch(self, rows: int) -> dict[str, Any]:
        """Return a batch of `rows` unknown ids, zeros and empty sequences."""
        batch: dict[str, Any] = {"ids": np.zeros((rows, len(self.id_features)), np.int32)}
        if self.numeric_features:
            batch["numeric"] = np.zeros((rows, len(self.numeric_features)), np.float32)
        batch["sequences"] = {f.name: np.full((rows, f.max_length), -1, np.int32) for f in self.sequence_features}
        return batch


def event_columns(features: Sequence[Feature]) -> list[tuple[SequenceFeature, ...]]:
    """Return the sequences, those of the same events together."""
    groups: dict[Any, list[SequenceFeature]] = {}
    for feature in features:
        if isinstance(feature, SequenceFeature):
            groups.setdefault(feature.events or (feature.name,), []).append(feature)
    return [tuple(group) for group in groups.values()]
