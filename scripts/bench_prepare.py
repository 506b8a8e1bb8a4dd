"""How fast a KuaiRand log becomes arrays, how fast a second run finds them, and how much memory that takes.

    python scripts/bench_prepare.py --root ../shared/data/kuairand_pure_sample

The log is the sample's, repeated to about 1.4M rows (as many as the published KuaiRand-Pure has) in a temporary
folder; features, tasks and split are those of conf/dataset/kuairand_pure.yaml.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from omegaconf import OmegaConf

from funrec.data.datasets.kuairand import KuaiRand
from funrec.data.preparation.prepare import prepare

CONFIG = Path(__file__).parents[1] / "conf" / "dataset" / "kuairand_pure.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with KuaiRand-Pure's files")
    parser.add_argument("--valid-from", type=int, default=20220503)
    parser.add_argument("--rows", type=int, default=1_400_000, help="rows to repeat the log to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        root, rows = repeat_log(arguments.root, Path(folder) / "raw", arguments.rows)
        config = OmegaConf.to_container(OmegaConf.load(CONFIG), resolve=True)
        assert isinstance(config, dict)
        settings = {str(key): value for key, value in config.items() if key != "_target_"}
        settings["root"] = str(root)
        settings["split"]["valid_from"] = arguments.valid_from
        dataset = KuaiRand(**settings)
        before = anonymous_megabytes()
        first = seconds_to_prepare(dataset, Path(folder) / "cache")
        grown = anonymous_megabytes() - before
        second = seconds_to_prepare(KuaiRand(**settings), Path(folder) / "cache")
    print(f"rows                       {rows:>12,}")
    print(f"first run                  {first:>12.2f} s   {rows / first:,.0f} rows/s, on {os.cpu_count()} cores")
    print(f"second run                 {second:>12.3f} s")
    print(f"anonymous memory, grown by {grown:>12,.0f} MB")


def repeat_log(source: Path, target: Path, rows: int) -> tuple[Path, int]:
    """Copy a published folder with its standard log repeated to at least `rows` rows; return it and their number."""
    data = source / "data" if (source / "data").is_dir() else source
    target.mkdir()
    for file in data.glob("*_features_*.csv"):
        shutil.copy(file, target / file.name)
    log = sorted(data.glob("log_standard_*.csv"))[-1]
    header, _, body = log.read_bytes().partition(b"\n")
    body = body.rstrip(b"\n") + b"\n"
    times = -(-rows // body.count(b"\n"))
    with (target / log.name).open("wb") as stream:
        stream.write(header + b"\n")
        for _ in range(times):
            stream.write(body)
    return target, times * body.count(b"\n")


def seconds_to_prepare(dataset: KuaiRand, cache: Path) -> float:
    """Return how long `prepare` takes."""
    started = time.perf_counter()
    prepare(dataset, cache)
    return time.perf_counter() - started


def anonymous_megabytes() -> float:
    """Return this process's anonymous memory (RssAnon: memory maps, which the system may drop, do not count)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
