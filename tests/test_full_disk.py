"""A disk that fills up, whatever is being written, ends in one line and leaves nothing half."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARED = ("unshare", "-Urm")
FULL_DISK = """
import resource, subprocess, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from commands import process_unchanged
from funrec.cli.main import main

OVERRIDES = ["dataset.rows=3000", "dataset.drop=[user_id,video_id,author_id]", "trainer=smoke", "model=mmoe"]


def run(name, *more):
    with process_unchanged():
        try:
            main(["run", *OVERRIDES, *more])
        except SystemExit as stop:
            print(f"== {name} {stop.code}", flush=True, file=sys.stderr)


def disk(name, kilobytes):
    Path(name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", name], check=True)


run("roomy", "hydra.run.dir=roomy")
pages = {path.name: -(-path.stat().st_size // 4096) for path in Path("roomy").rglob("*") if path.is_file()}
"""

DISKS = """
import os

disk("for_weights", 48)
run("weights", "hydra.run.dir=for_weights/run")
# Folders, locks and links take no page; what is short is half of the predictions, and then the last page.
disk("for_predictions", 4 * (sum(pages.values()) - pages["record.json"] - pages["predictions.parquet"] + 1))
run("predictions", "hydra.run.dir=for_predictions/run")
disk("for_record", 4 * (sum(pages.values()) - 1))
run("record", "hydra.run.dir=for_record/run")
disk("for_cache", 64)
os.environ["FUNREC_CACHE"] = "for_cache"
run("prepare", "hydra.run.dir=unprepared")
"""

LIMITS = """
import os

def limit(bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))

limit(40_000)
run("weights", "hydra.run.dir=limited")
limit(10_000)
os.environ["FUNREC_CACHE"] = "limited_cache"
run("prepare", "hydra.run.dir=unprepared")
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_in_one_line(workdir: Path) -> None:
    """Small disks in a name space of our own, or where that may not be made, a limit to the size of files."""
    can_mount = not subprocess.run([*UNSHARED, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
    phases = ["weights", "predictions", "record", "prepare"] if can_mount else ["weights", "prepare"]
    code = FULL_DISK + (DISKS if can_mount else LIMITS)
    command = [*(UNSHARED if can_mount else ()), sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "Error" not in done.stderr, done.stderr
    said = re.split(r"== (\w+) (\d+)\n", done.stderr)
    assert said[1::3] == ["roomy", *phases]
    assert said[2::3] == ["0", *["2"] * len(phases)]
    for text in said[3:-1:3]:
        last = text.strip().splitlines()[-1]
        assert last.startswith("funrec: ")
        assert "No space left" in last or "File too large" in last or "is full" in last, last
        assert "choose another" in last or "FUNREC_CACHE" in last, last
    assert len(list(workdir.rglob("record.json"))) == 1
    assert not list(workdir.rglob("*.tmp"))
