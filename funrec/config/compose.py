"""Hydra at arm's length: configurations composed, resolved to plain values, their errors in one line.

Only this module, `funrec.cli.run` and `funrec.sweeps` know Hydra and OmegaConf; every other room takes plain
typed values.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from funrec.config.build import allowed_packages
from funrec.config.catalogue import own_folders
from funrec.config.defaults import SECTIONS, expand
from funrec.config.former import moved, translate
from funrec.config.overrides import choices, is_nested_key, reach
from funrec.config.overrides import parse as overrides_of
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import flatten, one_line, replacing

CONFIG_MODULE = "funrec.conf"

#: What to install for a launcher that is not ours.
LAUNCHER_PACKAGES = {
    "joblib": "'funrec-lab[joblib]'",
    "ray": "'funrec-lab[ray]'",
    "submitit": "hydra-submitit-launcher",
}

# Two runs that start within one second land in folders of their own.
OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(2), use_cache=True, replace=True)


def compose(overrides: Sequence[str], name: str = "config", sections: Collection[str] = SECTIONS) -> dict[str, Any]:
    """Return the configuration that `overrides` ask for, as plain values, every default spelt out.

    Args:
        overrides: Hydra overrides. Choices may be files in the folders that `FUNREC_CONFIG_DIR` lists.
        name: The file to begin with.
        sections: The sections whose defaults are wanted; a section's classes are imported for them.
    """
    return compose_with_choices(overrides, name, sections)[0]


def compose_with_choices(
    overrides: Sequence[str], name: str = "config", sections: Collection[str] = SECTIONS
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what `compose` does, and the file chosen in every group: `{"model": "mmoe", ...}`."""
    reaching = reaching_overrides(overrides, name)
    with one_line_errors(overrides), _own_hydra():
        config = hydra_compose(name, [*reaching, *_search_path()], return_hydra_config=True)
        chosen = {str(group): str(choice) for group, choice in config.hydra.runtime.choices.items()}
        plain = to_plain(config, sections)
        return plain, {group: choice for group, choice in chosen.items() if not group.startswith("hydra")}


def reaching_overrides(overrides: Sequence[str], name: str = "config") -> list[str]:
    """Return overrides by which a key that a signature has can be set although no file spells it.

    What does not parse or compose comes back as it is, for Hydra to say what is wrong with it.
    """
    try:
        parsed = overrides_of(overrides)
        if not any(map(is_nested_key, parsed)):
            return list(overrides)
        composed = []
        for chosen in choices(parsed):
            with suppress(HydraException, OmegaConfBaseException):  # of a sweep, the job with this choice says it
                composed.append((_chosen_anew if _search_path() else _chosen)(name, tuple(chosen)))
        return reach(parsed, composed)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError):
        return list(overrides)


