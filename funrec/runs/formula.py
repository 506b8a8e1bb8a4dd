"""Formulas over named numbers, such as `p_is_click^0.4 * p_is_like`: parsed by a grammar of their own.

    formula = ["-"] term {("+" | "-") term}
    term    = factor {"*" factor}
    factor  = number | name ["^" ["-"] number]

A formula that `funrec fuse` found is kept in a finished run's `fusion.json`, from where `funrec predict` applies it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from funrec.metrics.sorting import Array
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import read_json

FUSION = "fusion.json"
_NUMBER = re.compile(r"\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?")
_NAME = re.compile(r"[^\W\d][\w@]*")
_TOKEN = re.compile(rf"{_NUMBER.pattern}|{_NAME.pattern}|\S")
_END = "its end"


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
    tokens = deque([*_TOKEN.findall(text), _END])

    def mistake(expected: str) -> InputError:
        return InputError(
            f"{what} should have {expected} where it has {tokens[0]}, as in 0.5 * a + b^2. Received: {text}."
        )

    def take(sign: str) -> bool:
        return tokens[0] == sign and bool(tokens.popleft())

    def number() -> float:
        if not _NUMBER.fullmatch(tokens[0]):
            raise mistake("a number")
        return float(tokens.popleft())

    def term(coefficient: float) -> Term:
        powers: dict[str, float] = {}
        while True:
            if _NAME.fullmatch(name := tokens[0]):
                if name not in known:
                    raise InputError(
                        f"{what} should be over {', '.join(known)}. Received: {name}.{did_you_mean(name, known)}"
                    )
                tokens.popleft()
                power = (-1.0 if take("-") else 1.0) * number() if take("^") else 1.0
                powers[name] = powers.get(name, 0.0) + power
            elif _NUMBER.fullmatch(name):
                coefficient *= number()
            else:
                raise mistake("a number or a name")
            if not take("*"):
                return Term(coefficient, powers)

    terms = [term(-1.0 if take("-") else 1.0)]
    while tokens[0] != _END:
        if tokens[0] not in ("+", "-"):
            raise mistake("+, -, * or ^")
        terms.append(term(1.0 if tokens.popleft() == "+" else -1.0))
    formula = Formula(tuple(terms), text.strip())
    numbers = [number for term in terms for number in (term.coefficient, *term.powers.values())]
    if not formula.names or not np.isfinite(numbers).all():
        raise InputError(f"{what} should be of finite numbers and {', '.join(known)}. Received: {formula.text}.")
    return formula


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
