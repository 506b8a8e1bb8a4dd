"""Arguments beside Hydra's overrides: folders of configuration, packages to trust."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from funrec.utils.errors import InputError

MULTIRUN = frozenset({"-m", "--multirun", "hydra.mode=MULTIRUN"})

FOLDER_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
VALUE_FLAGS = (*FOLDER_FLAGS, "--config-name", "-cn", "--cfg", "-c", "--package", "-p", "--info", "-i")


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of configuration files that the arguments name."""
    values = [value for flag, value in pairwise(arguments) if flag in FOLDER_FLAGS]
    values += [value for flag, _, value in (argument.partition("=") for argument in arguments) if flag in FOLDER_FLAGS]
    return [Path(value) for value in values if value]


def bring_folders(folders: Sequence[Path]) -> None:
    """Look for configurations in these folders too, in this process and those that it starts.

    Raises:
        InputError: If a file in one of them would run arbitrary code; see `check_folder`.
    """
    from funrec.config.compose import FOLDERS_VARIABLE, check_folder

    for folder in folders:
        check_folder(folder)
    known = [folder for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if folder]
    if places := dict.fromkeys([*known, *(str(folder.resolve()) for folder in folders)]):
        os.environ[FOLDERS_VARIABLE] = os.pathsep.join(places)


def overrides_in(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are Hydra overrides: no flag, and no flag's value."""
    return [argument for argument, is_override in _told_apart(arguments) if is_override]


def flags_in(arguments: Sequence[str]) -> list[str]:
    """Return the others: flags and their values."""
    return [argument for argument, is_override in _told_apart(arguments) if not is_override]


def _told_apart(arguments: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for before, argument in pairwise(["", *arguments]):
        yield argument, not argument.startswith("-") and before not in VALUE_FLAGS


def take_flag(arguments: Sequence[str], flag: str) -> tuple[list[str], bool]:
    """Take a flag out of the arguments; return the others, and whether it was there."""
    return [argument for argument in arguments if argument != flag], flag in arguments


def take_allowed(arguments: Sequence[str]) -> list[str]:
    """Take `--allow package` out of the arguments; its packages may be named by `_target_` from here on."""
    left, packages = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--allow" or argument.startswith("--allow="):
            package = argument.partition("=")[2] if "=" in argument else next(rest, "")
            if not package.isidentifier():
                raise InputError(f"--allow should be followed by a package's name. Received: {package or 'nothing'}.")
            packages.append(package)
        else:
            left.append(argument)
    allow(packages)
    return left


def allow(packages: Sequence[str]) -> None:
    """Let configurations name classes from these packages, in this process and those that it starts."""
    from funrec.config.build import ALLOW_VARIABLE

    known = [package for package in os.environ.get(ALLOW_VARIABLE, "").split(",") if package]
    more = [package for package in packages if package and package not in known]
    if more:
        os.environ[ALLOW_VARIABLE] = ",".join([*known, *more])
