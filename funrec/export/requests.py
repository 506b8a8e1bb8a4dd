"""The rows of a request: what each raw column may hold, checked by pydantic while it parses, and as a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from funrec.data.arrays import ModelInputs
from funrec.data.features.encoding import Encoder
from funrec.data.hashing import KEY_DTYPES, key_dtype
from funrec.export.inputs import DTYPES, NOT_AN_ID, NULL_ID, NULL_TEXT, Input, describe_inputs, read_inputs
from funrec.schema import event_columns
from funrec.utils.errors import InputError, did_you_mean

#: What a value may be, by the dtype that it is looked up as; those that stand for nulls or end a text are no values.
TYPES: dict[str, Any] = {
    "Int64": Annotated[int, Field(gt=NOT_AN_ID, lt=2**63)],
    "UInt64": Annotated[int, Field(ge=0, lt=2**64)],
    "Float64": Annotated[float, Field(allow_inf_nan=False)],
    "String": Annotated[str, Field(pattern=f"^[^\0{NULL_TEXT}]*$")],
}
NUMBERS = (pl.Int64, pl.Float64)
#: By kind of input, what stands for a null.
MISSING: dict[str, Any] = {"id": NULL_ID, "text": NULL_TEXT, "number": float("nan")}
MOST_SHOWN = 200
_List: Any = list  # types are made of columns here, which a type checker does not follow
_TypedDict: Any = TypedDict


class RequestRows:
    """Reads the body of a request, `{"rows": [{column: value, ...}, ...]}`.

    Args:
        inputs: What the model reads.
        most_rows: Rows that a request may have.
    """

    def __init__(self, inputs: ModelInputs, most_rows: int) -> None:
        columns = {name: _column(name, inputs) for name in inputs.columns}
        self._dtypes = {name: dtype for name, (_, dtype) in columns.items()}
        self._inputs = inputs
        described = describe_inputs(inputs)
        self._as_they_are = [one for one in described if self._is_as_it_is(one)]
        others = {one.name: inputs.encoders[one.name] for one in described if one not in self._as_they_are}
        self._others = replace(inputs, encoders=others) if others else None
        row = _dictionary("Row", {name: kind for name, (kind, _) in columns.items()})
        rows: Any = Annotated[_List[row], Field(min_length=1, max_length=most_rows, fail_fast=True)]
        self._body: TypeAdapter[Any] = TypeAdapter(_dictionary("Body", {"rows": rows}))

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a request."""
        return self._body.json_schema()

    def parse(self, body: bytes) -> list[dict[str, Any]]:
        """Return the rows of a request.

        Raises:
            InputError: If it is not as the schema says.
        """
        try:
            rows: list[dict[str, Any]] = self._body.validate_json(body)["rows"]
        except ValidationError as error:
            raise InputError(self._line(error)) from None
        for group in event_columns(self._inputs.layout.features):
            columns = {feature.column for feature in group if not feature.is_history}
            for place, row in enumerate(rows if len(columns) > 1 else ()):
                if len({len(row[column] or ()) for column in columns}) > 1:
                    names = ", ".join(sorted(columns))
                    raise InputError(f"rows[{place}] should have lists of one length: {names}.")
        return rows

    def arrays(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return parsed rows as an exported model's inputs, as `read_inputs` does, which a single row would wait for.

        Raises:
            InputError: If a row cannot be read, such as one whose time is no time.
        """
        found = {} if self._others is None else read_inputs(self._others, self.frame(rows))
        for one in self._as_they_are:
            values = [row[one.column] for row in rows]
            missing, is_list = MISSING[one.kind], isinstance(self._dtypes[one.column], pl.List)
            if one.length is not None:
                padded: Any = np.full((len(rows), one.length), missing, DTYPES[one.kind])
                for place, value in enumerate(values):
                    kept = value[: one.length] if value else ()
                    padded[place, : len(kept)] = kept
                found[one.name] = padded
                continue
            if is_list:
                values = [value[0] if value else None for value in values]
            found[one.name] = np.array([missing if v is None else v for v in values], DTYPES[one.kind])
        return found

    def _is_as_it_is(self, one: Input) -> bool:
        """Whether an input has the values of its column, in their dtype."""
        dtype = self._dtypes.get(one.column)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        return not one.is_computed and inner in {"id": (pl.Int64,), "text": (pl.String,)}.get(one.kind, NUMBERS)

    def frame(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """Return parsed rows as raw rows."""
        return pl.DataFrame([pl.Series(name, [row[name] for row in rows], d) for name, d in self._dtypes.items()])

    @cached_property
    def example(self) -> dict[str, Any]:
        """A row that a request may have."""
        known = {
            encoder.feature.column: self._inputs.vocabularies[encoder.owner].keys.drop_nulls().head(1).to_list()
            for encoder in self._inputs.encoders.values()
            if encoder.owner is not None
        }
        history = self._inputs.history
        if history is not None:  # as late as the log goes: a time of another kind would be no time
            newest = history.log.select(pl.max("time")).collect().to_series()
            known[history.time] = newest.cast(self._dtypes[history.time]).to_list()
        row: dict[str, Any] = {}
        for name, dtype in self._dtypes.items():
            values = known.get(name) or ["" if dtype == pl.String else 0]
            row[name] = values if isinstance(dtype, pl.List) else values[0]
        return row

    def _line(self, error: ValidationError) -> str:
        errors = error.errors(include_url=False, include_input=False)
        first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])  # a misspelt field
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        where = place.lstrip(".")[:MOST_SHOWN] or "The body"
        kind, message = first["type"], first["msg"]
        if kind == "missing":
            return f"{where} should be given, null if it is not known."
        if kind == "extra_forbidden":
            return f"{where}: no such field." + did_you_mean(first["loc"][-1], self._dtypes)
        if kind == "string_pattern_mismatch":
            return f"{where} should hold neither U+0000 nor U+FDD0."
        if kind == "json_invalid":
            return f"The body should be JSON. Received: {message.removeprefix('Invalid JSON: ')}."
        return f"{where}: {message[:MOST_SHOWN]}."


def _dictionary(name: str, fields: Mapping[str, Any]) -> Any:
    """Return the type of dictionaries with these fields and no other."""
    return with_config(ConfigDict(extra="forbid", strict=True))(_TypedDict(name, dict(fields)))


def _column(name: str, inputs: ModelInputs) -> tuple[Any, pl.DataType]:
    """Return what a raw column may hold, and the dtype of its values."""
    readers = [e for e in inputs.encoders.values() if e.feature.column == name and not e.feature.is_history]
    if not readers:
        history = inputs.history
        assert history is not None
        key = key_dtype(name, history.schema[name])
        kind = TYPES[key]
        return (kind if name == history.time else kind | None), KEY_DTYPES[key]
    keys = {inputs.vocabularies[e.owner].key for e in readers if e.owner is not None}
    has_numbers = any(e.owner is None for e in readers)
    key = "Float64" if has_numbers and keys != {"Int64"} else min(keys)
    if inputs.domain is not None and inputs.encoders[inputs.domain] in readers and key != "Float64":
        return Literal[tuple(inputs.vocabularies[inputs.domain].keys)], KEY_DTYPES[key]
    kind = TYPES[key]
    if any(e.is_sequence or e.is_list for e in readers):
        return _List[kind] | None, pl.List(KEY_DTYPES[key])
    return (kind if any(_needs(e) for e in readers) else kind | None), KEY_DTYPES[key]


def _needs(encoder: Encoder) -> bool:
    """Whether a feature has no row for a null."""
    return encoder.owner is None and getattr(encoder.feature, "fill", None) is None
