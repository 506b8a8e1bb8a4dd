"""`funrec data`: public data sets, what a dataset holds, and whether prepared data is intact."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from funrec.cli.arguments import Parser, add_folder_option, bring_folders
from funrec.cli.console import is_live
from funrec.utils.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from funrec.data.datasets.base import Dataset

HELP = """\
usage: funrec data fetch NAME
       funrec data describe [OVERRIDE ...]
       funrec data verify [ENTRY ...]
       funrec data verify --leaks [OVERRIDE ...]

fetch     download a public data set (funrec list downloads): resumed, checked, unpacked
describe  prepare a dataset unless that has been done, and print its rows, rates and vocabularies
verify    check prepared data against its checksums; exit code 2 if any is damaged
          --leaks: change later outcomes and see that no history of an earlier row moves; exit code 2 if one does

funrec data describe --help, and so on, list the options.
"""


def main(arguments: Sequence[str]) -> int:
    """Run `funrec data fetch`, `describe` or `verify`; return 2 if prepared data is damaged."""
    actions = {"fetch": _fetch, "describe": _describe, "verify": _verify}
    action = arguments[0] if arguments else "nothing"
    if action in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if action not in actions:
        raise InputError(
            f"funrec data should be followed by fetch, describe or verify. Received: {action}."
            + did_you_mean(action, actions)
        )
    return actions[action](arguments[1:])


def _fetch(arguments: Sequence[str]) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from funrec.data.fetch import RECORDED, fetch, find_download

    parser = _parser("fetch", "Download a public data set: resumed where it broke off, checked, and unpacked.")
    parser.add_argument("name", metavar="NAME", help="what `funrec list downloads` shows")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="a folder that is not there yet")
    options = parser.parse_args(arguments)
    bring_folders(options.config_dir)
    download = find_download(options.name)
    folder = options.output or Path("data", download.url.rpartition("/")[2].partition(".")[0])
    if folder.exists():
        raise InputError(f"{folder} is there already. Remove it, or name another folder with -o.")
    size = "a size that is not published" if download.bytes is None else f"{download.bytes:,} bytes"
    print(f"{download.url}, {size}. Licence: {download.licence}.", file=sys.stderr)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not is_live(), transient=True) as bar:
        task = bar.add_task("")
        digest = fetch(download, folder, lambda done, total: bar.update(task, completed=done, total=total))
    how = f"none is published; recorded in {folder.parent / RECORDED}" if download.sha256 is None else "as published"
    print(f"SHA-256 {digest}: {how}.", file=sys.stderr)
    print(f"dataset.root={folder}")
    return 0


def _describe(arguments: Sequence[str]) -> int:
    parser = _parser(
        "describe", "Prepare a dataset unless that has been done, and print its rows, rates and vocabularies."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="OVERRIDE", help="as for funrec run: dataset=adult dataset.root=FOLDER"
    )
    options = parser.parse_intermixed_args(arguments)
    from funrec.data.preparation.cache import cache_folder
    from funrec.data.preparation.description import describe
    from funrec.data.preparation.prepare import prepare

    dataset = _dataset(options.overrides, options.config_dir)
    print("\n\n".join(map(str, describe(prepare(dataset, cache_folder())))))
    return 0


def _parser(action: str, description: str) -> Parser:
    parser = Parser(prog=f"funrec data {action}", description=description)
    add_folder_option(parser)
    return parser


def _dataset(overrides: Sequence[str], folders: Sequence[Path]) -> Dataset:
    bring_folders(folders)
    from funrec.config.build import build
    from funrec.config.compose import compose
    from funrec.data.datasets.base import Dataset

    return build(compose(overrides, sections=["dataset"])["dataset"], Dataset, "dataset")


def _verify(arguments: Sequence[str]) -> int:
    parser = _parser("verify", "Check prepared data against its checksums; exit code 2 if any is damaged.")
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help="folders of the cache; all by default")
    parser.add_argument(
        "--leaks", action="store_true", help="check the histories of the dataset that overrides in place of ENTRY name"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.leaks:
        return _verify_histories(_dataset(options.entries, options.config_dir))
    from funrec.data.preparation.cache import cache_folder, entries, verify

    damaged = 0
    for entry in map(Path, options.entries or entries(cache_folder())):
        problems = verify(entry)
        damaged += bool(problems)
        print(f"{entry}: {'; '.join(problems) if problems else 'ok'}")
    return 2 if damaged else 0


def _verify_histories(dataset: Dataset) -> int:
    from tempfile import TemporaryDirectory

    from funrec.data.preparation.cache import cache_folder
    from funrec.data.preparation.leaks import check_histories

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".leaks-", dir=cache) as folder:
        checks = check_histories(dataset, Path(folder))
    for found in checks:
        result = f"{found.leaks:,} rows see their own time or later" if found.leaks else "ok"
        print(f"{found.name}: {result} ({found.moved:,} later rows moved, as they may)")
    return 2 if any(found.leaks for found in checks) else 0
