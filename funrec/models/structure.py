"""What the parts of a model are told about each other before they are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean


class Field(NamedTuple):
    """A feature that has an embedding.

    Attributes:
        name: The feature's name.
        width: Numbers in one copy of its embedding.
    """

    name: str
    width: int


@dataclass(frozen=True)
class Structure:
    """The shape of a model, handed to its funnel, backbone and interaction alike, in this order.

    Attributes:
        tasks: The tasks, in the order of the label columns.
        groups: Names of tasks that belong together, by the group's name; empty where `model.groups` is not given.
        towers: The towers' names; known once the funnel is configured.
        parents: By tower, which one comes before it in the funnel; None for a root.
        num_numeric: How many plain numbers a row has: the last columns of what the interaction reads.
        copies: How many independent copies of the embeddings the backbone reads.
        domain: The feature that is the row's domain; None without one.
        num_domains: How many domains there are.
        fields: The embedded features, in the order in which their embeddings stand side by side.
    """

    tasks: tuple[Task, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    towers: tuple[str, ...] = ()
    parents: tuple[int | None, ...] = ()
    num_numeric: int = 0
    copies: int = 1
    domain: str | None = None
    num_domains: int = 0
    fields: tuple[Field, ...] = ()

    def spans(self, key: str, names: Sequence[str]) -> list[tuple[int, int]]:
        """Return where the features' embeddings start and end among all."""
        ends = accumulate(field.width for field in self.fields)
        known = {field.name: (end - field.width, end) for field, end in zip(self.fields, ends, strict=True)}
        for name in names:
            if name not in known:
                raise InputError(
                    f"{key} should name features with embeddings. Received: {name}." + did_you_mean(name, known)
                )
        return [known[name] for name in names]

    def context_width(self, context: Sequence[str]) -> int:
        """Return the width of what a backbone reads beside the features; see `Backbone.context`."""
        widths = {"domain": self.num_domains, "embeddings": sum(field.width for field in self.fields)}
        return sum(widths[part] for part in context)


def check_groups(groups: Mapping[str, Sequence[str]] | None, tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Return `model.groups` with tuples for lists; `InputError` if one is empty or names what is not a task."""
    names = [task.name for task in tasks]
    for group, members in (groups or {}).items():
        for member in members or ["none"]:
            if member not in names:
                raise InputError(
                    f"model.groups.{group} should list tasks, of {', '.join(names)}. Received: {member}."
                    + did_you_mean(str(member), names)
                )
    return {group: tuple(members) for group, members in (groups or {}).items()}
