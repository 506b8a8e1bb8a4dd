"""Raw rows to memory-mapped arrays, once per configuration."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.arrays import ModelInputs, PreparedData, open_split
from funrec.data.datasets.base import Dataset
from funrec.data.domain import check_domains
from funrec.data.features.encoding import fit_encoders
from funrec.data.features.vocabulary import Vocabulary, count_vocabulary
from funrec.data.hashing import common_key_dtype, key_dtype, stable_hash
from funrec.data.preparation.cache import fingerprint, obtain
from funrec.data.preparation.checks import check_agreement, measure_agreement
from funrec.data.preparation.delays import Delays, find_delays
from funrec.data.preparation.extending import Known
from funrec.data.preparation.histories import snapshot_of
from funrec.data.preparation.labels import add_labels
from funrec.data.preparation.splitting import split_column
from funrec.data.preparation.staging import ROW, StagedFrame, check_columns, stage
from funrec.data.preparation.statistics import check_split, measure_split
from funrec.data.preparation.writing import SplitWriter
from funrec.utils.errors import InputError

log = logging.getLogger(__name__)

PREPARED = "prepared.json"
#: Between the fingerprint and the hash of a `Known`, in an entry's name.
_KNOWN_BY = "+"
#: Share of labels not seen that is said.
WORTH_SAYING = 0.005


def prepare(dataset: Dataset, cache: Path, known: Known | None = None) -> PreparedData:
    """Return a dataset's arrays: from the cache where its fingerprint is known, else prepared now.

    Rows are streamed: the memory taken grows with the vocabularies, not with the rows. With `known`, rows are read in
    the terms of an earlier run, see `Known`.

    Raises:
        InputError: If the raw files, their columns or the configuration are not what they should be, or the cache
            cannot be written.
    """
    name = fingerprint(dataset)
    dataset.check_leaks()

    def build(folder: Path) -> None:
        started = time.perf_counter()
        if (columns := dataset.available_columns()) is not None:
            check_columns(dataset, dataset.needed_columns(), columns)
        try:
            rows = _build(dataset, folder, known)
        except InputError as error:  # what a broken file breaks may be far from the file
            problems = [found for source in dataset.sources() if (found := source.diagnose()) is not None]
            if not problems:
                raise
            raise InputError(problems[0]) from error
        if fingerprint(dataset) != name:
            raise InputError(f"{dataset.source_name()} changed while it was read. Run again once it is complete.")
        seconds = time.perf_counter() - started
        log.info("prepared %s rows in %.1f s (%s rows/s)", f"{rows:,}", seconds, f"{rows / seconds:,.0f}")

    entry = name if known is None else f"{name}{_KNOWN_BY}{known.digest}"
    data = open_prepared(dataset, obtain(Path(cache), entry, build))
    check_agreement(dataset, data.statistics.get("agreement", {}))
    _warn_of_cold_groups(dataset, data)
    _warn_of_unseen_labels(data)
    return data


def _warn_of_cold_groups(dataset: Dataset, data: PreparedData) -> None:
    for feature in _group_features(dataset):
        for name, split in data.statistics["splits"].items():
            if name != "train" and split["oov_rate"].get(feature) == 1:
                count = f"all {split['users']:,}" if dataset.group == split_column(dataset) else "all"
                log.warning(
                    "dataset.features.%s: %s groups of the %s split are new to the model, as split.by=group has it: "
                    "their embedding is that of an unknown id.",
                    *(feature, count, name),
                )


def _warn_of_unseen_labels(data: PreparedData) -> None:
    for name, split in data.statistics["splits"].items():
        for task, share in split.get("unseen", {}).items():
            if share >= WORTH_SAYING:
                log.warning(
                    "dataset.tasks.%s: an estimated %.0f%% of the positive labels of the %s split come after the log's "
                    "end, and count as 0 in its metrics. Leave its last rows out with dataset.where.",
                    *(task, 100 * share, name),
                )


def _group_features(dataset: Dataset) -> list[str]:
    """Return the features that no evaluation row can have in common with training."""
    if dataset.split.by != "group":
        return []
    return [feature.name for feature in dataset.features if feature.column == split_column(dataset)]


def open_prepared(dataset: Dataset, entry: Path) -> PreparedData:
    """Open a cache entry as what `dataset` asks for; `prepare` without the preparing."""
    try:
        state = json.loads((entry / PREPARED).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{entry} should be a cache entry. It has no readable {PREPARED}.") from error
    inputs = ModelInputs.load(state, entry, dataset.features, dataset.tasks, dataset.domain)
    sequences = [feature.name for feature in inputs.layout.sequence_features]
    return PreparedData(
        **{field.name: getattr(inputs, field.name) for field in fields(ModelInputs)},
        path=entry,
        fingerprint=entry.name.partition(_KNOWN_BY)[0],
        splits={name: open_split(entry / name, sequences) for name in state["statistics"]["splits"]},
        **{key: state[key] for key in ("statistics", "row_fingerprints", "logit_offsets")},
    )


def _build(dataset: Dataset, folder: Path, known: Known | None) -> int:
    """Fill an empty folder with a dataset's arrays and return the number of rows."""
    work = folder / "work"
    work.mkdir()
    frames = stage(dataset, work)
    _check_splits(dataset, frames)
    train = next(frame for frame in frames if frame.counts.get("train"))
    agreement = measure_agreement(dataset, train.rows_of("train"))
    check_agreement(dataset, agreement)
    encoders, vocabularies = fit_encoders(dataset.features, train.rows_of("train"), train.schema, train.lists)
    if known is not None:
        encoders, vocabularies = known.extend(encoders, vocabularies)
    if dataset.domain is not None:
        check_domains(dataset.domain, vocabularies[dataset.domain])
    inputs = ModelInputs(tasks=dataset.tasks, encoders=encoders, vocabularies=vocabularies, domain=dataset.domain)
    codes = {role: _number_values(role, frames) for role in ("group", "item") if getattr(dataset, role) is not None}
    delays = find_delays(dataset, frames)
    statistics, row_fingerprints = _write_splits(dataset, folder, frames, inputs, codes, delays)
    for role, vocabulary in codes.items():
        vocabulary.save(folder / f"{role}s.parquet")
    if dataset.histories:
        inputs = replace(inputs, history=snapshot_of(dataset, work))
    rows = sum(split["rows"] for split in statistics.values())
    state = {
        **inputs.save(folder),
        "statistics": {
            "rows": rows,
            "users": len(codes["group"]) - 1 if "group" in codes else None,
            "items": len(codes["item"]) - 1 if "item" in codes else None,
            "splits": statistics,
            "agreement": agreement,
            "sources": [part for source in dataset.sources() for part in source.parts],
        },
        "row_fingerprints": row_fingerprints,
        "logit_offsets": {} if (down := dataset.downsample) is None else {down.task: math.log(down.rate)},
    }
    shutil.rmtree(work)
    (folder / PREPARED).write_text(json.dumps(state, indent=1))
    return rows


