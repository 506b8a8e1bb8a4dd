"""A finished run, as Python sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec import record as records
from funrec.table import render, rows_from_record

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record.

    Attributes:
        path: The run's folder.
        record: What `record.json` holds; see `funrec.record`.
    """

    path: Path
    record: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, `auc_is_click` and so on."""
        return self.record["metrics"]

    @property
    def oracle(self) -> dict[str, float] | None:
        """The same metrics of the true probabilities, where the dataset knows them."""
        return self.record.get("oracle")

    def table(self, format: str = "grid", columns: Sequence[str] | None = None, width: int | None = None) -> str:
        """Return the run's table as text; see `funrec.table.render`."""
        return render(rows_from_record(self.record), format, columns, width)

    def history(self) -> pd.DataFrame:
        """Return one row per epoch: losses, task weights, metrics, seconds."""
        import pandas as pd

        return pd.DataFrame(records.read_history(self.path))

    def predictions(self) -> pd.DataFrame:
        """Return the scored evaluation rows: row, group, item, labels and scores."""
        import pandas as pd

        return pd.DataFrame(records.read_predictions(self.path))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})\n{self.table()}"
