"""The record of a run, its history and its predictions.

A run is a folder:

    .hydra/               the configuration as composed, and its overrides
    funrec.log            everything the run said
    history.parquet       one row per epoch: losses, task weights, metrics, seconds
    predictions.parquet   one row per evaluation row: ids, labels, logits
    checkpoint.npz        the state of the training: weights, optimizer, weighting, history, and its origin;
                          removed when the run finishes, unless trainer.keep=all
    model/                how rows are read, and the weights of the best epoch
    record.json           what ran, on what, and how well; written last
    fusion.json           the formula that `funrec fuse` found, and how it does
    failure.json          why it failed or was pruned
    .lock                 held by the kernel for as long as the run's process lives

`record.json` alone means "finished". `funrec.runs.folder.status` derives every state from facts: a kernel lock ends
with its process, and files appear whole or not at all.

`record.json` has the fields

    label, backbone, funnel        what ran
    overrides, swept               what was asked for; what a sweep varied, by override key
    config                         the resolved configuration
    seed, started, finished        ISO 8601 timestamps of the run, or of its last attempt
    git_commit, source_hash        the code that ran; see `funrec.runs.provenance`
    versions                       of Python and the libraries
    data_fingerprint               raw files and data configuration
    seen                           the splits that it was trained or selected on, of which log, and until what time
    started_from, lineage          the run whose weights it began with, and what became of them; every ancestor's `seen`
    row_fingerprint                by evaluation split: which rows were scored
    seconds, rows_per_second       seconds by phase; training speed
    resumed_at                     steps at which the training was resumed from a checkpoint
    tasks, selected_on             task names; the split that chose the epoch, if any
    metrics, absent                values by name; why a metric is absent, by name
    uncalibrated                   tasks whose scores rank and are no log odds
    gates                          per gate: its mean expert weights, entropy, how often an expert is nearly unused
    inside                         what the model's parts do; see `funrec.runs.diagnosis`
    oracle                         the same metrics for the true probabilities, or null
    calibration                    what it changed; see `funrec.experiment.calibration`
    diagnosis, slices, reliability see `funrec.experiment.diagnosis`

of which those in `Required` must be there. The JSON is strict: a metric that is not finite moves to `absent`,
and any other number that is not finite is written as null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from funrec.config.former import full_label, translate
from funrec.metrics import build_metrics
from funrec.runs.folder import RECORD, status
from funrec.utils.errors import InputError
from funrec.utils.files import read_json, read_parquet, to_plain, write_json, write_parquet

if TYPE_CHECKING:
    import numpy as np

HISTORY = "history.parquet"
PREDICTIONS = "predictions.parquet"


@with_config(ConfigDict(strict=True, allow_inf_nan=False))
class Required(TypedDict):
    """The fields that every record has, whatever else it has."""

    label: str
    config: dict[str, Any]
    tasks: list[str]
    metrics: dict[str, float]
    rows_per_second: float | None


_RECORD = TypeAdapter(Required)


def write(run: str | Path, record: Mapping[str, Any]) -> None:
    """Write `record.json` into a run folder, whole or not at all. Call it last: it says "finished".

    Raises:
        InputError: If the folder cannot be written or the disk is full.
        ValueError: If a required field is missing or has the wrong type.
        TypeError: If a value has no JSON form.
    """
    plain = to_plain(record)
    if isinstance(metrics := plain.get("metrics"), dict):
        undefined = {name: "not a finite number" for name, value in metrics.items() if value is None}
        plain["metrics"] = {name: value for name, value in metrics.items() if name not in undefined}
        plain["absent"] = undefined | (plain.get("absent") or {})
    if (problem := _problem(plain)) is not None:
        raise ValueError(f"A record {problem}.")
    write_json(Path(run) / RECORD, plain)


def read(run: str | Path) -> dict[str, Any]:
    """Read `record.json` from a run folder."""
    path = Path(run) / RECORD
    try:
        record = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        found = status(run)
        reason = f" ({found.reason})" if found.reason else ""
        raise InputError(f"{run} should be a finished run. Received: {found.state}{reason}, no {RECORD}.") from None
    if (problem := _problem(record)) is not None:
        raise InputError(f"{path} is not a record: it {problem}. Run it again or leave it out.")
    config = translate(record["config"])
    with suppress(InputError):
        # This loads their classes, so that tables know their columns; those of a package not allowed are left out.
        build_metrics(config.get("metrics") or {})
    return {**record, "label": full_label(record["label"], record["config"]), "config": config}


def write_history(run: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row per epoch to `history.parquet`. A key that some rows lack is null there."""
    import polars as pl

    names = dict.fromkeys(name for row in rows for name in row)
    # A NumPy scalar in first place would set the precision of the whole column.
    columns = {name: [getattr(value := row.get(name), "tolist", lambda: value)() for row in rows] for name in names}
    write_parquet(Path(run) / HISTORY, pl.DataFrame(columns, strict=False))


def read_history(run: str | Path) -> list[dict[str, Any]]:
    """Read what `write_history` wrote."""
    return read_parquet(Path(run) / HISTORY).to_dicts()


def write_predictions(run: str | Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write the scored evaluation rows to `predictions.parquet`.

    Args:
        run: The run folder.
        columns: One array `(rows,)` per column; a masked label is NaN.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
        ValueError: If the arrays differ in length.
    """
    import polars as pl

    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns should have equal lengths. Received: {lengths}.")
    write_parquet(Path(run) / PREDICTIONS, pl.DataFrame(dict(columns)))


def read_predictions(run: str | Path, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read what `write_predictions` wrote, or some of its columns."""
    frame = read_parquet(Path(run) / PREDICTIONS, columns)
    return {name: frame[name].to_numpy() for name in frame.columns}


def _problem(record: Any) -> str | None:
    """Return what keeps `record` from being one; None if nothing does."""
    try:
        _RECORD.validate_python(record)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        return f"has no good {'.'.join(map(str, found['loc'])) or 'form'}: {found['msg']}"
    return None
