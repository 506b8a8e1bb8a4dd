"""A run in several processes: they are started, watched, and ended together.

    python -m funrec.experiment.team FOLDER [--resume] [--force] [--live]

is one of them: it trains the run whose configuration is in `FOLDER/.hydra`, as the worker that `TF_CONFIG` says. The
first one evaluates and writes; the others compute their part of every batch.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from funrec.runs import folder as run_folder
from funrec.utils.errors import InputError
from funrec.utils.logging import logging_to
from funrec.utils.machine import CLUSTER, environment
from funrec.utils.signals import EXIT_CODE, Interrupted, Interruption

POLL_SECONDS = 0.1
#: What the first worker gets to end by itself once another one has.
SECONDS_TO_END = 10.0


def size_of(config: Mapping[str, Any]) -> int:
    """Return how many processes are to be started for a run: none within one of them."""
    return 1 if os.environ.get(CLUSTER) else int(config["trainer"].get("workers", 1))


def run_in_team(config: Mapping[str, Any], folder: Path, overrides: Sequence[str], flags: Mapping[str, bool]) -> None:
    """Run what `config` describes in `trainer.workers` processes on this machine; leave what one process leaves.

    Raises:
        InputError: If the run fails, or a worker ends before it.
        Interrupted: If it was stopped from outside.
    """
    from funrec.config.compose import save

    save(config, overrides, folder / ".hydra")
    count = config["trainer"]["workers"]
    asked = [f"--{name}" for name, is_set in flags.items() if is_set]
    command, addresses = [sys.executable, "-m", __spec__.name, str(folder), *asked], _free_addresses(count)
    try:
        with Interruption() as interruption, ExitStack() as ends:
            team = [_start(command, addresses, index, count) for index in range(count)]
            for member in team:
                ends.callback(_end, member)
            with interruption.deferred():
                codes = _wait(team, interruption)
    except KeyboardInterrupt:
        raise Interrupted(folder, run_folder.progress(folder)) from None
    if codes[0] == 2:
        raise InputError(run_folder.status(folder).reason)
    if codes[0] != 0:
        index = next((place for place, code in enumerate(codes) if place and code), 0)
        reason = f"worker {index} of {count} ended with exit code {codes[index]}"
        run_folder.write_failure(folder, reason)
        raise InputError(
            f"All workers should stay until the run ends. Received: {reason}, see {folder / 'funrec.log'}. "
            f"To go on: funrec resume {folder}"
        )


def _wait(team: Sequence[subprocess.Popen[bytes]], interruption: Interruption) -> list[int | None]:
    """Wait until the first worker has ended, or another one has too early; return what has ended with which code."""
    chief, is_told = team[0], False
    while chief.poll() is None and not any(member.poll() for member in team):  # those that are done return 0
        time.sleep(POLL_SECONDS)
        if interruption.is_requested and not is_told:
            chief.send_signal(signal.SIGINT)
            is_told = True
    with suppress(subprocess.TimeoutExpired):
        chief.wait(SECONDS_TO_END)  # for a reason of its own, which is the better one
    return [member.poll() for member in team]


def _start(command: Sequence[str], addresses: Sequence[str], index: int, count: int) -> subprocess.Popen[bytes]:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    known = {**os.environ, **environment(count), CLUSTER: json.dumps(cluster)}
    # A session of their own: a terminal's Ctrl-C reaches this process alone, which passes it on. The pipe to their
    # standard input ends with this process, however it ends, and they with the pipe.
    output = None if index == 0 else subprocess.DEVNULL
    return subprocess.Popen(
        command, env=known, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=output, start_new_session=True
    )


def _end(member: subprocess.Popen[bytes]) -> None:
    if member.poll() is None:
        member.kill()
    member.wait()
    if member.stdin is not None:
        member.stdin.close()


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def main(arguments: Sequence[str] | None = None) -> int:
    """Be one of the processes."""
    from funrec.config.compose import load
    from funrec.experiment import experiment

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for flag in ("resume", "force", "live"):
        parser.add_argument(f"--{flag}", action="store_true")
    options = parser.parse_args(arguments)
    if not os.isatty(0):
        threading.Thread(target=_end_with_starter, daemon=True).start()
    config, overrides = load(options.folder / ".hydra")
    index = json.loads(os.environ[CLUSTER])["task"]["index"]
    try:
        with logging_to(options.folder, verbose=index == 0):
            if index == 0:
                flags = {"resume": options.resume, "force": options.force}
                experiment.run(config, options.folder, overrides, options.live, **flags)
            else:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                experiment.assist(config, options.folder)
    except KeyboardInterrupt:
        return EXIT_CODE
    except InputError:
        return 2
    except Exception:  # the traceback is for the run's log; the process that started this one says who failed
        logging.getLogger("funrec").debug("Worker %d failed.", index, exc_info=True)
        return 1
    return 0


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
