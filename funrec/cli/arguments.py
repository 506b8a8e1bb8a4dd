"""Arguments beside Hydra's overrides: folders of configuration, packages to trust."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from funrec.utils.errors import InputError

MULTIRUN = frozenset({"-m", "--multirun", "hydra.mode=MULTIRUN"})

QUESTIONS = ("--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help")
FOLDER_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
VALUE_FLAGS = (*FOLDER_FLAGS, "--config-name", "-cn", "--cfg", "-c", "--package", "-p", "--info", "-i")


class Parser(ArgumentParser):
    """Refuses bad arguments in one line, as all other bad input is refused."""

    def error(self, message: str) -> NoReturn:
        hint = " A value that begins with - needs a =, as in --name=-1." if "expected one argument" in message else ""
        raise InputError(f"{self.prog}: {message}.{hint} {self.prog} --help shows what there is.")


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of configuration files that the arguments name."""
    values = [value for flag, value in pairwise(arguments) if flag in FOLDER_FLAGS]
    values += [value for flag, _, value in (argument.partition("=") for argument in arguments) if flag in FOLDER_FLAGS]
    return [Path(value) for value in values if value]


def add_folder_option(parser: ArgumentParser) -> None:
    """Let a command take `--config-dir`, several times; `bring_folders` wants the values."""
    parser.add_argument(
        *("--config-dir", "-cd"), action="append", default=[], type=Path, help="a folder of your own configurations"
    )


def bring_folders(folders: Sequence[Path]) -> None:
    """Look for configurations in these folders too, in this process and those that it starts."""
    from funrec.config.catalogue import add_folders
    from funrec.config.compose import check_folder

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--config-dir should be a folder. Received: {folder}.")
        check_folder(folder)
    add_folders(folders)


def overrides_in(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are Hydra overrides: no flag, and no flag's value."""
    return [argument for argument, is_override in _told_apart(arguments) if is_override]


def flags_in(arguments: Sequence[str]) -> list[str]:
    """Return the others: flags and their values."""
    return [argument for argument, is_override in _told_apart(arguments) if not is_override]


def _told_apart(arguments: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for before, argument in pairwise(["", *arguments]):
        yield argument, not argument.startswith("-") and before not in VALUE_FLAGS


def has_question(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask what there is instead of a run."""
    return any(argument.partition("=")[0] in QUESTIONS for argument in arguments)


def take_allowed(arguments: Sequence[str]) -> list[str]:
    """Take `--allow package` out of the arguments; its packages may be named by `_target_` from here on."""
    from funrec.config.build import allow

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
