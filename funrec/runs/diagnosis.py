"""A record's diagnosis in words and tables: heads, gates, what the model's parts do and what that says about its name.

The record's `inside` holds

    logits                 by tower: variance of the `network`'s and the `wide` part's logits, and their `covariance`
    gate_costs             AUC lost by task where gates are replaced by their means: over `rows`, and, where all readers
                           of a gate share its experts, over `rows_and_readers`
    experts                by place: how alike the experts' outputs are, `similarity`, linear CKA
    shared_gradient_norms  by task: of the gradient over all that tasks share
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from funrec.metrics import is_count, table_columns
from funrec.metrics.diagnosis import Finding
from funrec.runs.tables import NOT_RECORDED

#: A network with less of a logit's standard deviation than this adds next to nothing to a wide part.
LITTLE = 0.05
#: Gates whose means do as well, to this AUC, might as well be constants.
NO_COST = 1e-4
#: An expert is unused by a reader that gives it next to nothing in this share of rows.
UNUSED = 0.99


def network_share(part: Mapping[str, float]) -> float:
    """Return the network's standard deviation as a fraction of the logit's; NaN where the logit is constant."""
    total = part["network"] + part["wide"] + 2 * part["covariance"]
    return math.sqrt(part["network"] / total) if total > 0 else math.nan


def nearly_another(
    inside: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], backbone: str, wide: str
) -> list[Finding]:
    """Return what shows that a model is nearly another one, or nothing."""
    return [*_is_its_wide_part(inside, backbone, wide), *_has_constant_gates(inside, gates, backbone)]


def _is_its_wide_part(inside: Mapping[str, Any], backbone: str, wide: str) -> Iterator[Finding]:
    little = {part["tower"]: network_share(part) for part in inside["logits"] if part["wide"] > 0}
    little = {tower: share for tower, share in little.items() if share < LITTLE}
    if not little:
        return
    shares = ", ".join(f"{share:.1%} of {tower}'s" for tower, share in little.items())
    model = "the logistic regression" if wide == "linear" else f"its wide part, {wide}"
    message = (
        f"{backbone}: {shares} spread (standard deviation of the logit) is the network's; this is {model}. "
        "model/wide=none shows what the network does by itself."
    )
    yield Finding("nearly_wide", tuple(little), message)


def _has_constant_gates(
    inside: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], backbone: str
) -> Iterator[Finding]:
    costs = inside["gate_costs"]
    readers = {gate["reader"] for gate in gates}
    for key, where, model in (
        ("rows_and_readers", "every row and task" if len(readers) > 1 else "every row", "shared_bottom"),
        ("rows", "every row", "a network with a fixed mixture of experts"),
    ):
        if costs.get(key) and all(abs(cost) < NO_COST for cost in costs[key].values()):
            told = f"substituting their mean moves no AUC by {NO_COST:.4f}: this is {model}."
            yield Finding("constant_gates", (), f"{backbone}: its gates are the same for {where}; {told}")
            return


def inside_columns(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that tell whether a model is what its name says; empty for runs that did not measure them."""
    inside = record.get("inside")
    if not inside:
        return {}
    columns = {f"network's share, {part['tower']}": network_share(part) for part in inside["logits"]}
    if (deviation := _mean_deviation(record.get("gates") or [])) is not None:
        columns["gates' deviation"] = deviation
    if costs := inside["gate_costs"]:
        columns["AUC of gates' variation"] = max(costs["rows"].values(), key=abs, default=math.nan)
    return {name: value for name, value in columns.items() if math.isfinite(value)}


def _mean_deviation(gates: Sequence[Mapping[str, Any]]) -> float | None:
    deviations = [value for gate in gates for value in gate.get("deviation", ())]
    return sum(deviations) / len(deviations) if deviations else None


def render_inside(record: Mapping[str, Any]) -> list[str]:
    """Return tables of what the parts do; empty for runs made before it was measured, and where there is no network."""
    inside = record.get("inside")
    if not inside:
        return []
    blocks = []
    for title, (headers, rows) in inside_tables(inside, record.get("gates") or []).items():
        blocks += [title, grid(headers, rows)]
    return blocks


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns of figures, all but the first, are aligned to the right."""
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt="grid", disable_numparse=True, colalign=align)


def inside_tables(
    inside: Mapping[str, Any], gates: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return the tables, a heading and rows each, by title."""
    norms = inside["shared_gradient_norms"]
    rows = [
        [
            part["tower"],
            *(f"{math.sqrt(part[name]):.3f}" for name in ("network", "wide")),
            f"{part['covariance']:+.3f}",
            "" if math.isnan(share := network_share(part)) else f"{share:.1%}",
            f"{norms[part['tower']]:.4f}" if part["tower"] in norms else "",
        ]
        for part in inside["logits"]
    ]
    headers = ["tower", "network sd", "wide sd", "covariance", "network's share", "gradient norm"]
    tables = {"Spread of every tower's logit, and the norm of its task's gradient in what tasks share": (headers, rows)}
    if (costs := inside["gate_costs"]) and (deviation := _mean_deviation(gates)) is not None:
        tasks = list(costs["rows"])
        named = {"rows": "mean over rows", "rows_and_readers": "mean over rows and tasks"}
        rows = [[named[key], *(f"{by_task[task]:+.5f}" for task in tasks)] for key, by_task in costs.items()]
        varies = f"which vary by {deviation:.3f} (standard deviation over rows), "
        tables[f"AUC lost where gates, {varies}are replaced by their means"] = (["gates", *tasks], rows)
    if rows := list(_experts(inside, gates)):
        tables["Experts: the one most alike (linear CKA), and who reads them"] = (
            ["expert", "most alike", "similarity", "unused by"],
            rows,
        )
    return tables


