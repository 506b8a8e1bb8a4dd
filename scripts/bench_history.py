"""How fast histories are computed over a generated log, and in how much memory and disk.

    python scripts/bench_history.py --rows 10000000

The log is like KuaiRand's: users, videos, authors, tags and tabs with a long tail, in the order of time. For each of
seven keys there are a count and three rates, and for each user three sequences of 50 videos.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from funrec.data.features.history import HistorySpec
from funrec.data.features.history_engine import compute_histories
from funrec.data.features.history_log import LogPart, stage_log

KEYS = ("video_id", "author_id", "tag", "user_id", "user_id+tag", "user_id+author_id", "user_id+tab")
RATES = {"is_click": 0.35, "long_view": 0.25, "is_like": 0.015}
BLOCK = 1_000_000


def write_log(path: Path, rows: int) -> None:
    """Write the log block by block."""
    path.mkdir()
    users, videos = max(1_000, rows // 50), max(1_000, rows // 200)
    for number, start in enumerate(range(0, rows, BLOCK)):
        draw = np.random.default_rng(number)
        size = min(BLOCK, rows - start)
        video = (videos * draw.random(size) ** 3).astype(np.int64)
        millis = np.sort(draw.integers(start, start + size, size)) * (14 * 86_400_000 // rows + 1) + 1_650_000_000_000
        columns = {
            "user_id": (users * draw.random(size) ** 2).astype(np.int64),
            "video_id": video,
            "author_id": video * 7919 % max(500, videos // 3),
            "tag": video * 104_729 % 60,
            "tab": draw.choice(15, size, p=np.r_[0.6, np.full(14, 0.4 / 14)]),
            **{label: (draw.random(size) < rate).astype(np.int8) for label, rate in RATES.items()},
            "time_ms": millis,
        }
        frame = pl.DataFrame(columns).with_columns(date=pl.from_epoch("time_ms", "ms").dt.date())
        frame.write_ipc(path / f"{number:05}.arrow", compression="uncompressed")


def preset() -> list[HistorySpec]:
    specs = []
    for key in KEYS:
        by = key.split("+")
        specs.append(HistorySpec.read(f"{key}_count", {"by": by, "count": True}))
        specs += [HistorySpec.read(f"{key}_{label}", {"by": by, "rate": label}) for label in RATES]
    for label in RATES:
        sequence = {"by": "user_id", "last": 50, "of": "video_id", "where": f"{label} = 1"}
        specs.append(HistorySpec.read(f"recent_{label}", sequence))
    return specs


class AnonymousMemory(threading.Thread):
    """Watches how much memory is held that no file backs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self.now()
        self._done = threading.Event()

    @staticmethod
    def now() -> float:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6

    def run(self) -> None:
        while not self._done.wait(0.05):
            self.peak = max(self.peak, self.now())

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--time", choices=("date", "time_ms"), default="date", help="date: a lag of a day; else an hour"
    )
    parser.add_argument("--folder", type=Path, help="where to work; the system's temporary folder by default")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_history_", dir=arguments.folder))
    try:
        measure(folder, arguments.rows, arguments.time)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, rows: int, time_column: str) -> None:
    write_log(folder / "raw", rows)
    specs, log, values = preset(), folder / "log.arrow", folder / "values"
    values.mkdir()
    memory = AnonymousMemory()
    before = memory.peak
    memory.start()
    start, processor = time.perf_counter(), time.process_time()
    everything = LogPart(pl.scan_ipc(folder / "raw" / "*.arrow"), pl.lit(True), pl.lit(True))
    stage_log([everything], specs, time_column, log)
    staged = time.perf_counter() - start
    found = compute_histories(log, specs, values, None if time_column == "date" else "1h")
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = memory.stop()
    written = sum(path.stat().st_size for path in values.rglob("*") if path.is_file())
    lengths = [sequence.lengths[:: max(1, rows // 100_000)].mean() for sequence in found.sequences.values()]
    print(
        f"{rows:,} rows by {time_column}: {len(found.numbers)} numbers, {len(lengths)} sequences of "
        f"{', '.join(f'{length:.0f}' for length in lengths)} on average\n"
        f"{seconds:.1f} s ({staged:.1f} s to stage), {rows / seconds:,.0f} rows/s, {processor:.1f} s of processors\n"
        f"{peak:.2f} GB of anonymous memory at most, {before:.2f} GB of it before\n"
        f"{log.stat().st_size / 1e9:.2f} GB staged, {(written - 4 * len(found.numbers) * rows) / 1e9:.2f} GB of "
        "sequences"
    )


if __name__ == "__main__":
    main()
