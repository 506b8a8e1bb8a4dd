"""What happened before a row, from the log itself: counts, rates, means and sequences that never see the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from funrec.utils.errors import InputError
from funrec.utils.specs import Name, Names, NotNegative, Text, check, whole

#: What the names of columns begin with that hold histories.
HISTORY = "history/"
#: What the column of a sequence is called that holds how long ago events were.
AGO = "ago"
STATISTICS = ("count", "rate", "mean", "sum", "distinct", "since", "last")

#: Such as `7d`, or a number of steps of the time column.
Duration = NotNegative | Text
#: The keys of a history that say how its values enter the model.
_FEATURE_KEYS = (
    *("embedding_dim", "min_count", "max_vocabulary", "hash_buckets", "share_with", "pooling"),
    *("target", "search", "search_length", "boundaries", "quantiles"),
)
#: Of a sequence: what stands at the first column of its events.
_FIRST_KEYS = ("pooling", "target", "search", "search_length")


#: What is read for each key of a spec.
ROLES = {
    **{"by": "by", "where": "where", "of": "value", "distinct": "value"},
    **dict.fromkeys(("rate", "mean", "sum"), "number"),
}


@dataclass(frozen=True)
class HistorySpec:
    """One statistic of the earlier rows that agree with a row on `by`.

    Attributes:
        name: The feature's name.
        by: Columns or SQL expressions whose values make the key; empty for the whole log. A null is a value as well.
        count: Count the rows.
        rate: Condition whose rate is taken, smoothed towards its rate over all keys as known by then. Rows where it
            is null do not count.
        mean: Number whose mean is taken; nulls do not count.
        sum: Number whose sum is taken.
        distinct: Column or expression whose distinct values are counted; a null is none.
        since: `last`: the time since the newest row, in days, or in steps of a time column without a unit.
        last: The newest so many rows, the oldest of them first, as a sequence of the columns in `of`.
        of: Columns or expressions that a sequence holds.
        ago: Let a sequence hold how long ago each event was, too, in buckets that double.
        smoothing: How many rows at the rate over all keys a rate starts from.
        where: Condition that a row must meet to be counted.
        window: How far back from its own time a row looks, such as `7d`; None for all of the log.
        lag: How old a row must be to be seen; None for `dataset.history.lag`.
        time: A finer time column for this history alone, such as one of milliseconds beside a split by date. It needs a
            lag of its own; 0 will do where only exposures are counted, which are known at once.
        until: `row` or `train_end` for this history alone; None for `dataset.history.until`.
        scale: `log1p` (for counts and times, unless they are put into buckets) or `linear` (for all else).
    """

    name: str
    by: Names
    count: bool = False
    rate: Name | None = None
    mean: Name | None = None
    sum: Name | None = None
    distinct: Name | None = None
    since: Literal["last"] | None = None
    last: Annotated[int, whole(1, 65_535)] | None = None
    of: Names = ()
    ago: bool = False
    smoothing: NotNegative = 20.0
    where: Text | None = None
    window: Duration | None = None
    lag: Duration | None = None
    time: Name | None = None
    until: Literal["row", "train_end"] | None = None
    scale: Literal["log1p", "linear"] = "linear"

    @classmethod
    def read(cls, name: str, values: Mapping[str, Any]) -> HistorySpec:
        """Return the history that a configuration describes.

        Raises:
            InputError: If a key is unknown, a value is not what it should be, or it is no or several statistics.
        """
        where = f"dataset.features.{name}"
        spec = cls(name=name, **check(cls, values, where, given={"name"}, ignore_nulls=True))
        chosen = [key for key in STATISTICS if getattr(spec, key)]
        if len(chosen) != 1:
            received = ", ".join(chosen) or "none of them"
            raise InputError(f"{where} should have exactly one of {', '.join(STATISTICS)}. Received: {received}.")
        if bool(spec.of) != spec.is_sequence:
            raise InputError(f"{where}.of should name what a sequence holds, beside `last` and only there.")
        if spec.ago and not spec.is_sequence:
            raise InputError(f"{where}.ago should stand beside `last`, whose events it is about.")
        return spec

    @property
    def statistic(self) -> str:
        return next(key for key in STATISTICS if getattr(self, key))

    @property
    def is_sequence(self) -> bool:
        return self.last is not None

    def column(self, of: str | None = None) -> str:
        """Return the column that holds its values, or those of one of the columns in `of`."""
        return f"{HISTORY}{self.name}" + ("" if of is None or len(self.of) == 1 else f"/{of}")

    def columns(self) -> list[str]:
        """Return the columns of a staged log that it reads."""
        return [_column(key, text) for key, text in expressions(self)]

    @property
    def time_column(self) -> str:
        """The column of a staged log that holds its times."""
        return "time" if self.time is None else f"time/{self.time}"


@dataclass(frozen=True)
class HistorySettings:
    """How the histories of a dataset look back.

    Attributes:
        until: `row`: a row sees all that was known by its own time, earlier evaluation rows' outcomes as well;
            `train_end`: nothing after the last training row, as if the statistics had been frozen then.
        lag: How old a row must be to be seen. Null for the days before, which needs a time column of dates; labels
            take time to be known, so a finer one needs a lag.
        where: Condition that a row must meet to be seen by any other.
        warmup: Training rows of the log's first so many days, such as `2d`, are seen but not trained on.
        logs: Earlier logs, which histories see and nothing is trained on: a table's files; `4_08_to_4_21` for KuaiRand.
    """

    until: Literal["row", "train_end"] = "row"
    lag: Duration | None = None
    where: Text | None = None
    warmup: Duration | None = None
    logs: Names = ()


def split_histories(features: Mapping[str, Any]) -> tuple[tuple[HistorySpec, ...], dict[str, Any]]:
    """Take the histories out of `dataset.features`.

    Returns:
        The histories, and all features: a history in it is a number, or a sequence for each column in `of` (called
        `<name>/<column>` if there are several), read from the column that holds the history's values.
    """
    specs, plain = [], {}
    for name, values in features.items():
        if not isinstance(values, Mapping) or values.get("kind") != "history":
            plain[name] = values
            continue
        given = {key: value for key, value in values.items() if value is not None}
        is_count = any(given.get(key) for key in ("count", "distinct", "since"))
        if is_count and not {"boundaries", "quantiles"} & set(given):
            given.setdefault("scale", "log1p")
        spec = HistorySpec.read(name, {k: v for k, v in given.items() if k not in ("kind", *_FEATURE_KEYS)})
        specs.append(spec)
        rest = {key: value for key, value in given.items() if key in _FEATURE_KEYS}
        if spec.is_sequence:
            plain |= _sequences(spec, rest)
        else:
            plain[name] = {**rest, "kind": "numeric", "column": spec.column()}
    return tuple(specs), plain


def _sequences(spec: HistorySpec, rest: dict[str, Any]) -> dict[str, Any]:
    """Return the features that hold the columns of a sequence's events."""
    owners = rest.pop("share_with", None)
    owners = list(owners) if isinstance(owners, list | tuple) else [owners]
    if len(owners) not in (1, len(spec.of)) or (len(owners) < len(spec.of) and owners[0] is not None):
        raise InputError(
            f"dataset.features.{spec.name}.share_with should list a feature for each of {', '.join(spec.of)}. "
            f"Received: {', '.join(map(str, owners))}."
        )
    common = {key: value for key, value in rest.items() if key not in _FIRST_KEYS}
    common |= {"kind": "sequence", "max_length": spec.last}
    if len(spec.of) > 1 or spec.ago:
        common["events"] = spec.name
    found: dict[str, Any] = {}
    for text, owner in zip(spec.of, owners * (len(spec.of) if len(owners) == 1 else 1), strict=True):
        first_keys = {key: rest[key] for key in _FIRST_KEYS if key in rest and not found}
        name = spec.name if len(spec.of) == 1 else f"{spec.name}/{text}"
        found[name] = {**common, **first_keys, "column": spec.column(text), "share_with": owner}
    if spec.ago:
        widths = {key: common[key] for key in ("kind", "max_length", "events", "embedding_dim") if key in common}
        found[f"{spec.name}/{AGO}"] = {**widths, "column": f"{HISTORY}{spec.name}/{AGO}"}
    return found


def expressions(spec: HistorySpec) -> Iterator[tuple[str, str]]:
    """Yield every expression of a spec with the key it stands under."""
    for key in ROLES:
        texts = getattr(spec, key)
        for text in (texts,) if isinstance(texts, str) else texts or ():
            yield key, text


def _column(key: str, text: str) -> str:
    return f"{ROLES[key]}/{text}"
