"""Overrides as Hydra's grammar has them: read, quoted, and let reach what a configuration file does not spell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from funrec.config.defaults import SECTIONS, expand


def parse(overrides: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra reads them."""
    return OverridesParser.create().parse_overrides(list(overrides))


def quoted(text: str) -> str:
    """Return a text as the value of an override, whatever characters it has."""
    # In Hydra's grammar a backslash stands for itself, except ahead of a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def is_nested_key(override: Override) -> bool:
    """Return whether an override sets a key inside a section, as in `trainer.epochs=2`."""
    is_plain = not (override.is_add() or override.is_force_add() or override.is_delete())
    section, dot, _ = override.key_or_group.partition(".")
    return is_plain and bool(dot) and "/" not in override.key_or_group and section in SECTIONS


def choices(overrides: Sequence[Override]) -> list[list[str]]:
    """Return what to compose to see every choice that overrides name: one list unless they sweep over choices.

    Overrides of keys are left out; of several values for each of several choices, every value is in some list.
    """
    swept = []
    for override in overrides:
        if not is_nested_key(override):
            line = str(override.input_line)
            values = override.sweep_string_iterator() if override.is_sweep_override() else None
            swept.append([f"{override.get_key_element()}={value}" for value in values] if values else [line])
    longest = max(map(len, swept), default=1)
    return [[lines[place % len(lines)] for lines in swept] for place in range(longest)]


def has_key(config: Any, key: str) -> bool:
    """Return whether a configuration has a dotted key."""
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def reach(overrides: Sequence[Override], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return overrides that set keys which no file spells, but which a signature has, in Hydra's form for new keys.

    Args:
        overrides: As `parse` returns them.
        configs: What `choices` compose to, plain values.
    """
    wanted = {override.key_or_group for override in overrides if is_nested_key(override)}
    # A mapping may have keys that no file spells, although its own key is spelt.
    mappings = {override.key_or_group for override in overrides if isinstance(override.value(), Mapping)}
    unspelt = {key for key in wanted if key in mappings or not any(has_key(config, key) for config in configs)}
    sections = {key.partition(".")[0] for key in unspelt}
    known = {key for config in configs for key in unspelt if has_key(expand(config, sections, every_kind=True), key)}
    return [
        ("++" if is_nested_key(override) and override.key_or_group in known else "") + str(override.input_line)
        for override in overrides
    ]
