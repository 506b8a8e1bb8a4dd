"""Faults of prepared data: an entry of the cache that is cut short, or has a bit flipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from drills.bench import RECORD, Bench, check_same
from drills.checks import check, check_whole, checksums, metrics


def truncate_cache(bench: Bench) -> None:
    """Cut a file of a cache entry short, then run on it."""

    def truncate(path: Path) -> None:
        with path.open("rb+") as file:
            file.truncate(bench.draw.randrange(path.stat().st_size))

    _damage(bench, truncate)


def flip_bit(bench: Bench) -> None:
    """Flip one bit of a file of a cache entry, then run on it."""
    _damage(bench, lambda path: _flip(bench, path))


def flip_bit_unseen(bench: Bench) -> None:
    """Flip one bit and leave the file's time as it was, as a failing disk does: `funrec data verify` finds it.

    A run trusts what it verified before and whose time has not changed since, so that it need not read all data twice.
    """
    cache = _copy_of_cache(bench)
    expected = checksums(cache)
    for _ in range(bench.times):
        path = bench.draw.choice(_damageable(cache))
        before = path.stat()
        with bench.injection():
            _flip(bench, path)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            done = bench.funrec("data", "verify")
            check(done.code == 2, f"funrec data verify should exit with 2. Received: {done.code}")
            check(path.name in done.out, f"funrec data verify should name {path.name}. Received: {done.out}")
            os.utime(path)  # whoever sees the damage prepares anew
            _check_rebuilt(bench, path, expected)


def _damage(bench: Bench, change: Callable[[Path], None]) -> None:
    cache, undisturbed = _copy_of_cache(bench), bench.undisturbed_run()
    expected = checksums(cache)
    for number in range(bench.times):
        path = bench.draw.choice(_damageable(cache))
        with bench.injection():
            change(path)
            if number:
                _check_rebuilt(bench, path, expected)
                continue
            folder = bench.new_folder()
            done = bench.funrec(*bench.run(folder))
            check(done.code == 0, f"it should exit with 0. Received: {done.code}, {done.last_word}")
            check(path.name in done.err, f"it should name {path.name}. Received: {done.err}")
            check(checksums(cache) == expected, "what was prepared anew differs from what was there")
            check_same(done.out, undisturbed.table)
            check(metrics(folder / RECORD) == metrics(undisturbed.folder / RECORD), "the run has other metrics")
            check_whole(folder)


def _check_rebuilt(bench: Bench, path: Path, expected: dict[str, str]) -> None:
    overrides = [override for override in bench.shared.data if override.startswith("dataset")]
    done = bench.funrec("data", "describe", *overrides)
    check(done.code == 0, f"funrec data describe should exit with 0. Received: {done.code}, {done.last_word}")
    check(path.name in done.err, f"it should name {path.name}. Received: {done.err or 'nothing'}")
    check(checksums(bench.funrec.cache) == expected, "what was prepared anew differs from what was there")


def _copy_of_cache(bench: Bench) -> Path:
    bench.undisturbed_run()
    bench.funrec.cache = bench.folder / "cache"
    shutil.copytree(bench.shared.cache, bench.funrec.cache)
    return bench.funrec.cache


def _damageable(cache: Path) -> list[Path]:
    """Return the files of a cache that hold data."""
    files = sorted(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size)
    return [path for path in files if path.suffix != ".lock" and path.name not in ("manifest.json", "verified.json")]


def _flip(bench: Bench, path: Path) -> None:
    place, bit = bench.draw.randrange(path.stat().st_size), bench.draw.randrange(8)
    with path.open("rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
