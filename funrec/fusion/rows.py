"""The scored rows of a finished run, divided into those that a formula is searched on and those it is reported on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from funrec.comparison.measuring import TEST, VALID, Rows, user_codes
from funrec.metrics.base import sigmoid
from funrec.metrics.sorting import Array
from funrec.runs import record as records
from funrec.runs.formula import columns_of
from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.files import read_parquet

CALIBRATE = "calibrate"


@dataclass(frozen=True)
class Part(Rows):
    """Some scored rows.

    Attributes:
        name: What they are, in words.
        columns: What formulas read, `float64 (rows,)` by name; see `funrec.runs.formula.columns_of`.
    """

    name: str
    columns: Mapping[str, Array]


class RunRows:
    """The scored rows of a finished run.

    Args:
        folder: The run's folder.
        seed: Which users are held out of the search, where the run has one evaluation split.

    Attributes:
        record: The run's record.
        tasks: What it predicts.
        kinds: By head, what its scores are: `p` (log odds), `value`, or `score` (it ranks and no more).
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.record = records.read(folder)
        specs: Mapping[str, Any] = (self.record["config"].get("dataset") or {}).get("tasks") or {}
        kinds: dict[str, Any] = {name: (specs.get(name) or {}).get("kind") or "binary" for name in self.record["tasks"]}
        self.tasks = [Task(name, name, kind=kind) for name, kind in kinds.items()]
        self._seed = seed
        self._frame = read_parquet(folder / records.PREDICTIONS)
        heads = [name.removeprefix("score_") for name in self._frame.columns if name.startswith("score_")]
        ranks_only = self.record.get("uncalibrated") or ()
        self.kinds = {
            head: "value" if kinds.get(head, "binary") != "binary" else "score" if head in ranks_only else "p"
            for head in heads
        }

    @property
    def columns(self) -> list[str]:
        """The names that a formula may use."""
        return [column for head, kind in self.kinds.items() for column in columns_of(head, kind)]

    @cached_property
    def parts(self) -> tuple[Part, Part]:
        """The rows to search on, and those to report on.

        Search: the split `calibrate` if there is one, else the validation split. Report: the test split; without one
        the validation split, or half of its users where the search is on the other half.
        """
        splits = set(self._frame["split"].unique())
        search = CALIBRATE if CALIBRATE in splits else VALID
        if (report := TEST if TEST in splits else VALID) != search:
            return self._part(f"the {search} split", search), self._part(f"the {report} split", report)
        whole = self._frame.filter(pl.col("split") == VALID)
        users = user_codes(whole)
        units = np.arange(len(whole)) if users is None else users
        held_out = np.random.default_rng(self._seed).permutation(int(units.max(initial=0)) + 1)[units] % 2 == 1
        if held_out.all() or not held_out.any():
            raise InputError(
                f"A run to fuse should have two users or more to divide. Received: {len(whole)} rows of one."
            )
        what = "rows" if users is None else "users"
        return (
            self._part(f"half of the validation {what}", whole.filter(~pl.Series(held_out))),
            self._part(f"the other half of the validation {what}", whole.filter(pl.Series(held_out))),
        )

    def _part(self, name: str, rows: str | pl.DataFrame) -> Part:
        frame = self._frame.filter(pl.col("split") == rows) if isinstance(rows, str) else rows
        labels = {task.name: frame[f"label_{task.name}"].to_numpy() for task in self.tasks}
        columns: dict[str, Array] = {}
        for head, kind in self.kinds.items():
            scores = frame[f"score_{head}"].to_numpy().astype(np.float64)
            values = [sigmoid(scores), scores] if kind == "p" else [scores]
            columns |= dict(zip(columns_of(head, kind), values, strict=True))
        return Part(user_codes(frame), labels, name, columns)
