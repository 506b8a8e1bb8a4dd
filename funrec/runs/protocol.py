"""Public protocols (`conf/protocol/`): the rows that published figures are of, and those figures beside a run's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from funrec.runs.tables import render
from funrec.utils.errors import InputError
from funrec.utils.specs import Text, check


@dataclass(frozen=True)
class Protocol:
    """What a run must be like to be compared with published figures.

    Attributes:
        name: What messages call it.
        source: Where the figures are published.
        comparable: A sentence on what makes them comparable with a run's, or not.
        rows: By split: how many rows it has or, where only a rounded number is published, the least and the most.
        published: Figures by model, and by metric as a run calls it.
    """

    name: Text
    source: Text = ""
    comparable: Text = ""
    rows: dict[str, int | list[int]] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)


def read_protocol(config: Mapping[str, Any]) -> Protocol | None:
    """Return the protocol that a run's configuration follows, if it follows one."""
    values = config.get("protocol")
    return None if values is None else Protocol(**check(Protocol, values, "protocol"))


def check_rows(config: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Check that splits of so many rows are those that the protocol's figures are of, if there is a protocol."""
    if (protocol := read_protocol(config)) is None:
        return
    for split, expected in protocol.rows.items():
        least, most = expected if isinstance(expected, list) else (expected, expected)
        if not least <= rows.get(split, 0) <= most:
            wanted = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            raise InputError(
                f"protocol={protocol.name} should have {wanted} rows in the split {split}. Received: "
                f"{rows.get(split, 0):,}. Complete the files of the dataset, or leave the protocol out."
            )


def check_one_protocol(runs: Iterable[tuple[object, Mapping[str, Any]]]) -> None:
    """Check that runs, or jobs, which are to share a table follow one protocol, or none.

    Args:
        runs: What messages call each, and its configuration.
    """
    named = {str((config.get("protocol") or {}).get("name", "none")): place for place, config in runs}
    if len(named) > 1:
        (protocol, place), (other, elsewhere) = list(named.items())[:2]
        raise InputError(
            f"Runs of one table should follow one protocol. Received: {protocol} for {place}, {other} for {elsewhere}. "
            "Compare them separately."
        )


def render_published(records: Sequence[Mapping[str, Any]]) -> str:
    """Return runs of one protocol above its published figures, with their source; empty without figures."""
    protocol = read_protocol(records[0]["config"])
    if protocol is None or not protocol.published:
        return ""
    figures = [{"model": f"{model} (published)", **values} for model, values in protocol.published.items()]
    columns = ["model", *dict.fromkeys(metric for values in protocol.published.values() for metric in values)]
    table = render([*({"model": run["label"], **run["metrics"]} for run in records), *figures], columns=columns)
    return f"{table}\n{protocol.name}: {protocol.comparable} Source: {protocol.source}"
