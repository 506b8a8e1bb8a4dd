"""From a configuration's `_target_` to an object: only classes of the right kind, from allowed packages."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from funrec.config.former import FORMER_MODULES, moved
from funrec.utils.errors import InputError
from funrec.utils.specs import check

T = TypeVar("T")

ALLOWED_PACKAGES = ("funrec", "keras")
#: Names further top-level packages, separated by commas.
ALLOW_VARIABLE = "FUNREC_ALLOW"


def build(config: Mapping[str, Any], base: type[T], where: str, **values: Any) -> T:
    """Make the object that a configuration describes.

    `_target_` names a class; it must come from an allowed package and be a `base`, since it would otherwise be
    a way to run any code from a file. The other keys are its arguments, checked by the annotations of its
    constructor (`funrec.utils.specs`).

    Args:
        config: `_target_` and arguments, plain values.
        base: What the target must be a subclass of.
        where: What error messages call the configuration, such as `model.backbone`.
        values: Arguments that come from the program rather than from the configuration.

    Raises:
        InputError: If the target is not allowed, or an argument is unknown, missing or refused.
    """
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    if not isinstance(config.get("_target_"), str):
        raise InputError(f"{where}._target_ should name a class. Received: {config.get('_target_')}.")
    kind = resolve(config["_target_"], base, where)
    for key in arguments:
        if hint := moved(f"{where}.{key}"):
            raise InputError(f"{where}.{key}: no such key.{hint}")
    arguments = check(kind, arguments, where, values)
    try:
        return kind(**arguments, **values)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        if kind.__module__.partition(".")[0] == "funrec":
            raise
        raise InputError(f"{where} was refused by {kind.__name__}: {' '.join(str(error).split())}") from error


def resolve(target: str, base: type[T], where: str) -> type[T]:
    """Return the class that a dotted name stands for."""
    module_name, _, name = target.rpartition(".")
    module_name = FORMER_MODULES.get(module_name, module_name)
    package = module_name.partition(".")[0]
    if package not in allowed_packages():
        raise InputError(
            f"{where}._target_ should be in one of the packages {', '.join(allowed_packages())}. Received: {target}. "
            f"To allow {package or target}, pass --allow {package or target} or set {ALLOW_VARIABLE}."
        )
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        found = None
    if found is None:
        raise InputError(f"{where}._target_ should name a class. There is no {target}.")
    if not (inspect.isclass(found) and issubclass(found, base)) or inspect.isabstract(found):
        raise InputError(f"{where}._target_ should be a {base.__name__}. Received: {target}.")
    return found


def allowed_packages() -> tuple[str, ...]:
    """Return the top-level packages that targets may come from."""
    more = os.environ.get(ALLOW_VARIABLE, "").replace(" ", "").split(",")
    return (*ALLOWED_PACKAGES, *(package for package in more if package))


def allow(packages: Sequence[str]) -> None:
    """Let configurations name classes from these packages, in this process and those that it starts."""
    names = dict.fromkeys((*allowed_packages(), *packages))
    os.environ[ALLOW_VARIABLE] = ",".join(name for name in names if name and name not in ALLOWED_PACKAGES)
