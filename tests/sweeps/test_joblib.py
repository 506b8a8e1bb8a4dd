"""`hydra/launcher=joblib`: somebody else's launcher runs our jobs, in processes that know nothing of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Command

from funrec.runs.folder import status

pytestmark = pytest.mark.slow

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")


@pytest.mark.exhaustive  # a drill of half a minute
def test_a_worker_that_is_killed_costs_its_own_job_and_the_rest_is_launched_again(
    workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for troublemakers, in the workers
    backbones = "troublemakers.Killed,funrec.models.backbones.shared_bottom.SharedBottom"
    sweep = ("model=shared_bottom", f"model.backbone._target_={backbones}", "hydra.sweep.dir=sweep")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.pre_dispatch=1")
    done = funrec("run", "-m", "--allow", "troublemakers", *launcher, *sweep, "dataset.rows=3000", "trainer=smoke")
    assert done.code == 1
    assert status("sweep/0").reason.startswith("its process died: ")
    assert status("sweep/1").state == "finished"
    assert "epoch 1" in Path("sweep/1/funrec.log").read_text()
    assert "epoch 1" not in done.err
    assert "| model " in done.out
