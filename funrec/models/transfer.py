"""Weights of one model put into another: embeddings by id, heads by their names, the rest by names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from funrec.models.layers.embedding import FusedEmbedding
from funrec.models.model import MultiTaskModel
from funrec.models.sharing import find_reach

#: Who reads a slice of a weight: a tower's name, or `SHARED`; in a model of one tower, both.
Owners = Sequence[frozenset[str]]
SHARED = ""


@dataclass
class Transferred:
    """What became of a model's weights; each is named by its layer, an embedding table by its feature.

    Attributes:
        whole: Those that are now the other model's.
        in_part: Those that are so in some of their slices (towers, experts, copies of embeddings).
        anew: Those that stay as they were initialised.
    """

    whole: list[str] = field(default_factory=list)
    in_part: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)

    def enter(self, name: str, places: int, found: int) -> None:
        """Enter a weight of which `found` of `places` slices are the other model's."""
        which = self.anew if not found else self.whole if found == places else self.in_part
        which.append(name)


def transfer(before: MultiTaskModel, after: MultiTaskModel) -> Transferred:
    """Put the weights of `before` into `after`, both initialised and with the same features, and say which.

    An id keeps its embedding row, so the vocabularies of `after` should extend those of `before`. Where the two have
    other heads, probing tells which experts, gates and copies of embeddings are a head's own; those of a head that
    `before` lacks stay as they are.
    """
    has_same_heads = before.funnel.towers == after.funnel.towers
    owners = [_OwnersOfSlices(model, has_same_heads) for model in (before, after)]
    done = Transferred()
    _transfer_embeddings(before.embedding, after.embedding, owners[0].of_columns(), owners[1].of_columns(), done)
    sources = _named(before)
    kept_by_losses = {id(value) for loss in after.criteria for value in loss.state.values()}  # whole or not at all
    for name, variable in _named(after).items():
        source = sources.get(name)
        if source is None or len(source.shape) != len(variable.shape):
            done.enter(name, 1, 0)
        elif has_same_heads or id(variable) in kept_by_losses:
            if is_same := source.shape == variable.shape:
                variable.assign(source)
            done.enter(name, 1, int(is_same))
        else:
            pairs = {}
            if source.shape[1:] == variable.shape[1:]:
                grows = source.shape[0] != variable.shape[0]
                pairs = _pairs(owners[0].of(source, grows), owners[1].of(variable, grows))
                values = np.array(variable)
                values[list(pairs)] = np.array(source)[list(pairs.values())]
                variable.assign(values)
            done.enter(name, variable.shape[0], len(pairs))
    return done


