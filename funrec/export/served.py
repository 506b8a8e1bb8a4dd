"""An exported model as a server has it: raw rows in, scores out, without the code that trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funrec.data.arrays import load_inputs
from funrec.export.export import FORMATS, PROOF
from funrec.export.requests import RequestRows
from funrec.export.score import load
from funrec.runs import record as records
from funrec.runs.formula import read_fusion
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

#: The formats that are served, the first that there is by default.
SERVED = ("onnx", "savedmodel")


class ServedModel:
    """A run's exported model, scored as `funrec predict` scores.

    Args:
        run: The folder of a finished run that was exported.
        format: Which export; the first of `SERVED` that there is if None.
        most_rows: Rows that a request may have.

    Raises:
        InputError: If there is no such export, or it is older than the run's fused score.
    """

    def __init__(self, run: Path, format: str | None = None, most_rows: int = 1000) -> None:
        self.label = records.read(run)["label"]
        found = [one for one in SERVED if format in (None, one) and (run / "export" / one / PROOF).is_file()]
        command = f"funrec export {run} --format {format or SERVED[0]}"
        if not found:
            raise InputError(f"{run} should have an exported model. It has none: {command}")
        self.format = found[0]
        folder = run / "export" / self.format
        self.proof: dict[str, Any] = read_json(folder / PROOF)
        fusion = read_fusion(run)
        formula = None if fusion is None else fusion["formula"].strip()
        if self.proof.get("formula") != formula:
            raise InputError(f"{folder} should have the score of {run}'s fusion.json. Remove it, then: {command}")
        self.rows = RequestRows(load_inputs(run / "model"), most_rows)
        self.outputs = [name for name in self.proof["outputs"] if not name.startswith("logit_")]
        try:
            self._score = load(folder / FORMATS[self.format], threads=1)
        except ModuleNotFoundError as error:
            raise InputError(
                f'funrec serve should find {error.name}. It is missing: pip install "funrec-lab[serve]".'
            ) from None
        self.score([self.rows.example])  # what is slow or wrong the first time

    def score(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return the outputs of parsed rows, `(rows,)` each.

        Raises:
            InputError: If a row cannot be read, such as one whose time is no time.
        """
        scores = self._score(self.rows.arrays(rows))
        return {name: scores[name] for name in self.outputs}
