"""Raw rows to memory-mapped arrays, once per configuration."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.arrays import PreparedData, SequenceArrays, SplitArrays, open_array
from funrec.data.datasets.base import Dataset
from funrec.data.domain import check_domains, check_rows_domains
from funrec.data.features.encoding import Encoder, encode_features, fit_encoders, id_names, load_encoders, save_encoders
from funrec.data.features.vocabulary import Vocabulary, count_vocabulary
from funrec.data.hashing import common_key_dtype, key_dtype, stable_hash
from funrec.data.preparation.cache import fingerprint, obtain
from funrec.data.preparation.checks import check_agreement, measure_agreement
from funrec.data.preparation.histories import HistorySnapshot, snapshot_of
from funrec.data.preparation.labels import read_labels
from funrec.data.preparation.splitting import split_column
from funrec.data.preparation.staging import ROW, SPLIT, WEIGHT, StagedFrame, check_columns, stage
from funrec.data.preparation.statistics import SplitStatistics
from funrec.data.preparation.writing import SplitWriter
from funrec.utils.errors import InputError

log = logging.getLogger(__name__)

PREPARED = "prepared.json"


def prepare(dataset: Dataset, cache: Path) -> PreparedData:
    """Return a dataset's arrays: from the cache where its fingerprint is known, else prepared now.

    Rows are streamed: the memory taken grows with the vocabularies, not with the rows.

    Args:
        dataset: What to prepare.
        cache: The cache folder; made if it is missing.

    Raises:
        InputError: If the raw files, their columns or the configuration are not what they should be, or the cache
            cannot be written.
    """
    name = fingerprint(dataset)
    dataset.check_leaks()

    def build(folder: Path) -> None:
        started = time.perf_counter()
        check_columns(dataset)
        try:
            rows = _build(dataset, folder)
        except InputError as error:  # what a broken file breaks may be far from the file
            problems = [found for source in dataset.sources() if (found := source.diagnose()) is not None]
            if not problems:
                raise
            raise InputError(problems[0]) from error
        if fingerprint(dataset) != name:
            raise InputError(f"{dataset.source_name()} changed while it was read. Run again once it is complete.")
        seconds = time.perf_counter() - started
        log.info("prepared %s rows in %.1f s (%s rows/s)", f"{rows:,}", seconds, f"{rows / seconds:,.0f}")

    data = open_prepared(dataset, obtain(Path(cache), name, build))
    check_agreement(dataset, data.statistics.get("agreement", {}))
    _warn_of_cold_groups(dataset, data)
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


def _group_features(dataset: Dataset) -> list[str]:
    """Return the features that no evaluation row can have in common with training."""
    if dataset.split.by != "group":
        return []
    return [feature.name for feature in dataset.features if feature.column == split_column(dataset)]


def open_prepared(dataset: Dataset, entry: Path) -> PreparedData:
    """Open a cache entry as what `dataset` asks for; `prepare` without the preparing.

    Raises:
        InputError: If the entry is none.
    """
    try:
        state = json.loads((entry / PREPARED).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{entry} should be a cache entry. It has no readable {PREPARED}.") from error
    encoders, vocabularies = load_encoders(dataset.features, state, entry)
    sequences = tuple(name for name, encoder in encoders.items() if encoder.is_sequence)
    return PreparedData(
        path=entry,
        fingerprint=entry.name,
        features=dataset.features,
        tasks=dataset.tasks,
        splits={name: _open_split(entry / name, name, sequences) for name in state["statistics"]["splits"]},
        encoders=encoders,
        vocabularies=vocabularies,
        cardinalities=state["cardinalities"],
        id_features=id_names(encoders),
        numeric_features=tuple(name for name, encoder in encoders.items() if encoder.is_number),
        sequence_features=sequences,
        statistics=state["statistics"],
        row_fingerprints=state["row_fingerprints"],
        domain=dataset.domain,
        logit_offsets=state["logit_offsets"],
        downsampled_task=state["downsampled_task"],
        history=HistorySnapshot.load(state["history"], entry) if state.get("history") else None,
    )


def _open_split(folder: Path, name: str, sequences: Sequence[str]) -> SplitArrays:
    def array(file: str) -> Any:
        path = folder / f"{file}.npy"
        return open_array(path) if path.exists() else None

    return SplitArrays(
        name=name,
        sequences={
            sequence: SequenceArrays(array(f"sequence_{place}_offsets"), array(f"sequence_{place}_values"))
            for place, sequence in enumerate(sequences)
        },
        **{
            key: array(key)
            for key in ("ids", "numeric", "labels", "masks", "weights", "groups", "items", "rows", "oracle")
        },
    )


def _build(dataset: Dataset, folder: Path) -> int:
    """Fill an empty folder with a dataset's arrays and return the number of rows."""
    work = folder / "work"
    work.mkdir()
    frames = stage(dataset, work)
    train = _training_frame(frames)
    agreement = measure_agreement(dataset, train.rows_of("train"))
    check_agreement(dataset, agreement)
    encoders, vocabularies = fit_encoders(dataset.features, train.rows_of("train"), train.schema, train.lists)
    check_domains(dataset.domain, vocabularies)
    codes = {role: _number_values(role, frames) for role in ("group", "item") if getattr(dataset, role) is not None}
    statistics, row_fingerprints = _write_splits(dataset, folder, frames, encoders, vocabularies, codes)
    for role, vocabulary in codes.items():
        vocabulary.save(folder / f"{role}s.parquet")
    history = snapshot_of(dataset, work).save(folder) if dataset.histories else None
    shutil.rmtree(work)
    sampling = dataset.downsample
    state = {
        **save_encoders(encoders, vocabularies, folder),
        "history": history,
        "cardinalities": _cardinalities(encoders, vocabularies),
        "statistics": {
            "rows": sum(split["rows"] for split in statistics.values()),
            "users": len(codes["group"]) - 1 if "group" in codes else None,
            "items": len(codes["item"]) - 1 if "item" in codes else None,
            "vocabulary_size": {name: len(vocabulary) for name, vocabulary in vocabularies.items()},
            "splits": statistics,
            "agreement": agreement,
            "sources": [part for source in dataset.sources() for part in source.parts],
        },
        "row_fingerprints": row_fingerprints,
        "logit_offsets": {} if sampling is None else {sampling.task: math.log(sampling.rate)},
        "downsampled_task": None if sampling is None else sampling.task,
    }
    (folder / PREPARED).write_text(json.dumps(state, indent=1))
    return sum(split["rows"] for split in statistics.values())


