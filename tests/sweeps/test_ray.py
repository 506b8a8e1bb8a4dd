"""`hydra/launcher=ray`: jobs on a real Ray, started here; the same command reaches a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Command

from funrec.runs.folder import find_runs, status

pytestmark = pytest.mark.slow

pytest.importorskip("hydra_plugins.hydra_ray_launcher")


def test_a_sweep_on_ray_gives_the_table_of_one_without(workdir: Path, funrec: Command) -> None:
    jobs = ("-m", "model=shared_bottom", "weighting=fixed,no_such", "dataset.rows=2000", "trainer=smoke")
    ray = ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=1", "hydra.sweep.dir=there")
    there, here = funrec("run", *jobs, *ray), funrec("run", *jobs, "hydra.sweep.dir=here")
    assert there.code == here.code == 1  # one of the two jobs cannot be
    tables = [done.out[done.out.rindex("+=") :] for done in (there, here)]
    assert tables[0] == tables[1]
    assert [status(run).state for run in find_runs("there")].count("finished") == 1