class _OwnersOfSlices:
    """Who reads the slices of a model's weights along their first axis."""

    def __init__(self, model: MultiTaskModel, has_same_heads: bool) -> None:
        self._model, self._towers = model, model.funnel.towers
        # Heads are the last axis of a wide part's weights: those of other heads have nothing to continue.
        self._reach: dict[int, Owners] = {id(v): [frozenset[str]()] * v.shape[0] for v in model.wide.weights}
        self._reach |= {id(v): [frozenset([SHARED])] * v.shape[0] for v in model.embedding.weights if v.shape}
        self._by_layer: dict[tuple[str, int], Owners] = {}
        #: By copy of the embeddings; positions alone decide between models of the same heads.
        self.of_copies: Owners = [frozenset([SHARED])] * model.embedding.copies
        if not has_same_heads:
            width = model.embedding.width + len(model.layout.numeric_features)
            reach = find_reach(model.interaction, model.backbone, width)
            for variable, slices in zip(reach.variables, reach.slices, strict=True):
                readers = self._readers(slices)
                self._reach[id(variable)] = self._by_layer[_layer(variable), len(readers)] = readers
            self.of_copies = self._readers(reach.copies)

    def of(self, variable: keras.Variable, grows_with_heads: bool) -> Owners:
        """A weight that the probes do not see has the owners of its layer, or a slice per tower, or is shared.

        What all towers read may still belong to one of them, as the experts of PLE's first level do: where its slices
        grow with the heads, each tower has as many.
        """
        slices, towers = variable.shape[0], len(self._towers)
        known = self._reach.get(id(variable)) or self._by_layer.get((_layer(variable), slices))
        is_shared = known is not None and all(SHARED in owner for owner in known)
        may_be_own = slices % towers == 0 if grows_with_heads else slices == towers
        if may_be_own and (known is None or (is_shared and grows_with_heads)):
            return [frozenset([tower]) for tower in self._towers for _ in range(slices // towers)]
        return known or [frozenset([SHARED])] * slices

    def of_columns(self) -> tuple[Owners, Owners]:
        """Those of an embedding row: of its copies, and of its linear weights, one per tower."""
        return self.of_copies, [frozenset([tower]) for tower in self._towers[: self._model.embedding.linear_units]]

    def _readers(self, reached: np.ndarray) -> Owners:
        if len(self._towers) == 1:
            return [frozenset([SHARED, self._towers[0]])] * reached.shape[1]
        by_slice = ([self._towers[place] for place in np.flatnonzero(column)] for column in reached.T)
        return [frozenset(readers if len(readers) == 1 else [SHARED]) for readers in by_slice]


def _layer(variable: keras.Variable) -> str:
    return str(variable.path.rpartition("/")[0])


def _pairs(before: Owners, after: Owners) -> dict[int, int]:
    """Return for each slice of `after` the slice of `before` that it continues: the next of the same owner."""
    pairs, seen = {}, Counter[frozenset[str]]()
    for place, owner in enumerate(after):
        candidates = [other for other, theirs in enumerate(before) if theirs & owner]
        if seen[owner] < len(candidates):
            pairs[place] = candidates[seen[owner]]
        seen[owner] += 1
    return pairs


def _transfer_embeddings(
    before: FusedEmbedding,
    after: FusedEmbedding,
    owners_before: tuple[Owners, Owners],
    owners_after: tuple[Owners, Owners],
    done: Transferred,
) -> None:
    """Copy the rows of every feature, column by column of those that the two tables have in common."""
    sources = {name: place for place, table in enumerate(before.tables) for name in table.first_row_of}
    for table, weight in zip(after.tables, after.weights_by_table, strict=True):
        values = np.array(weight)
        for name, first in table.first_row_of.items():
            place = sources[name]
            source = before.tables[place]
            copies = _pairs(owners_before[0], owners_after[0]) if source.dim == table.dim else {}
            linear = _pairs(owners_before[1], owners_after[1])
            columns = {
                column * table.dim + unit: other * table.dim + unit
                for column, other in copies.items()
                for unit in range(table.dim)
            }
            ends = table.width - after.linear_units, source.width - before.linear_units
            columns |= {ends[0] + column: ends[1] + other for column, other in linear.items()}
            rows = min(_rows(table.first_row_of, table.rows, name), _rows(source.first_row_of, source.rows, name))
            start = source.first_row_of[name]
            theirs = np.array(before.weights_by_table[place][start : start + rows])
            values[first : first + rows, list(columns)] = theirs[:, list(columns.values())]
            done.enter(f"embedding of {name}", table.width, len(columns))
        weight.assign(values)


def _rows(first_row_of: Mapping[str, int], total: int, name: str) -> int:
    """Return how many rows of a table a feature has."""
    starts = [*first_row_of.values(), total]
    return starts[starts.index(first_row_of[name]) + 1] - first_row_of[name]


def _named(model: MultiTaskModel) -> dict[str, keras.Variable]:
    """Return a model's weights by names that another model of the same parts has too; without the embedding tables.

    Keras numbers layers as a process makes them, so numbers within a path are left out and repeated paths counted.
    """
    return dict(_numbered(model, {id(table) for table in model.embedding.weights_by_table}))


def _numbered(model: MultiTaskModel, without: set[int]) -> Iterator[tuple[str, keras.Variable]]:
    seen = Counter[str]()
    for variable in model.weights:
        if id(variable) not in without:
            *layers, last = variable.path.split("/")[1:]
            path = "/".join([*(re.sub(r"_\d+$", "", layer) for layer in layers), last])
            seen[path] += 1
            yield path if seen[path] == 1 else f"{path} ({seen[path]})", variable
