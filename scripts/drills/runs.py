"""Faults of a single run: killed, starved of memory, of disk, of a clock that can be trusted."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from drills.bench import CHECKPOINT, LOG, RECORD, Bench, Undisturbed, check_refused, check_same
from drills.checks import check, check_tidy, check_whole, half_written, metrics
from drills.disk import Disk, small_disk
from drills.processes import Done, NotSurvived, Running

#: Where to kill, in turns; a run is killed at so many of them before it may finish.
MOMENTS = ("training", "checkpoint", "start", "training", "record", "training", "weights", "training", "predictions")
KILLS_PER_RUN = 5
#: Runs that may end before a moment has come.
MISSES = 5
#: What stands beside a file while it is written.
WRITING = {
    "checkpoint": (".", f".{CHECKPOINT}."),
    "weights": ("model", ".weights.npz."),
    "predictions": (".", ".predictions.parquet."),
    "record": (".", f".{RECORD}."),
}


def kill_run(bench: Bench) -> None:
    """Kill one run several times in a row, at random moments and while it writes, resuming it in between.

    Killed, resumed, killed again: what a checkpoint gets wrong would add up.
    """
    undisturbed = bench.undisturbed_run()
    moments, caught = itertools.cycle(MOMENTS), 0
    for _ in range(bench.times + MISSES):
        if bench.injected == bench.times or bench.problems:
            break
        folder, count = bench.new_folder(), min(KILLS_PER_RUN, bench.times - bench.injected)
        kills = 0
        with bench.injection(0):
            while kills < count:
                running = _go_on(bench, folder)
                if not _kill_at(next(moments), running, folder, bench, undisturbed, share=1 / count):
                    break  # it was faster than the moment; what is missing is made up for in another run
                kills += 1
                caught += bool(half_written(folder))
                check_whole(folder)
                _check_status(bench, folder)
                if (folder / RECORD).is_file():  # it had said so, and was about to print its table
                    break
            if not (folder / RECORD).is_file():
                done = _go_on(bench, folder).wait()
                check(done.code == 0, f"{folder} should go on. Received: exit code {done.code}, {done.last_word}")
                check_same(done.out, undisturbed.table)
            expected = metrics(undisturbed.folder / RECORD)
            check(metrics(folder / RECORD) == expected, f"{folder} has other metrics than an undisturbed run")
            check_whole(folder)
            check_tidy(folder)
            bench.survived += kills
        bench.injected += kills
    else:
        raise NotSurvived(f"only {bench.injected} of {bench.times} moments were met before the run ended")
    bench.remark = f"{caught} left a file half written"


def limit_memory(bench: Bench) -> None:
    """Take the memory from a run that has begun to train, then let it go on with enough."""
    undisturbed = bench.undisturbed_run()
    for share in (0.5, 1.0)[: bench.times]:
        folder = bench.new_folder()
        with bench.injection():
            running = bench.funrec.start(*bench.run(folder))
            running.wait_until((folder / CHECKPOINT).exists)
            limit = int(share * undisturbed.peak)
            resource.prlimit(running.process.pid, resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
            done = running.wait()
            _check_ended(bench, folder, done, undisturbed)


def limit_memory_from_start(bench: Bench) -> None:
    """Let a run have less memory than it needs from its first instruction on."""
    undisturbed = bench.undisturbed_run()
    for share in (0.7, 0.35)[: bench.times]:
        folder, limit = bench.new_folder(), int(share * undisturbed.peak)

        def starve(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        with bench.injection():
            done = bench.funrec.start(*bench.run(folder), before=starve).wait()
            check(done.code != 0, f"{limit >> 20} MB should not be enough to train in")
            _check_ended(bench, folder, done, undisturbed)


def fill_disk_during_checkpoint(bench: Bench) -> None:
    """Fill the disk while a run trains."""

    def begins_to_train(folder: Path) -> Callable[[], bool]:
        return (folder / CHECKPOINT).exists

    _fill_disk(bench, begins_to_train)


def fill_disk_during_record(bench: Bench) -> None:
    """Fill the disk once a run is trained, before it can write its record."""

    def has_scored(folder: Path) -> Callable[[], bool]:
        return (folder / "predictions.parquet").exists

    _fill_disk(bench, has_scored)


def turn_clock_back(bench: Bench) -> None:
    """Turn the clock back by a day while a run trains, and once more while it goes on after a kill.

    libfaketime moves the clock that the run reads; the machine's own stays as it is.
    """
    undisturbed, library = bench.undisturbed_run(), fake_time_library()
    if library is None:
        raise NotSurvived("libfaketime is missing")
    clock = bench.folder / "clock"
    variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",  # seconds after which a process looks at the file again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for back in (86400, 400 * 86400)[: bench.times]:
        with bench.injection():
            _check_turned_back(bench, bench.new_folder(), clock, variables, back, undisturbed)


def fake_time_library() -> Path | None:
    """Return the library that fakes the clock of a process; none if it is not installed."""
    places = (Path(root) for root in ("/usr/lib", "/usr/local/lib", "/usr/lib64"))
    found = sorted(path for place in places for path in place.glob("**/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def is_writing(folder: Path, prefix: str) -> bool:
    """Whether a file whose name begins so stands in a folder."""
    try:
        return any(name.startswith(prefix) for name in os.listdir(folder))
    except OSError:
        return False


def _go_on(bench: Bench, folder: Path) -> Running:
    """Start a run, or go on with it if it was begun."""
    if (folder / ".hydra" / "overrides.yaml").is_file():
        return bench.funrec.start("resume", str(folder))
    return bench.funrec.start(*bench.run(folder))


def _kill_at(moment: str, running: Running, folder: Path, bench: Bench, undisturbed: Undisturbed, share: float) -> bool:
    """Kill a run at a moment; return false if it ended before."""
    if moment in WRITING:
        place, prefix = WRITING[moment]
        running.wait_until(lambda: is_writing(folder / place, prefix))
    elif moment == "start":
        time.sleep(bench.draw.uniform(0, undisturbed.until_checkpoint))
    else:
        running.wait_until(_later_than(folder / CHECKPOINT))
        time.sleep(bench.draw.uniform(0, share * (undisturbed.until_end - undisturbed.until_checkpoint)))
    running.kill()
    return running.process.returncode == -signal.SIGKILL


def _check_status(bench: Bench, folder: Path) -> None:
    """Check that `funrec status` tells a killed run from a running and a finished one."""
    if not (folder / ".lock").is_file():
        return
    done = bench.funrec("status", str(folder))
    expected = "finished" if (folder / RECORD).is_file() else "interrupted"
    check(expected in done.out, f"funrec status should say {expected}. Received: {done.out or done.err}")


def _check_ended(bench: Bench, folder: Path, done: Done, undisturbed: Undisturbed) -> None:
    """Check that a run that was starved finished all the same, or can go on."""
    check_whole(folder)
    if done.code == 0:
        check_same(done.out, undisturbed.table)
        return
    check(not (folder / RECORD).exists(), f"it ended with {done.code} and says that it finished")
    if (folder / ".hydra" / "overrides.yaml").is_file():
        bench.check_resumed(folder, undisturbed)


def _fill_disk(bench: Bench, moment: Callable[[Path], Callable[[], bool]]) -> None:
    undisturbed = bench.undisturbed_run()
    for number in range(bench.times):
        for _ in range(5):  # it may write faster than we look; then it is not full when it matters
            with small_disk(bench.folder / f"disk{number}") as disk:
                folder = disk.path / bench.new_folder().name
                running = bench.funrec.start(*bench.run(folder))
                if not _stop_at(running, moment(folder)) or (folder / RECORD).exists():
                    running.end()
                    continue
                with bench.injection():
                    _check_full(bench, disk, folder, running, undisturbed)
                break
        else:
            with bench.injection():
                raise NotSurvived("the moment was missed five times: the disk was never full")


def _check_full(bench: Bench, disk: Disk, folder: Path, running: Running, undisturbed: Undisturbed) -> None:
    disk.fill(running)
    os.kill(running.process.pid, signal.SIGCONT)
    done = running.wait()
    check_refused(done, "No space left", "File too large", "is full")
    check(not (folder / RECORD).exists(), "there is a record, and there was no room for it")
    check_whole(folder)
    disk.make_room()
    bench.check_resumed(folder, undisturbed)


def _stop_at(running: Running, moment: Callable[[], bool]) -> bool:
    """Halt a run at a moment; return false if it ended before."""
    if not running.wait_until(moment) or not running.is_alive:
        return False
    os.kill(running.process.pid, signal.SIGSTOP)
    return running.is_alive


def _later_than(path: Path) -> Callable[[], bool]:
    """Return whether a file was written anew since this was called."""
    before = path.stat().st_ino if path.exists() else None

    def is_later() -> bool:
        try:
            return path.stat().st_ino != before
        except OSError:
            return False

    return is_later


def _days(folder: Path) -> list[str]:
    """Return the day of every line of a run's log."""
    try:
        return [line[:10] for line in (folder / LOG).read_text().splitlines() if line[:4].isdecimal()]
    except OSError:
        return []


def _check_turned_back(
    bench: Bench, folder: Path, clock: Path, variables: Mapping[str, str], back: int, undisturbed: Undisturbed
) -> None:
    clock.write_text("+0")
    running = bench.funrec.start(*bench.run(folder), variables=variables)
    if not _stop_at(running, lambda: bool(_days(folder))):
        raise NotSurvived(f"it ended too early: {running.wait().last_word}")
    _turn(clock, f"-{back}")
    time.sleep(2.5)  # it looks at the file again by then
    os.kill(running.process.pid, signal.SIGCONT)
    seen = running.wait_until(lambda: _days(folder) != sorted(_days(folder)))
    check(seen, "the run never saw the clock turned back: its log is in order")
    running.kill()
    check_whole(folder)
    _turn(clock, f"-{2 * back}")
    done = bench.funrec("resume", str(folder), variables=variables)
    check(done.code == 0, f"it should go on. Received: exit code {done.code}, {done.last_word}")
    check_same(done.out, undisturbed.table)
    check_whole(folder)
    check_tidy(folder)


def _turn(clock: Path, offset: str) -> None:
    """Set the clock of the processes that read it from this file, at once and as a whole."""
    partial = clock.with_suffix(".new")
    partial.write_text(offset)
    partial.replace(clock)
