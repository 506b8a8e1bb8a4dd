"""`funrec clean`: remove what interrupted and failed runs wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from funrec.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """List what can be removed, with sizes, and remove it once that is confirmed."""
    parser = Parser(
        prog="funrec clean",
        description="List what interrupted and failed runs wrote, and remove it. Finished and running runs stay, and "
        "so does every file that funrec did not write.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweeps, or folders of them")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    options = parser.parse_args(arguments)
    from funrec.runs.folder import removable, remove

    found = sorted({entry for path in options.paths for entry in removable(path)})
    if not found:
        print("There is nothing to remove.")
        return 0
    sizes = [_size(path) for path in found]
    rows = [[path, _readable(size)] for path, size in zip(found, sizes, strict=True)]
    print(tabulate(rows, headers=["path", "size"], tablefmt="grid", disable_numparse=True, colalign=("left", "right")))
    print(f"{len(found)} files and folders, {_readable(sum(sizes))}", flush=True)
    if not options.yes:
        if not sys.stdin.isatty():
            print("Nothing was removed: pass --yes to remove them.", file=sys.stderr)
            return 0
        sys.stderr.write("Remove them? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was removed.", file=sys.stderr)
            return 0
    gone = remove(found)
    print(f"Removed {len(gone)} of {len(found)}.", file=sys.stderr)
    return 0


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def _readable(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"