def _training_frame(frames: Sequence[StagedFrame]) -> StagedFrame:
    for frame in frames:
        if frame.counts.get("train"):
            return frame
    raise InputError("The training split should have rows. It has none: widen dataset.split or dataset.where.")


def _number_values(role: str, frames: Sequence[StagedFrame]) -> Vocabulary:
    """Number every group or item in any split, in the order of the values."""
    key = common_key_dtype([key_dtype(f"dataset.{role}", frame.schema[role]) for frame in frames])
    return count_vocabulary([frame.rows.select(pl.col(role).alias("value")) for frame in frames], key, by="value")


def _cardinalities(encoders: Mapping[str, Encoder], vocabularies: Mapping[str, Vocabulary]) -> dict[str, int]:
    cardinalities = {}
    for name, encoder in encoders.items():
        if encoder.boundaries is not None:
            cardinalities[name] = len(encoder.boundaries) + 2
        elif encoder.owner == name:
            cardinalities[name] = len(vocabularies[name])
    return cardinalities


def _write_splits(
    dataset: Dataset,
    folder: Path,
    frames: Sequence[StagedFrame],
    encoders: Mapping[str, Encoder],
    vocabularies: Mapping[str, Vocabulary],
    codes: Mapping[str, Vocabulary],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Encode every frame batch by batch and return each split's statistics and row fingerprint."""
    statistics = {
        name: SplitStatistics(name, dataset.tasks, encoders, **{f"{r}s": len(v) - 1 for r, v in codes.items()})
        for frame in frames
        for name, rows in frame.counts.items()
        if rows or _is_wanted(dataset, name)
    }
    for name in ("train", "valid"):
        if name not in statistics:
            raise InputError(f"The dataset should have a {name} split. It has: {', '.join(statistics)}.")
    row_fingerprints = {}
    group_hashes = stable_hash(codes["group"].keys, codes["group"].key) if "group" in codes else None
    for frame in frames:
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(_open_writer(dataset, folder, frame, name, encoders, codes))
                for name, rows in frame.counts.items()
                if rows
            }
            for name, part in _parts(dataset, frame):
                features = encode_features(encoders, vocabularies, part)
                if dataset.domain is not None:
                    domains = features.ids[:, id_names(encoders).index(dataset.domain)]
                    values = part[f"feature/{dataset.domain}"]
                    check_rows_domains(dataset.domain, domains, values, vocabularies, f"the {name} split")
                labels = read_labels(dataset.tasks, dataset.downsample, name == "train", part)
                groups = codes["group"].encode(part["group"]) - 1 if "group" in codes else None
                items = codes["item"].encode(part["item"]) - 1 if "item" in codes else None
                hashes = None if group_hashes is None else group_hashes[groups]
                oracle = _oracle(dataset, part)
                writers[name].append(features, labels, part[ROW].to_numpy(), groups, hashes, items, oracle)
                times = part["time"] if "time" in part.columns else None
                statistics[name].add(features, labels, groups, items, times)
        row_fingerprints.update({name: writer.row_fingerprint for name, writer in writers.items()})
    for name, split in statistics.items():
        if name in ("train", "valid") or not split.rows:
            split.check(_group_features(dataset))
    return {name: split.to_json() for name, split in statistics.items()}, row_fingerprints


