"""`funrec serve` under load: rows/s and latency at several numbers of clients, and its memory over many requests.

    python scripts/bench_serving.py                               # a small mmoe on the synthetic log, served as ONNX
    python scripts/bench_serving.py --run RUN --formats onnx savedmodel

Clients keep their connection and send a request as soon as the last is answered; they are one process beside the
server's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import polars as pl
import uvloop
from pydantic_core import to_json

FUNREC = (sys.executable, "-m", "funrec.cli.main")


def bodies(run: Path, rows: int, count: int = 500) -> list[bytes]:
    """Return requests of so many rows, drawn from the run's data set."""
    from funrec.config.build import build
    from funrec.data.arrays import load_inputs
    from funrec.data.datasets.base import Dataset
    from funrec.runs import record

    dataset = build(record.read(run)["config"]["dataset"], Dataset, "dataset")
    with TemporaryDirectory() as folder:
        scanned = dataset.scan(load_inputs(run / "model").columns, Path(folder))
        frame = next(iter(scanned.values())).head(100_000).collect()
    drawn = frame.sample(rows * count, with_replacement=True, seed=0)
    plain = drawn.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).to_dicts()
    return [to_json({"rows": plain[start : start + rows]}) for start in range(0, len(plain), rows)]


async def client(port: int, requests: Iterator[bytes], times: list[float], last: int) -> None:
    """Send requests one after the other, until all clients have sent `last`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while len(times) < last:
        body = next(requests)
        clock = time.perf_counter()
        writer.write(b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        answer = await reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        times.append(time.perf_counter() - clock)
    writer.close()


async def load(port: int, clients: int, requests: list[bytes], count: int) -> tuple[list[float], float]:
    """Return the seconds of every request, and of all."""
    times: list[float] = []
    source = cycle(requests)
    clock = time.perf_counter()
    await asyncio.gather(*(client(port, source, times, count) for _ in range(clients)))
    return times, time.perf_counter() - clock


@contextmanager
def server(run: Path, format: str) -> Iterator[tuple[int, int]]:
    """Serve a run; yields the port and the process."""
    command = [*FUNREC, "serve", str(run), "--format", format, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.match(r"http://127.0.0.1:(\d+)", process.stdout.readline())
        if found is None:
            raise RuntimeError("The server did not start.")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait()


def memory(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def processor_seconds(pid: int) -> float:
    """Return what a process has taken of the processor: the measure that other work on the machine leaves alone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished, exported run; by default one is made")
    parser.add_argument("--formats", nargs="+", default=["onnx"], choices=["onnx", "savedmodel"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 100], help="rows of a request")
    parser.add_argument("--requests", type=int, default=5_000, help="of each measurement; a tenth where rows are many")
    parser.add_argument("--turns", type=int, default=3, help="measurements, of which the fastest is printed")
    parser.add_argument("--memory", type=int, default=100_000, help="requests over which memory is watched; 0 for none")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        run = options.run
        if run is None:
            overrides = ["model=mmoe", "dataset.rows=100000", "trainer.epochs=1", f"hydra.run.dir={folder}/run"]
            subprocess.run([*FUNREC, "run", *overrides], check=True, stdout=subprocess.DEVNULL, cwd=folder)
            run = Path(folder, "run")
            for format in options.formats:
                subprocess.run([*FUNREC, "export", str(run), "--format", format], check=True)
        by_rows = {rows: bodies(run, rows) for rows in options.rows}
        print(f"{date.today()}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}")
        for format in options.formats:
            with server(run, format) as (port, pid):
                print(f"{format}: {memory(pid):.0f} MB at the start")
                for rows, requests in by_rows.items():
                    count = options.requests if rows == 1 else options.requests // 10
                    for clients in options.clients:
                        uvloop.run(load(port, clients, requests, count // 10))
                        before = processor_seconds(pid)
                        turns = [uvloop.run(load(port, clients, requests, count)) for _ in range(options.turns)]
                        spent = (processor_seconds(pid) - before) / (options.turns * count)
                        times, seconds = min(turns, key=lambda turn: turn[1])
                        half, most = 1000 * np.quantile(times, [0.5, 0.99])
                        print(
                            f"{format}: {clients} clients, {rows} rows a request: {rows * len(times) / seconds:,.0f} "
                            f"rows/s, {len(times) / seconds:,.0f} requests/s, median {half:.2f} ms, p99 {most:.2f} ms; "
                            f"the server's processor: {1000 * spent:.2f} ms a request",
                            flush=True,
                        )
                for done in range(0, options.memory, max(options.memory // 10, 1)):
                    print(f"{format}: {memory(pid):.1f} MB before request {done:,}", flush=True)
                    uvloop.run(load(port, max(options.clients), by_rows[options.rows[0]], options.memory // 10))
                print(f"{format}: {memory(pid):.1f} MB in the end")


if __name__ == "__main__":
    main()
