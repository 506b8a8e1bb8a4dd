"""Faults of a study: a worker of `funrec tune` is killed, then all of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from drills.bench import RECORD, Bench
from drills.checks import Finished, check, check_tidy, check_whole
from drills.processes import Funrec, NotSurvived, Running
from drills.sweeps import TIME_TO_STOP, workers_that_train

STUDY = ["model=shared_bottom", "search.trials=4", "search.workers=2", "search.sampler=random"]


def kill_study(bench: Bench) -> None:
    """Kill a worker while it trains, which is replaced; then the process that leads; then go on with the study.

    The random sampler draws a trial's values from its number alone, so that the trials do not depend on who ran them.
    """
    expected = _trials(_undisturbed(bench))
    running = bench.funrec.start(*_arguments(bench))
    with bench.injection(2):
        folder = _study_of(bench.funrec, running)
        for wanted in (0, 1):
            worker = _wait_for_worker(running, folder, wanted)
            if wanted == 0:
                os.kill(worker, signal.SIGKILL)
            else:
                running.kill()
        left = running.survivors(TIME_TO_STOP)
        check(not left, f"after {TIME_TO_STOP:.0f} s workers of a killed study still run: {left}")
        check_whole(folder)
        finished = Finished(folder)
        done = bench.funrec("resume", str(folder))
        check(done.code == 0, f"funrec resume should exit with 0. Received: {done.code}, {done.last_word}")
        check(_trials(folder) == expected, f"trials should be\n{expected}\nReceived:\n{_trials(folder)}")
        finished.check()
        check_whole(folder)
        check_tidy(folder)


def _arguments(bench: Bench) -> list[str]:
    return ["tune", *STUDY, *bench.shared.data]


def _undisturbed(bench: Bench) -> Path:
    funrec = Funrec(bench.shared.command, bench.shared.folder / "undisturbed_study", bench.shared.cache)
    funrec.folder.mkdir()
    done = funrec(*_arguments(bench))
    if done.code:
        raise NotSurvived(f"the undisturbed study failed with exit code {done.code}: {done.last_word}")
    return next((funrec.folder / "outputs" / "studies").iterdir())


def _trials(folder: Path) -> list[dict[str, Any]]:
    """Return what a study's trials are and came to, without the time and the attempts it took."""
    trials = json.loads((folder / "trials.json").read_text())
    trials = trials["trials"] if isinstance(trials, dict) else trials
    kept = ("number", "state", "values", "params", "epochs")
    return [{key: value for key, value in trial.items() if key in kept} for trial in trials]


def _study_of(funrec: Funrec, running: Running) -> Path:
    studies = funrec.folder / "outputs" / "studies"
    running.wait_until(lambda: any(studies.glob("*/study.json")), interval=0.01)
    found = list(studies.iterdir())
    check(len(found) == 1, f"there should be one study. Received: {len(found)}")
    return found[0]


def _wait_for_worker(running: Running, folder: Path, finished: int) -> int:
    """Wait until a worker trains and so many trials are finished, and return its process.

    Raises:
        NotSurvived: If none does before the study ends.
    """
    found: list[int] = []

    def trains() -> bool:
        if sum(1 for _ in folder.glob(f"*/{RECORD}")) < finished:
            return False
        found[:] = workers_that_train(running, folder)
        return bool(found)

    if running.wait_until(trains, interval=0.01):
        return found[0]
    raise NotSurvived(f"no worker was caught while it trained: {running.wait().last_word}")