def _parts(dataset: Dataset, frame: StagedFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield a frame's rows batch by batch and split by split, and see that they kept their order."""
    last_row = -1
    for batch in frame.batches():
        rows = batch[ROW].to_numpy()
        if rows[0] <= last_row or (np.diff(rows) <= 0).any():
            raise RuntimeError(f"{dataset.source_name()}: rows lost their order after row {last_row}")
        last_row = rows[-1]
        for code, name in frame.codes.items():
            part = batch.filter(pl.col(SPLIT) == code) if len(frame.codes) > 1 else batch
            if part.height:
                yield name, part


def _is_wanted(dataset: Dataset, name: str) -> bool:
    """Whether an empty split is an error: it is, except for a test split that was not asked for."""
    return name != "test" or dataset.split.test_from is not None or dataset.split.test is not None


def _open_writer(
    dataset: Dataset,
    folder: Path,
    frame: StagedFrame,
    name: str,
    encoders: Mapping[str, Encoder],
    codes: Mapping[str, Vocabulary],
) -> SplitWriter:
    has = {f"{role}s" for role in codes}
    if any(task.where is not None for task in dataset.tasks):
        has.add("masks")
    if name == "train" and (WEIGHT in frame.schema or dataset.downsample is not None):
        has.add("weights")
    if dataset.oracle:
        has.add("oracle")
    values = _sequence_values(frame, name, encoders)
    return SplitWriter(folder / name, frame.counts[name], len(dataset.tasks), encoders, values, frozenset(has))


def _sequence_values(frame: StagedFrame, split: str, encoders: Mapping[str, Encoder]) -> dict[str, int]:
    """Return how many values each sequence feature has in a split."""
    names = [name for name, encoder in encoders.items() if encoder.is_sequence]
    if not names:
        return {}
    lengths = [pl.col(f"feature/{name}").list.len().cast(pl.Int64).sum().alias(name) for name in names]
    return frame.rows_of(split).select(lengths).collect(engine="streaming").row(0, named=True)


def _oracle(dataset: Dataset, batch: pl.DataFrame) -> NDArray[np.float32] | None:
    if not dataset.oracle:
        return None
    unknown = np.full(batch.height, np.nan, dtype=np.float32)
    names = [f"oracle/{task.name}" for task in dataset.tasks]
    return np.stack([batch[name].to_numpy() if name in batch.columns else unknown for name in names], axis=1)
