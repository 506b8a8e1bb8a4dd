"""`funrec data`: what a dataset holds, and whether what was prepared of it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import take_allowed
from funrec.utils.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """`funrec data describe|verify`."""
    actions = {"describe": _describe_data, "verify": _verify_data}
    action = arguments[0] if arguments else ""
    if action not in actions:
        raise InputError(f"funrec data should be followed by describe or verify. Received: {action or 'nothing'}.")
    return actions[action](arguments[1:])


def _describe_data(arguments: Sequence[str]) -> int:
    from funrec.config.build import build
    from funrec.config.compose import compose
    from funrec.data.datasets.base import Dataset
    from funrec.data.preparation.cache import cache_folder
    from funrec.data.preparation.prepare import prepare
    from funrec.data.preparation.statistics import describe

    config = compose(take_allowed(arguments))
    dataset = build(config["dataset"], Dataset, "dataset")
    print(describe(prepare(dataset, cache_folder())))
    return 0


def _verify_data(arguments: Sequence[str]) -> int:
    from funrec.data.preparation.cache import cache_folder, entries, verify

    damaged = 0
    for entry in [Path(argument) for argument in arguments] or entries(cache_folder()):
        problems = verify(entry)
        damaged += bool(problems)
        print(f"{entry}: {'; '.join(problems) if problems else 'ok'}")
    return 2 if damaged else 0
