"""The example notebook runs from top to bottom, with fewer rows than it says."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "first-comparison.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Jupyter
def test_the_notebook_shows_tables_frames_and_curves(workdir: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel", reason='needs pip install "funrec-lab[dev]"')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        cell.source = cell.source.replace("rows=40000", "rows=4000").replace("epochs=3", "epochs=1")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(workdir)}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("<table" in data.get("text/html", "") for data in shown) == 6
    assert any("application/vnd.plotly.v1+json" in data for data in shown)
    assert "shared_bottom" in shown[0]["text/html"] and "oracle" in shown[0]["text/html"]
