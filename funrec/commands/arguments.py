"""What a command line says beside Hydra's overrides: folders of configuration, packages to trust."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from funrec.errors import InputError


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of configuration files that the arguments bring along."""
    flags = ("--config-dir", "-cd", "--config-path", "-cp")
    values = [value for flag, value in pairwise(arguments) if flag in flags]
    values += [value for flag, _, value in (argument.partition("=") for argument in arguments) if flag in flags]
    return [Path(value) for value in values if value]


def take_allowed(arguments: Sequence[str]) -> list[str]:
    """Take `--allow package` out of the arguments; its packages may be named by `_target_` from here on."""
    from funrec.targets import ALLOW_VARIABLE

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
    if packages:
        os.environ[ALLOW_VARIABLE] = ",".join(filter(None, [os.environ.get(ALLOW_VARIABLE, ""), *packages]))
    return left
