"""A search space: by key of the configuration, a range or a list of choices."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from funrec.config.overrides import quoted
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import check, worded

if TYPE_CHECKING:
    from optuna.trial import Trial

RANGE_KEYS = ("low", "high", "step", "log")
CHOICES_KEY = "choices"

#: Significant digits of a value from a continuous range: few enough to read and type.
DIGITS = 4

Number = Annotated[int | float, worded("a number")]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included: whole ones if both are.

    Attributes:
        step: The distance between neighbours; None for any number (any whole number).
        log: Whether to draw the logarithm evenly.
    """

    low: Number
    high: Number
    step: Number | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> list[Any]:
        """Its smallest and its largest value."""
        return [self.low, self.high]

    @property
    def grid(self) -> Sequence[Any] | None:
        """All values; None if they cannot be listed."""
        if self.is_whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [round(self.low + place * self.step, 12) for place in range(count)]

    def holds(self, value: Any) -> bool:
        """Whether a value is within the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def encode(self, value: Any) -> Any:
        """Return Optuna's form of a value."""
        return value

    def decode(self, value: Any) -> Any:
        """Return the value that a run gets."""
        if self.is_whole or self.step is not None:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return Optuna's suggestion for a trial."""
        grid = self.grid
        high = grid[-1] if grid else self.high  # Optuna warns of a range that its step does not divide
        if self.is_whole:
            return trial.suggest_int(key, int(self.low), int(high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(key, float(self.low), float(high), step=self.step, log=self.log)


@dataclass(frozen=True)
class Choices:
    """Values to choose from, of any kind that a configuration has, each once."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> list[Any]:
        """All values: each may be the one that cannot be trained with."""
        return list(self.values)

    grid = ends

    def holds(self, value: Any) -> bool:
        """Whether a value is among them."""
        return _text(value) in self._by_text

    def encode(self, value: Any) -> str:
        """Return Optuna's form of a value: its storages keep no lists, and take `true` for 1."""
        return _text(value)

    def decode(self, value: Any) -> Any:
        """Return the value that a run gets."""
        return self._by_text[value]

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return Optuna's suggestion for a trial, in Optuna's form."""
        return trial.suggest_categorical(key, list(self._by_text))

    @cached_property
    def _by_text(self) -> dict[str, Any]:
        return {_text(value): value for value in self.values}


Space = dict[str, Range | Choices]


def read_space(entries: Any) -> Space:
    """Return the space that a configuration file describes.

    Args:
        entries: By key of the configuration, `{low, high}` with `step` or `log`, or `{choices: [...]}`.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise InputError(
            "search.space should have at least one key to search, as in optimizer.learning_rate: {low: 1.0e-4, "
            f"high: 1.0e-2, log: true}}. Received: {entries or 'nothing'}."
        )
    return {str(key): _read(entry, f"search.space.{key}") for key, entry in entries.items()}


def write_space(space: Space) -> dict[str, dict[str, Any]]:
    """Return what `read_space` reads."""
    return {
        key: {CHOICES_KEY: list(entry.values)} if isinstance(entry, Choices) else asdict(entry)
        for key, entry in space.items()
    }


def grid_size(space: Space) -> int:
    """Return how many points a grid over the space has."""
    for key, entry in space.items():
        if entry.grid is None:
            raise InputError(
                f"search.space.{key} should have a step or choices, for a grid. Received: a continuous range from "
                f"{entry.ends[0]} to {entry.ends[1]}. Give it choices, or choose search.sampler=random."
            )
    return math.prod(len(entry.grid or ()) for entry in space.values())


def grid_point(space: Space, index: int) -> dict[str, Any]:
    """Return a point of the grid, by its place from 0 to `grid_size(space) - 1`."""
    point = {}
    for key, entry in space.items():
        values = entry.grid or ()
        index, place = divmod(index, len(values))
        point[key] = values[place]
    return point


def to_override(key: str, value: Any) -> str:
    """Return the override that gives a key a value, to the last digit."""
    return f"{key}={_spell(value)}"


def _read(entry: Any, where: str) -> Range | Choices:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} should be {{low, high}} or {{choices}}. Received: {entry}.")
    known = (CHOICES_KEY, *RANGE_KEYS)
    for key in entry:
        if key not in known:
            raise InputError(f"{where}.{key}: no such key.{did_you_mean(key, known)}")
    return _read_choices(entry, where) if CHOICES_KEY in entry else _read_range(entry, where)


def _read_choices(entry: Mapping[str, Any], where: str) -> Choices:
    values = entry[CHOICES_KEY]
    if ranged := [key for key in RANGE_KEYS if entry.get(key) is not None]:
        raise InputError(f"{where} should be a range or choices. Received: both, {ranged[0]} and choices. Drop one.")
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise InputError(f"{where}.choices should list at least one value. Received: {values}.")
    texts = [_text(value) for value in values]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise InputError(f"{where}.choices should list every value once. Received: {twice[0]} twice.")
    return Choices(tuple(values))


def _read_range(entry: Mapping[str, Any], where: str) -> Range:
    found = Range(**check(Range, entry, where))
    if found.low > found.high:
        raise InputError(f"{where}: low should be at most high. Received: low {found.low}, high {found.high}.")
    if found.log and found.low <= 0:
        raise InputError(f"{where}: low should be above 0 where log is true. Received: {found.low}.")
    if found.step is None:
        return found
    if found.step <= 0 or (found.is_whole and not isinstance(found.step, int)):
        kind = "a positive whole number" if found.is_whole else "a positive number"
        raise InputError(f"{where}.step should be {kind}. Received: {found.step}.")
    if found.log:
        raise InputError(f"{where} should have a step or log: true. Received: both. Drop one.")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)


def _spell(value: Any) -> str:
    """Return a value in the grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_spell(item) for item in value) + "]"
    if isinstance(value, str):
        is_word = re.fullmatch(r"[a-zA-Z][\w-]*", value, re.ASCII)
        return value if is_word and value.lower() not in ("null", "true", "false", "nan", "inf") else quoted(value)
    return json.dumps(value)
