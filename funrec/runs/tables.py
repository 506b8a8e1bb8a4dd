"""From records to rows, and from rows to a printed table."""

from __future__ import annotations

import csv
import io
import math
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from funrec.metrics import is_count, is_table_metric, split_column, table_columns
from funrec.utils.errors import InputError, did_you_mean

FORMATS = ("grid", "github", "latex", "csv")
#: For notebooks alone.
HTML = "html"

MACRO = "macro"
NOT_RECORDED = "This run's record has none: it was made before runs were diagnosed."

Row = Mapping[str, Any]


def label(backbone: str, funnel: str, interaction: str = "none", wide: str = "none") -> str:
    """Return what a table calls a model, derived from the parts that ran.

    The independent funnel is left out, and so is the embedding-only backbone, on which the ESMM paper builds its
    funnel: `mmoe`, `esmm`, `ple+esmm`. An interaction stands in front, a wide part behind:
    `dcn_v2-mmoe`, `mmoe + linear`.
    """
    name = backbone if interaction == "none" else f"{interaction}-{backbone}"
    if funnel != "independent":
        name = funnel if name == "embedding_only" else f"{name}+{funnel}"
    return name if wide == "none" else f"{name} + {wide}"


def rows_from_record(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a run's row, and a row `oracle` where its data knows the true probabilities.

    A row has `model`, what a sweep varied (the record's `swept`), and every metric; `render` picks those to show.
    """
    rows = [{"model": record["label"], **(record.get("swept") or {}), **record["metrics"]}]
    if record.get("oracle"):
        rows.append({"model": "oracle", **record["oracle"]})
    return rows


def rows_from_records(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per run; runs of one oracle share its row, which stands after the last of them."""
    rows: list[dict[str, Any]] = []
    for record in records:
        row, *oracle = rows_from_record(record)
        rows = [earlier for earlier in rows if earlier not in oracle] + [row, *oracle]
    return rows


def render(
    rows: Sequence[Row], format: str = "grid", columns: Sequence[str] | None = None, width: int | None = None
) -> str:
    """Return the rows as text, without a line break at its end.

    Metrics have four decimals, whole numbers no decimals, a missing value is blank. CSV keeps every digit.

    Args:
        rows: Values by column name.
        format: `grid`, `github`, `latex` or `csv`; `html` for notebooks.
        columns: The columns to show, in this order. By default `model`, what was swept, then the AUC, GAUC, RMSE
            and user counts, sorted by name.
        width: Characters in a line of the terminal. A grid that is wider becomes one row per task.
    """
    if format != HTML:
        check_format(format)
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns or ():
        if name not in known:
            raise InputError(f"The table has no column {name}.{did_you_mean(name, known)}")
    metrics = _split_metrics(known)
    leading = sorted((name for name in known if name not in metrics), key=lambda name: name != "model")
    shown = [*leading, *table_columns(metrics)] if columns is None else list(columns)
    if format == "csv":
        return _csv(rows, shown)
    text = _text(rows, shown, metrics, format)
    if format == "grid" and width is not None and any(len(line) > width for line in text.splitlines()):
        return _text_by_task(rows, shown, metrics)
    return text


def check_format(format: str) -> None:
    """Check that a table can have this format."""
    if format not in FORMATS:
        raise InputError(
            f"The format should be one of {', '.join(FORMATS)}. Received: {format}.{did_you_mean(format, FORMATS)}"
        )


def render_blocks(
    blocks: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]],
    headers: Sequence[str],
    align: Sequence[str],
    format: str = "grid",
) -> str:
    """Return rows in blocks as text: a grid has lines between blocks alone, other formats name the block in every row.

    Args:
        blocks: For each block its title, of a line or more, and its rows, without the title's column.
        headers: Of the columns, the title's first.
        align: `left`, `right` or `center`, for each column.
        format: `grid`, `github` or `latex`.
    """
    rows: list[list[str]] = []
    for title, lines in blocks:
        cleaned = [[_clean(cell, format) for cell in line] for line in lines]
        if format == "grid":
            # tabulate would drop an empty line at a cell's start, and shift the others up.
            columns = ("\n".join(cell or "-" for cell in column) for column in zip(*cleaned, strict=True))
            rows.append(["\n".join(title), *columns])
        else:
            name = title[0] + (f" ({', '.join(title[1:])})" if len(title) > 1 else "")
            rows += [[_clean(name, format), *line] for line in cleaned]
    return tabulate(rows, headers=headers, tablefmt=format, disable_numparse=True, colalign=align)


