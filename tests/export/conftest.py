"""One finished run for all tests of exported models."""

from __future__ import annotations

import pytest
from exported import finish

from funrec.experiment.run import Run
from funrec.export.export import export


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on every kind of feature, calibrated by the values of one, its heads fused."""
    return finish(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def exported(finished: Run) -> Run:
    """The same, with its model as an ONNX file."""
    pytest.importorskip("tf2onnx", reason='needs pip install "funrec-lab[onnx]"')
    export(finished.path, "onnx")
    return finished
