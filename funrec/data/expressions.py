"""Columns and SQL expressions as they stand in a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from funrec.utils.errors import InputError
from funrec.utils.files import one_line


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed label, condition or weight: the expression, and the raw columns it reads."""

    text: str
    expr: pl.Expr
    columns: tuple[str, ...]

    @property
    def is_column(self) -> bool:
        """Whether it is a column as it stands."""
        return self.expr.meta.eq(pl.col(self.columns[0]))


def parse_expression(key: str, text: str, available: Sequence[str] | None) -> Expression:
    """Parse a column's name or an SQL expression (by Polars' SQL parser; nothing is ever evaluated as Python).

    Args:
        key: The config key it stands under, for messages.
        text: What stands there.
        available: The raw columns' names where known. A text equal to one of them is that column, even where
            SQL would read it otherwise (`marital-status`, `109_14`).
    """
    if not text.strip():
        raise InputError(f"{key} should be a column or an SQL expression. Received: nothing.")
    name = text if available is not None and text in available else text.strip()
    if name.isidentifier() or (available is not None and name in available):
        return Expression(text, pl.col(name), (name,))
    try:
        expr = pl.sql_expr(text)
        columns = tuple(dict.fromkeys(expr.meta.root_names()))
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f'{key} should be a column or an SQL expression (quote odd names: "hours-per-week" > 40, "user" = 1). '
            f"Received: {text}: {one_line(error)}."
        ) from error
    if not columns:
        raise InputError(f"{key} should read at least one column. Received: {text}.")
    return Expression(text, expr, columns)


def dtype_of(key: str, expression: pl.Expr, schema: pl.Schema) -> pl.DataType:
    """Return an expression's dtype, found by trying it on no rows."""
    try:
        return pl.DataFrame(schema=schema).select(expression.alias("value")).schema["value"]
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{key} should fit the columns' types: {one_line(error)}.") from error


def is_number(dtype: pl.DataType) -> bool:
    """Return whether values are numbers, true or false, or null."""
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)