def _split_metrics(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return `{column: (metric, target)}` of the columns that are metrics; a target is `<task or macro>[@split]`."""
    known = {name: split_column(name) for name in names}
    targets = dict.fromkeys(found[2] for name, found in known.items() if found and is_table_metric(name))
    split = {}
    for name in names:
        # The longest first: `auc_is_like` is not the metric `auc_is` of a task `like`.
        for target in sorted(targets, key=len, reverse=True):
            if name.endswith(f"_{target}"):
                split[name] = (name.removesuffix(f"_{target}"), target)
                break
    return split


def _text(rows: Sequence[Row], columns: Sequence[str], metrics: Collection[str], format: str) -> str:
    cells = [[_cell(row.get(name), name in metrics, format) for name in columns] for row in rows]
    return tabulate(
        cells,
        headers=[_clean(name, format) for name in columns],
        tablefmt=format,
        disable_numparse=True,
        colalign=["right" if name in metrics else "left" for name in columns] if cells and columns else None,
    )


def _text_by_task(rows: Sequence[Row], columns: Sequence[str], metrics: Mapping[str, tuple[str, str]]) -> str:
    pairs = [metrics[name] for name in columns if name in metrics]
    leading = [name for name in columns if name not in metrics] if len(rows) > 1 else []
    # Those of the default table come first, by name.
    kinds = sorted(dict.fromkeys(metric for metric, _ in pairs if is_table_metric(f"{metric}_{MACRO}")))
    kinds += [metric for metric in dict.fromkeys(metric for metric, _ in pairs) if metric not in kinds]
    targets = sorted({target for _, target in pairs}, key=_place_of_target)
    long_rows = []
    for row in rows:
        for target in targets:
            values = {metric: row[name] for name, (metric, of) in metrics.items() if of == target and name in row}
            if values:
                long_rows.append({**{name: row.get(name) for name in leading}, "task": target, **values})
    return _text(long_rows, [*leading, "task", *kinds], kinds, "grid")


def _place_of_target(target: str) -> tuple[str, bool, str]:
    task, _, split = target.partition("@")
    return split, task == MACRO, task


def _cell(value: Any, is_metric: bool, format: str) -> str:
    if value is None or (isinstance(value, numbers.Real) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if is_metric and isinstance(value, numbers.Real):
        text = f"{float(value):.4f}"
        return text.removeprefix("-") if float(text) == 0 else text
    return _clean(str(value), format)


def _clean(text: str, format: str) -> str:
    """Return text that stays inside its cell: one line, nothing a terminal would obey, no bar in a GitHub table."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable.replace("|", "\\|") if format == "github" else printable


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(name) for name in columns]
        writer.writerow(["" if isinstance(v, float) and not math.isfinite(v) else v for v in values])
    return text.getvalue().removesuffix("\n")


def selection_note(record: Mapping[str, Any]) -> str:
    """Return a line on the rows that chose what they report, and on those that did not; empty if nothing was chosen."""
    split = record.get("selected_on")
    if not split:
        return ""
    others = [name for name in record["row_fingerprint"] if name not in (split, "calibrate")]
    if others:
        untouched = " and ".join(others)
        return f"Selected on {split}, whose metrics are therefore optimistic; nothing was chosen on {untouched}."
    return (
        f"Selected on {split}, the rows reported, so that the metrics are optimistic: dataset.split.test_from or "
        "dataset.split.test holds other rows back."
    )


def render_slices(record: Mapping[str, Any], of: str | None = None) -> str:
    """Return the default table's metrics by slice, without the macros; blank where a slice has none.

    Args:
        record: A run's record.
        of: The column to leave it at; all slices where None.
    """
    slices = record.get("slices")
    if slices is None:
        return NOT_RECORDED
    slices = [part for part in slices if of in (None, part["slice"])]
    leading = ["slice", "value", "rows"] if slices else []
    if len({part["split"] for part in slices}) > 1:
        leading = ["split", *leading]
    rows = [{name: part[name] for name in leading} | part["metrics"] for part in slices]
    metrics = [name for name in table_columns({name for row in rows for name in row}) if not is_count(name)]
    return render(rows, columns=[*leading, *metrics])