def _experts(inside: Mapping[str, Any], gates: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    unused = unused_by(gates)
    for group in inside["experts"]:
        names = group["experts"]
        for place, name in enumerate(names):
            others = [(value, names[other]) for other, value in enumerate(group["similarity"][place]) if other != place]
            value, other = max(others, default=(math.nan, ""))
            idle, readers = unused.get((group["place"], name), ([], 0))
            who = "everyone" if idle and len(idle) == readers else ", ".join(idle)
            label = f"{name} ({group['place']})" if group["place"] else name
            yield [label, other, "" if math.isnan(value) else f"{value:.3f}", who]


def unused_by(gates: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[list[str], int]]:
    """Return for every expert, by place and name, the readers that do not use it, and how many readers it has.

    A gate names its reader's own experts without the reader's name, which is put in front of them.
    """
    found: dict[tuple[str, str], tuple[list[str], int]] = {}
    for gate in gates:
        own = len(gate["experts"]) - gate.get("num_shared", 0)
        for place, (expert, idle) in enumerate(zip(gate["experts"], gate["unused"], strict=True)):
            names_reader = gate["reader"] != "shared" and place < own and expert.startswith("specific_")
            name = f"{gate['reader']}_{expert}" if names_reader else expert
            who, readers = found.setdefault((gate["gate"], name), ([], 0))
            if idle > UNUSED:
                who.append(gate["reader"])
            found[gate["gate"], name] = (who, readers + 1)
    return found


def render_gates(gates: Sequence[Mapping[str, Any]]) -> str:
    """Return a record's `gates` as a table, a row per gate and expert; a line that says so where there are none.

    `weight` is the expert's mean weight, `unused` the share of rows in which it gets less than a tenth of an equal
    share, and `entropy` 1 for a gate that mixes all alike and 0 for one that takes a single expert.
    """
    if not gates:
        return "This backbone has no gates."
    rows: list[list[str]] = []
    for gate in gates:
        start = [gate["reader"], gate["gate"], f"{gate['entropy']:.3f}"]
        for expert, weight, unused in zip(gate["experts"], gate["weight"], gate["unused"], strict=True):
            rows.append([*start, expert, f"{weight:.3f}", f"{unused:.3f}"])
            start = ["", "", ""]
    headers = ["gate of", "place", "entropy", "expert", "weight", "unused"]
    if not any(gate["gate"] for gate in gates):
        rows, headers = [[row[0], *row[2:]] for row in rows], [headers[0], *headers[2:]]
    align = ["left" if name in ("gate of", "place", "expert") else "right" for name in headers]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, colalign=align)


def render_diagnosis(record: Mapping[str, Any]) -> str:
    """Return the head-by-label matrix, the warnings, and random beside standard exposure if there is any."""
    diagnosis = record.get("diagnosis")
    if not diagnosis:
        return NOT_RECORDED
    tasks = list(diagnosis["tasks"])
    rows = [
        [task, *("" if value is None else f"{value:.4f}" for value in values)]
        for task, values in zip(tasks, diagnosis["auc"], strict=True)
    ]
    parts = ["AUC of every head (row) on every task's labels (column)", grid(["head", *tasks], rows)] if tasks else []
    findings = diagnosis["findings"]
    parts += [f"Warning: {finding['message']}" for finding in findings] or ["No warnings."]
    return "\n".join([*parts, *render_inside(record), *_exposures(record["metrics"])])


def _exposures(metrics: Mapping[str, float]) -> list[str]:
    """Return the table's metrics on randomly exposed rows beside those on standard ones, and their difference."""
    pairs = [(name, f"{name}@random") for name in table_columns(metrics) if f"{name}@random" in metrics]
    rows = [
        [name, f"{metrics[name]:.4f}", f"{metrics[other]:.4f}", f"{metrics[other] - metrics[name]:+.4f}"]
        for name, other in pairs
        if not is_count(name)
    ]
    if not rows:
        return []
    return ["Standard exposure and random exposure", grid(["metric", "standard", "random", "difference"], rows)]