def _chosen_anew(name: str, chosen: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what choices alone compose to, references unresolved."""
    with _own_hydra():
        return OmegaConf.to_container(hydra_compose(name, [*chosen, *_search_path()]), resolve=False)  # type: ignore[return-value]


#: The jobs of a sweep and the trials of a study make the same choices; our own files do not change in the meantime.
_chosen = cache(_chosen_anew)


def parse_override(override: str) -> tuple[str, Any, bool]:
    """Return an override's key, its value as plain data, and whether it deletes."""
    with one_line_errors():
        (parsed,) = overrides_of([override])
        if parsed.is_sweep_override():
            raise InputError(f"{override} should give one value. Received: several. Put a list in brackets.")
        return parsed.key_or_group, parsed.value(), parsed.is_delete()


def to_plain(config: DictConfig, sections: Collection[str] = SECTIONS) -> dict[str, Any]:
    """Return a composed configuration as plain values, every reference resolved and every default spelt out."""
    plain = {}
    with one_line_errors():
        for key in map(str, config):
            if key != "hydra":
                value = config[key]
                is_node = OmegaConf.is_config(value)
                plain[key] = OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_node else value
    return expand(plain, sections)


def save(config: Mapping[str, Any], overrides: Sequence[str], folder: Path) -> None:
    """Write a configuration and its overrides into `folder`, as Hydra does for a run of its own."""
    folder.mkdir(exist_ok=True)
    # The configuration last: where there is one, all is there.
    for name, content in (("overrides.yaml", list(overrides)), ("config.yaml", dict(config))):
        with replacing(folder / name) as temporary:
            OmegaConf.save(OmegaConf.create(content), temporary)


def load(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration and the overrides that `save` wrote."""
    config, overrides = _load(folder / "config.yaml"), _load(folder / "overrides.yaml")
    if not isinstance(config, dict) or not isinstance(overrides, list):
        raise InputError(f"{folder} is damaged: a mapping and a list should be in it. Run it again in a new folder.")
    return translate({str(key): value for key, value in config.items()}), [str(override) for override in overrides]


def _load(path: Path) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (FileNotFoundError, NotADirectoryError):
        run = path.parent.parent
        raise InputError(f"{run} should be a run's folder. Received: one without .hydra/{path.name}.") from None
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}. Run it again in a new folder.") from error


def check_folder(folder: Path) -> None:
    """Check that no configuration file in a user's folder makes Hydra or logging call arbitrary code.

    What funrec builds is checked when it is built (`funrec.config.build`); Hydra builds its own callbacks,
    launchers and log handlers from the same files, and would call whatever they name.
    """
    for file in sorted(folder.rglob("*.y*ml")):
        try:
            loaded = OmegaConf.load(file)
        except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError):
            continue  # it cannot be composed either, and Hydra says so if it is chosen
        for key, value in _leaves(OmegaConf.to_container(loaded, resolve=False)):
            package = str(value).partition(".")[0]
            is_target = key == "_target_" and package not in (*allowed_packages(), "hydra_plugins")
            is_factory = key == "()" or (
                isinstance(value, str) and value.startswith("ext://") and "sys.std" not in value
            )
            if is_target or is_factory:
                raise InputError(
                    f"{file}: {key} should name something from {', '.join(allowed_packages())}. Received: {value}. "
                    f"If you trust it, pass --allow {package}."
                    if is_target
                    else f"{file}: {key} should not call for an object of its own. Received: {value}. Take it out."
                )


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(child, str(name))
    elif isinstance(node, list):
        for child in node:
            yield from _leaves(child, key)
    else:
        yield key, node


@contextmanager
def one_line_errors(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Turn what Hydra and OmegaConf say of a configuration into one line.

    Args:
        overrides: What was asked for, to find the name that was meant.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error, overrides)) from error
    except YAMLError as error:
        raise InputError(_one_line_of_yaml(error)) from error
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):  # the one error Hydra has no class for
            raise
        raise InputError(f"A choice should be the name of a configuration, as in model=mmoe. {error}.") from error


def _search_path() -> list[str]:
    places = [f"file://{folder}" for folder in dict.fromkeys(folder.resolve() for folder in own_folders())]
    return [f"hydra.searchpath={json.dumps(places)}"] if places else []


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Compose with our configuration, and give a caller who uses Hydra too their own back."""
    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = hydra
        HydraConfig.instance().cfg = config


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    text = str(error)
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]} should be given. Received: nothing. Add {missing[1]}=... to the command."
    if unknown := re.search(r"In '[^']+': Could not find '([^']+)'", text):
        group, _, name = unknown[1].rpartition("/")
        options = [option for option in re.findall(r"^\t([^_\s]\S*)", text, flags=re.MULTILINE) if "=" not in option]
        if group == "hydra/launcher" and (package := LAUNCHER_PACKAGES.get(name.partition("_")[0])):
            return f"{group}={name} needs a package of its own. Received: none. Run pip install {package}."
        return f"{group}: there is no {name}.{did_you_mean(name, options)}"
    if unknown := re.search(r"In '[^']+': Could not load '([^']+)/([^'/]+)'", text):
        # Of a group from which several are chosen Hydra lists no options.
        found = files("funrec.conf").joinpath(unknown[1])
        options = [file.name.removesuffix(".yaml") for file in found.iterdir()] if found.is_dir() else []
        return f"{unknown[1]}: there is no {unknown[2]}.{did_you_mean(unknown[2], options)}"
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return f"{unknown[1]}: no such key.{moved(unknown[1]) or _nearest_key(unknown[1], overrides, can_add=True)}"
    if unknown := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{unknown[1]}: no such key.{_nearest_key(unknown[1], overrides)}"
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        if not key.isascii():
            return f"The key of an override should be ASCII. Received: {key}. Set it in a YAML file, with --config-dir."
        if not value.isascii():
            quoted = re.sub(r"[^\s,:{}()\[\]'\"]*[^\x00-\x7f][^\s,:{}()\[\]'\"]*", r'"\g<0>"', value)
            return f"Letters beyond ASCII should be in quotes. Received: {error.override}. Write '{key}={quoted}'."
        return (
            f"{' '.join(text.partition('See https')[0].split())}. An override should read key=value; a value with "
            "spaces, commas, brackets or = needs quotes twice over: 'dataset.where=\"tab IN (0,1)\"'."
        )
    return " ".join(text.partition("See https")[0].split())


def _one_line_of_yaml(error: YAMLError) -> str:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return f"A configuration should be YAML. {' '.join(str(error).split())}."
    place = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
    problem = error.problem or "it is not"
    if twice := re.match(r"found duplicate key (.+)", problem):
        return f"{place}: {twice[1]} should be given once. Received: it twice. Rename or drop one of the two."
    return f"{place}: this should be YAML. Received: {problem}. Look for a bracket, quote or indent just before it."


def _nearest_key(key: str, overrides: Sequence[str], can_add: bool = False) -> str:
    kept = [override for override in overrides if key not in override]
    try:
        with _own_hydra():
            composed = hydra_compose("config", [*reaching_overrides(kept), *_search_path()])
        plain: Any = OmegaConf.to_container(composed, resolve=False)
        keys = list(dict(flatten(expand(plain, {key.partition(".")[0]}, every_kind=True), inner=True)))
    except (HydraException, OmegaConfBaseException):
        return ""
    # The name is looked for among its neighbours first: a typo rarely changes the path to it.
    parent, _, name = key.rpartition(".")
    neighbours = [known.rpartition(".")[2] for known in keys if known.rpartition(".")[0] == parent]
    if found := re.match(r"(dataset\.(?:features|tasks))\.([^.]+)", key):
        names = {known.split(".")[2] for known in keys if known.startswith(f"{found[1]}.")}
        if found[2] not in names:
            return did_you_mean(found[2], sorted(names)) + (f" A new one needs a plus: +{key}=..." if can_add else "")
    if neighbours:
        return did_you_mean(name, neighbours)
    return did_you_mean(key, keys)