def _check_splits(dataset: Dataset, frames: Sequence[StagedFrame]) -> None:
    """Refuse splits without rows; a test or calibration split that was not asked for may have none."""
    rule = dataset.split
    is_asked = {"test": (rule.test_from, rule.test), "calibrate": (rule.calibrate_from, rule.calibrate)}
    counts = {name: rows for frame in frames for name, rows in frame.counts.items()}
    if not counts.get("train"):
        why = _why_empty(dataset, "valid", frames)
        raise InputError(
            f"The training split should have rows. It has none{why}: widen dataset.split or dataset.where."
        )
    if "valid" not in counts:
        raise InputError(f"The dataset should have a valid split. It has: {', '.join(counts)}.")
    for name, rows in counts.items():
        if not rows and any(asked is not None for asked in is_asked.get(name, (True,))):
            why = _why_empty(dataset, name, frames)
            raise InputError(f"The {name} split should have rows. It has none{why}: widen dataset.split.")


def _why_empty(dataset: Dataset, name: str, frames: Sequence[StagedFrame]) -> str:
    """Return where a split should have begun, beside the times that there are."""
    rule = dataset.split
    start, share = (getattr(rule, key, None) for key in (f"{name}_from", name))
    if rule.by != "time":
        return f", since {name}_from does not split by {rule.by}" if share is None and start is not None else ""
    if start is None:
        return f", since {name}={share} does not split by time, as {name}_from does"
    if split_column(dataset) != dataset.time:
        return f", with {name}_from={start}"
    spans = pl.concat([frame.rows.select(low=pl.min("time"), high=pl.max("time")) for frame in frames])
    low, high = spans.select(pl.min("low"), pl.max("high")).collect().row(0)
    if low is None:
        return ", since no row is left"
    return f", with {name}_from={start} where {dataset.time} runs from {low} to {high}"


def _number_values(role: str, frames: Sequence[StagedFrame]) -> Vocabulary:
    """Number every group or item in any split, in the order of the values."""
    key = common_key_dtype([key_dtype(f"dataset.{role}", frame.schema[role]) for frame in frames])
    return count_vocabulary([frame.rows.select(pl.col(role).alias("value")) for frame in frames], key, by="value")


def _write_splits(
    dataset: Dataset,
    folder: Path,
    frames: Sequence[StagedFrame],
    inputs: ModelInputs,
    codes: Mapping[str, Vocabulary],
    delays: Delays | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Encode every frame part by part, and return each split's statistics and row fingerprint."""
    statistics, fingerprints = {}, {}
    sequences = [feature.name for feature in inputs.layout.sequence_features]
    group_hashes = stable_hash(codes["group"].keys, codes["group"].key) if "group" in codes else None
    for frame in frames:
        with ExitStack() as stack:
            writers = {name: SplitWriter(folder / name, stack) for name, rows in frame.counts.items() if rows}
            for name, staged in frame.parts():
                batch = add_labels(inputs.encode_read(staged, name), staged, dataset.tasks, dataset.downsample, delays)
                groups, items = (
                    codes[role].encode(staged[role]) - 1 if role in codes else None for role in ("group", "item")
                )
                oracle = _oracle(dataset, staged)
                batch = replace(batch, rows=staged[ROW].to_numpy(), groups=groups, items=items, oracle=oracle)
                writers[name].append(batch, None if group_hashes is None else group_hashes[groups])
        for name, writer in writers.items():
            fingerprints[name] = writer.row_fingerprint
            statistics[name] = measure_split(frame.rows_of(name), open_split(folder / name, sequences), inputs)
            if delays is not None and name != "train":
                statistics[name]["unseen"] = delays.unseen(frame.rows_of(name))
            if name in ("train", "valid"):
                check_split(name, statistics[name], dataset.tasks, _group_features(dataset))
    return statistics, fingerprints


def _oracle(dataset: Dataset, batch: pl.DataFrame) -> NDArray[np.float32] | None:
    if not dataset.oracle:
        return None
    unknown = np.full(batch.height, np.nan, dtype=np.float32)
    names = [f"oracle/{task.name}" for task in dataset.tasks]
    return np.stack([batch[name].to_numpy() if name in batch.columns else unknown for name in names], axis=1)
