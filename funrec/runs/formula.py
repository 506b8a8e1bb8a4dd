"""Formulas over named numbers, such as `p_is_click^0.4 * p_is_like`: parsed by a grammar of their own.

    formula = ["-"] term {("+" | "-") term}
    term    = factor {"*" factor}
    factor  = number | name ["^" ["-"] number]

A formula that `funrec fuse` found is kept in a finished run's `fusion.json`, from where `funrec predict` applies it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from funrec.metrics.sorting import Array
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import read_json

FUSION = "fusion.json"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)|(?P<name>[^\W\d][\w@]*)|(?P<sign>.))"
)


@dataclass(frozen=True)
class Term:
    """A number times powers of names: `coefficient * prod_n n^powers[n]`."""

    coefficient: float
    powers: Mapping[str, float]


@dataclass(frozen=True)
class Formula:
    """A sum of terms.

    Attributes:
        terms: What is added.
        text: How it was written.
    """

    terms: tuple[Term, ...]
    text: str

    @property
    def names(self) -> list[str]:
        """The names in it, in the order of their first use."""
        return list(dict.fromkeys(name for term in self.terms for name in term.powers))

    def value(self, values: Mapping[str, Array]) -> Array:
        """Return the formula's value for every row, `float64 (rows,)`."""
        total: Array = np.zeros(())
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for term in self.terms:
                product: Array = np.full((), term.coefficient)
                for name, power in term.powers.items():
                    column = np.asarray(values[name], np.float64)
                    product = product * (column if power == 1 else column**power)
                total = total + product
            is_number = np.isfinite(total.astype(np.float32))
        if not is_number.all():
            raise InputError(
                f"The formula should give a number for every row: {self.text}. It has powers of numbers <= 0, or "
                "values above 3e38."
            )
        return total


def parse_formula(text: str, known: Collection[str], what: str = "The formula") -> Formula:
    """Read a formula over the names of `known`; `what` is how messages call it."""
    formula = _Parser(text, known, what).parse()
    numbers = [number for term in formula.terms for number in (term.coefficient, *term.powers.values())]
    if not formula.names or not np.isfinite(numbers).all():
        raise InputError(f"{what} should be of finite numbers and {', '.join(known)}. Received: {formula.text}.")
    return formula


class _Parser:
    def __init__(self, text: str, known: Collection[str], what: str) -> None:
        self._text, self._known, self._what = text, known, what
        self._tokens = [(str(match.lastgroup), match[match.lastgroup or 0]) for match in _TOKEN.finditer(text.strip())]
        self._place = 0

    def parse(self) -> Formula:
        terms = [self._term(-1.0 if self._take("-") else 1.0)]
        while self._place < len(self._tokens):
            if self._take("+"):
                terms.append(self._term(1.0))
            elif self._take("-"):
                terms.append(self._term(-1.0))
            else:
                raise self._mistake("+, -, * or ^")
        return Formula(tuple(terms), self._text.strip())

    def _term(self, coefficient: float) -> Term:
        powers: dict[str, float] = {}
        while True:
            kind, value = self._next("a number or a name")
            if kind == "number":
                coefficient *= float(value)
            elif kind == "name":
                if value not in self._known:
                    raise InputError(
                        f"{self._what} should be over {', '.join(self._known)}. Received: {value}."
                        + did_you_mean(value, list(self._known))
                    )
                powers[value] = powers.get(value, 0.0) + self._power()
            else:
                self._place -= 1
                raise self._mistake("a number or a name")
            if not self._take("*"):
                return Term(coefficient, powers)

    def _power(self) -> float:
        if not self._take("^"):
            return 1.0
        sign = -1.0 if self._take("-") else 1.0
        kind, value = self._next("a number")
        if kind != "number":
            self._place -= 1
            raise self._mistake("a number")
        return sign * float(value)

    def _take(self, sign: str) -> bool:
        is_next = self._place < len(self._tokens) and self._tokens[self._place] == ("sign", sign)
        self._place += is_next
        return is_next

    def _next(self, expected: str) -> tuple[str, str]:
        if self._place == len(self._tokens):
            raise self._mistake(expected)
        self._place += 1
        return self._tokens[self._place - 1]

    def _mistake(self, expected: str) -> InputError:
        found = self._tokens[self._place][1] if self._place < len(self._tokens) else "its end"
        return InputError(
            f"{self._what} should have {expected} where it has {found}, as in 0.5 * a + b^2. Received: {self._text}."
        )


def columns_of(head: str, kind: str) -> list[str]:
    """Return the names by which a formula reads a head: of `p` its probability and its logit, else `<kind>_<head>`."""
    return [f"p_{head}", f"logit_{head}"] if kind == "p" else [f"{kind}_{head}"]


def read_fusion(run: str | Path) -> dict[str, Any] | None:
    """Return what `funrec fuse` left in a run's folder; None if it was not called."""
    path = Path(run) / FUSION
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("formula"), str):
        raise InputError(f"{path} should have a formula. Call funrec fuse again or remove it.")
    return found


def format_weights(columns: Sequence[str], weights: Sequence[float], is_product: bool) -> str:
    """Write a formula: `0.25 * p_a + 0.75 * p_b`, or as a product `p_a^0.25 * p_b^0.75`; zero weights are left out."""
    used = [(column, float(weight)) for column, weight in zip(columns, weights, strict=True) if weight]
    if is_product:
        return " * ".join(column if weight == 1 else f"{column}^{weight:.4g}" for column, weight in used)
    text = " + ".join(column if weight == 1 else f"{weight:.4g} * {column}" for column, weight in used)
    return text.replace("+ -", "- ")
