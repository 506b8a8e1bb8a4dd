"""Whether what is left of a sweep still belongs to what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import fingerprint as data_fingerprint
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.provenance import check_origin, differences, origin
from funrec.sweeps.plan import Job, Sweep
from funrec.utils.errors import InputError


def is_done(sweep: Sweep, job: Job) -> bool:
    """Whether nothing of a job is left to do: its own run is finished, and those of its baselines."""
    from funrec.experiment.baselines import BASELINES, POPULARITY

    folder = sweep.folder(job)
    if run_folder.status(folder).state != "finished":
        return False
    if not job.baselines:
        return True
    done = record.read(folder)
    has_items = done["config"]["dataset"].get("item") is not None
    return all(
        run_folder.status(folder.with_name(f"{folder.name}_{name}")).state == "finished"
        for name in BASELINES
        if name != done["label"] and (name != POPULARITY or has_items)
    )


def check_same_jobs(planned: Sweep, now: Sweep) -> None:
    """Check that a sweep's command still makes the jobs that it was planned with.

    Raises:
        InputError: If it does not.
    """
    for before, after in zip(planned.jobs, now.jobs, strict=False):
        if before.overrides != after.overrides or before.folder != after.folder:
            raise InputError(
                f"{now.path}: job {before.number} should be {' '.join(before.overrides)}. Received: "
                f"{' '.join(after.overrides)}. Its command means other jobs now; start a new sweep."
            )
    if len(planned.jobs) != len(now.jobs):
        raise InputError(
            f"{now.path} should have {len(planned.jobs)} jobs. Received: {len(now.jobs)} from the same command. "
            "Its configuration files have changed; start a new sweep."
        )


def check_unchanged(planned: Sweep, now: Sweep, configs: Sequence[Mapping[str, Any]]) -> None:
    """Check that what is left of a sweep would run on the configuration and the data of what is done.

    Args:
        planned: The sweep as it was planned.
        now: The same, as its command composes today.
        configs: Today's configuration of every job; empty for one that cannot be composed.

    Raises:
        InputError: If it would not, with what differs.
    """
    data: dict[str, str] = {}
    for before, after, config in zip(planned.jobs, now.jobs, configs, strict=True):
        folder, changed = now.folder(after), []
        if run_folder.status(folder).state == "finished":
            done = record.read(folder)
            dataset = json.dumps(config.get("dataset"), sort_keys=True)
            if config and dataset not in data:
                data[dataset] = data_fingerprint(build(config["dataset"], Dataset, "dataset"))
            ran = origin(done["config"], done["data_fingerprint"])
            changed = differences(ran, origin(config, data.get(dataset, "")))
        elif config and before.fingerprint is not None:
            check_origin(config, folder, force=False)
            changed = ["configuration files"] if before.fingerprint != after.fingerprint else []
        if changed:
            raise InputError(
                f"{folder} should go on with what the sweep began with. Changed since: {'; '.join(changed)}. "
                "Change it back, or pass --force: what is finished stays, the rest runs on what is there now."
            )


def wait_until_stopped(sweep: Sweep, seconds: float = 60.0) -> None:
    """Wait for jobs that outlived the process that led the sweep: they stop by themselves, with a checkpoint.

    Raises:
        InputError: If one is still running after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while running := [job for job in sweep.jobs if run_folder.status(sweep.folder(job)).state == "running"]:
        if time.monotonic() > deadline:
            raise InputError(f"{sweep.folder(running[0])} should have stopped, and is running. End its process first.")
        time.sleep(0.2)
