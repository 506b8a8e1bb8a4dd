"""Every backbone under every funnel, exported: `scripts/study_export.py` on a sample, or, asked for, on all pairs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import tensorflow as tf

from funrec.export.export import write_model
from funrec.models.interactions.none import NoInteraction
from funrec.utils.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from examples import model as small_model
from study_export import FORMATS, Study, names, table

pytestmark = pytest.mark.slow
pytest.importorskip("tf2onnx", reason='needs pip install "funrec-lab[onnx]"')

#: With a domain, and towers that mix.
SAMPLE = {("pepnet", "esm2")}
PAIRS = [
    pytest.param(backbone, funnel, marks=[] if (backbone, funnel) in SAMPLE else [pytest.mark.exhaustive])
    for backbone in names("backbone")
    for funnel in names("funnel")
]


@pytest.fixture(scope="module")
def study() -> Iterator[Study]:
    with TemporaryDirectory() as folder:
        yield Study(Path(folder))


@pytest.mark.parametrize(("backbone", "funnel"), PAIRS)
def test_a_pair_scores_alike_in_every_format(study: Study, backbone: str, funnel: str) -> None:
    config, model = study.model(backbone, funnel)
    lines = []
    for format in FORMATS:
        found, size, times = study.difference(config, model, format)
        assert found < 1e-5, format
        lines.append(f"{backbone} {funnel} {format} {found:.1e} {size} {times[0]:.2f} {times[1]:.2f}")
    assert f"| {backbone} | {lines[1].split()[3]} |" in table(lines)


class LogGamma(NoInteraction):
    """Has an operator that ONNX lacks."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.math.lgamma(x)


def test_an_operator_that_onnx_lacks_is_named_in_one_line(study: Study, tmp_path: Path) -> None:
    model = small_model(inputs=study.data.layout, tasks=study.data.tasks, interaction=LogGamma())
    predictor = SimpleNamespace(model=model, inputs=study.data, calibration=None, formula=None)
    with pytest.raises(InputError, match=r"The model cannot be written as onnx: .*Lgamma") as refused:
        write_model("onnx", predictor, {}, tmp_path / "model.onnx")
    assert "\n" not in str(refused.value)
