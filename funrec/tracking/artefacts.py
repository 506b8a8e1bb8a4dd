"""What trackers keep of a finished run beside its numbers: the table, the record, the history, the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from funrec.runs.diagnosis import render_gates
from funrec.runs.folder import RECORD
from funrec.runs.record import HISTORY
from funrec.runs.tables import render, rows_from_record


def table_of(record: Mapping[str, Any], format: str = "github") -> str:
    """Return a run's table as text, and under it how much of its experts every task uses."""
    parts = [render(rows_from_record(record), format)]
    if record.get("gates"):
        parts += ["", render_gates(record["gates"])]
    return "\n".join(parts)


@contextmanager
def artefacts(run: Path, record: Mapping[str, Any], with_report: bool) -> Iterator[Path]:
    """Yield a folder with a run's files; the report needs the extra `report`, and is left out without it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table.txt").write_text(table_of(record, "grid"), "utf-8")
        for file in (RECORD, HISTORY):
            if (run / file).exists():
                shutil.copy(run / file, folder)
        if with_report and find_spec("plotly") and find_spec("jinja2"):
            from funrec.report.page import write_report

            write_report([run], folder / "report.html")
        yield folder
