"""Faults of a sweep: jobs that fail or are killed, a parent that is, twins, a worker of Ray."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from drills.bench import CHECKPOINT, RECORD, Bench, check_same
from drills.checks import Finished, check, check_tidy, check_whole, checksums, metrics
from drills.processes import NotSurvived, Running, holds_lock

#: Seconds within which jobs whose parent has died are to write their checkpoints and end.
TIME_TO_STOP = 60.0
#: A learning rate that only training finds out about.
DIVERGING = "1e30"


def raise_in_job(bench: Bench) -> None:
    """Run a combination that diverges among others that do not."""
    undisturbed, folder = bench.undisturbed_sweep(), bench.new_folder()
    rates = f"optimizer.learning_rate={_learning_rate(undisturbed.folder)},{DIVERGING}"
    models = [argument for argument in bench.sweep(folder) if not argument.startswith("model=")]
    with bench.injection():
        done = bench.funrec(*models, "model=shared_bottom", rates)
        check(done.code == 1, f"a sweep with a failed job should exit with 1. Received: {done.code}, {done.last_word}")
        check("should stay finite" in done.out, f"the table should say why a job failed. Received:\n{done.out}")
        check(metrics(folder / "0" / RECORD) == metrics(undisturbed.folder / "0" / RECORD), "the other job is not done")
        check(not (folder / "1" / RECORD).exists(), "the job that failed has a record")
        check("Traceback" in (folder / "1" / "funrec.log").read_text(), "the log of the failed job has no traceback")
        finished = Finished(folder)
        again = bench.funrec("resume", str(folder))
        check(again.code == 1, f"resumed, it should exit with 1 again. Received: {again.code}, {again.last_word}")
        check_same(again.out, done.out)
        finished.check()
        check_whole(folder)
        check_tidy(folder)


def kill_job(bench: Bench) -> None:
    """Kill one job of a sweep while it trains."""
    undisturbed, folder = bench.undisturbed_sweep(), bench.new_folder()
    with bench.injection():
        running = bench.funrec.start(*bench.sweep(folder))
        job = _wait_for_job(running, folder)
        os.kill(job, signal.SIGKILL)
        done = running.wait()
        check(done.code == 1, f"a sweep with a killed job should exit with 1. Received: {done.code}, {done.last_word}")
        check("killed by SIGKILL" in done.out, f"the table should say that a job was killed. Received:\n{done.out}")
        check_whole(folder)
        finished = Finished(folder)
        check(len(finished) == 2, f"the two other jobs should be done. Received: {len(finished)} that are")
        bench.check_resumed(folder, undisturbed)
        finished.check()


def share_memory(bench: Bench) -> None:
    """Let one job of a sweep need more than the memory that its parent may give."""
    undisturbed, folder, limit = bench.undisturbed_sweep(), bench.new_folder(), 4 << 30
    models = [argument for argument in bench.sweep(folder) if not argument.startswith("model=")]
    # An embedding table of some five gigabytes, in one piece.
    big = ["model=shared_bottom", "dataset.features.user_id.embedding_dim=8,700_000"]

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with bench.injection():
        done = bench.funrec.start(*models, *big, before=starve).wait()
        check(done.code == 1, f"a sweep with a starved job should exit with 1. Received: {done.code}, {done.last_word}")
        check("failed" in done.out, f"the table should say why a job failed. Received:\n{done.out}")
        check(metrics(folder / "0" / RECORD) == metrics(undisturbed.folder / "0" / RECORD), "the other job is not done")
        check(not (folder / "1" / RECORD).exists(), "the job that was starved has a record")
        check_whole(folder)


def kill_parent(bench: Bench) -> None:
    """Kill the process that leads a sweep: first while the first jobs train, then once one of them is done."""

    def trains(folder: Path) -> Callable[[], bool]:
        return (folder / "0" / CHECKPOINT).exists

    def has_finished_one(folder: Path) -> Callable[[], bool]:
        return lambda: any(folder.glob(f"*/{RECORD}"))

    undisturbed = bench.undisturbed_sweep()
    for moment in (has_finished_one, trains)[: bench.times]:
        folder = bench.new_folder()
        with bench.injection():
            running = bench.funrec.start(*bench.sweep(folder))
            if not running.wait_until(moment(folder), interval=0.01):
                raise NotSurvived(f"the sweep ended too early: {running.wait().last_word}")
            running.kill()
            left = running.survivors(TIME_TO_STOP)
            check(not left, f"after {TIME_TO_STOP:.0f} s jobs of a killed sweep still run: {left}")
            check_whole(folder)
            finished = Finished(folder)
            status = bench.funrec("status", str(folder))
            check("To go on: funrec resume" in status.out, f"status should say how to go on. Received:\n{status.out}")
            bench.check_resumed(folder, undisturbed)
            finished.check()


def start_twins(bench: Bench) -> None:
    """Start the same sweep twice at the same moment, where nothing is prepared yet."""
    undisturbed = bench.undisturbed_sweep()
    bench.funrec.cache = bench.folder / "cache"
    arguments = [argument for argument in bench.sweep(bench.folder) if not argument.startswith("hydra.sweep.dir=")]
    with bench.injection():
        twins = [bench.funrec.start(*arguments) for _ in range(2)]
        for done in [twin.wait() for twin in twins]:
            check(done.code == 0, f"both sweeps should exit with 0. Received: {done.code}, {done.last_word}")
            check_same(done.out, undisturbed.table)
        sweeps = list((bench.folder / "outputs" / "sweeps").iterdir())
        check(len(sweeps) == 2, f"there should be a folder for each. Received: {len(sweeps)}")
        check_whole(bench.folder)
        check_tidy(bench.folder)
        check(
            checksums(bench.funrec.cache) == checksums(bench.shared.cache),
            "the cache should hold what was prepared without a twin, once",
        )


def kill_ray_worker(bench: Bench) -> None:
    """Kill a worker of Ray while it trains."""
    undisturbed, folder = bench.undisturbed_sweep(), bench.new_folder()
    ray = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]
    arguments = [argument for argument in bench.sweep(folder) if not argument.startswith(("hydra/l", "hydra.l"))]
    with bench.injection():
        running = bench.funrec.start(*arguments, *ray)
        os.kill(_wait_for_job(running, folder), signal.SIGKILL)
        done = running.wait()
        check(done.code in (0, 1), f"it should exit with 0 or 1. Received: {done.code}, {done.last_word}")
        check_whole(folder)
        finished = Finished(folder)
        check(len(finished) >= 2, f"the other jobs should be done. Received: {len(finished)} that are")
        bench.check_resumed(folder, undisturbed)
        finished.check()


def workers_that_train(running: Running, folder: Path) -> list[int]:
    """Return the processes of a sweep or a study that hold the lock of a run with a checkpoint."""
    locks = [checkpoint.with_name(".lock") for checkpoint in sorted(folder.glob(f"*/{CHECKPOINT}"))]
    family = running.remember() if locks else ()
    return [pid for lock in locks for pid, _ in family if holds_lock(pid, lock)]


def _wait_for_job(running: Running, folder: Path) -> int:
    """Wait until a job of a sweep trains, and return its process.

    Raises:
        NotSurvived: If none does before the sweep ends.
    """
    found: list[int] = []

    def trains() -> bool:
        found[:] = workers_that_train(running, folder)
        return bool(found)

    if running.wait_until(trains, interval=0.01):
        return found[0]
    raise NotSurvived(f"no job was caught while it trained: {running.wait().last_word}")


def _learning_rate(sweep: Path) -> float:
    """Return the learning rate of the first job."""
    rate: float = json.loads((sweep / "0" / RECORD).read_text())["config"]["optimizer"]["learning_rate"]
    return rate
