"""Prepared once, trusted only when sound."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import kuairand, log_table, prepare_table, tabular, write_kuairand

from funrec.data.datasets.synthetic import Synthetic
from funrec.data.preparation import prepare as prepare_module
from funrec.data.preparation.cache import entries, fingerprint, obtain, verify
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were built from here on."""
    built: list[Path] = []
    original = prepare_module._build

    def counted(dataset: Any, folder: Path, *known: Any) -> int:
        built.append(folder)
        return original(dataset, folder, *known)

    monkeypatch.setattr(prepare_module, "_build", counted)
    return built


def test_a_second_run_prepares_nothing(tmp_path: Path, builds: list[Path]) -> None:
    first = prepare_table(tmp_path)
    second = prepare(tabular(tmp_path), tmp_path / "cache")
    assert len(builds) == 1 and second.path == first.path
    assert (second.splits["train"].ids == first.splits["train"].ids).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {"user": {"embedding_dim": 32}, "item": {}}},
        {"tasks": {"click": {"weight": 3.0}}},
        {"allow_leaky": True, "leaky": {"price": "why not"}},
    ],
)
def test_what_concerns_the_model_alone_prepares_nothing_anew(
    tmp_path: Path, builds: list[Path], changes: dict[str, Any]
) -> None:
    prepare_table(tmp_path)
    data = prepare(tabular(tmp_path, **changes), tmp_path / "cache")
    assert len(builds) == 1
    if "features" in changes:
        assert data.layout.features[0].embedding_dim == 32


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {"user": {}, "item": {"min_count": 2}}},
        {"features": {"item": {}, "user": {}}},
        {"tasks": {"click": {"label": "buy"}}},
        {"tasks": {"click": {"where": "price > 5"}}},
        {"split": {"by": "time", "column": "day", "valid_from": 20220507}},
        {"group": "user"},
        {"where": "price > 2"},
        {"max_rows": 390},
        {"row_weight": "price * price"},
        {"downsample": {"task": "click", "rate": 0.5}},
        {"null_values": ["i3"]},
        {"dtypes": {"user": "text"}},
    ],
)
def test_whatever_changes_the_arrays_changes_the_fingerprint(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = fingerprint(tabular(tmp_path, log_table()))
    assert fingerprint(tabular(tmp_path, **changes)) != first == fingerprint(tabular(tmp_path))


def test_a_fingerprint_outlives_keys_that_come_later() -> None:
    """Whoever moves it makes all users prepare anew: leave a new key out where it is null, or raise DATA_FORMAT."""
    dataset = Synthetic(
        features={"user_id": {}, "seen": {"kind": "history", "by": ["user_id"], "count": True}},
        tasks={"is_click": {}, "is_like": {}},
        split={"by": "time", "column": "date"},
    )
    assert fingerprint(dataset) == "b4acf2cfbccc81ab8849d456fdcdebba"


def test_a_raw_file_that_changed_is_prepared_anew(tmp_path: Path, builds: list[Path]) -> None:
    prepare_table(tmp_path)
    os.utime(tmp_path / "log.csv", ns=(1, 1))
    prepare(tabular(tmp_path), tmp_path / "cache")
    assert len(builds) == 2


def test_logs_and_random_exposure_are_part_of_kuairands_fingerprint(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    prints = [
        fingerprint(kuairand(root, **changes))
        for changes in ({}, {"logs": ["4_22_to_5_08"]}, {"random_exposure": True}, {"features": {"play_cnt": {}}})
    ]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("file", ["train/ids.npy", "vocabulary_0.parquet", "prepared.json", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_entry_is_named_and_built_again(
    tmp_path: Path, builds: list[Path], caplog: pytest.LogCaptureFixture, file: str, how: str
) -> None:
    first = prepare_table(tmp_path)
    ids = np.array(first.splits["train"].ids)
    path = first.path / file
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 255
        path.write_bytes(bytes(content) if how == "changed" else bytes(content[: len(content) // 2]))
    assert verify(first.path)
    with caplog.at_level(logging.WARNING):
        second = prepare(tabular(tmp_path), tmp_path / "cache")
    assert len(builds) == 2 and str(first.path) in caplog.text and file in caplog.text
    assert (second.splits["train"].ids == ids).all() and verify(second.path) == []


def test_a_sound_entry_is_read_in_full_only_until_it_is_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = prepare_table(tmp_path).path
    read: list[Path] = []
    from funrec.data.preparation import cache

    original = cache._checksum
    monkeypatch.setattr(cache, "_checksum", lambda path: read.append(path) or original(path))
    prepare(tabular(tmp_path), tmp_path / "cache")
    assert not read
    os.utime(entry / "train" / "ids.npy", ns=(1, 1))
    prepare(tabular(tmp_path), tmp_path / "cache")
    assert entry / "train" / "ids.npy" in read
    read.clear()
    prepare(tabular(tmp_path), tmp_path / "cache")
    assert not read


def test_entries_lists_what_verify_can_check(tmp_path: Path) -> None:
    data = prepare_table(tmp_path)
    (tmp_path / "cache" / ".building-x-y").mkdir()
    assert entries(tmp_path / "cache") == [data.path]
    assert verify(data.path) == []
    (data.path / "manifest.json").write_text(json.dumps({"format": 999, "files": {}}))
    assert verify(data.path) == ["manifest.json is of format 999, not 1"]


def test_a_build_that_fails_leaves_nothing_and_a_killed_ones_rest_is_swept(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise InputError("no")

    (tmp_path / ".building-name-rest").mkdir()
    with pytest.raises(InputError, match="no"):
        obtain(tmp_path, "name", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["name.lock"]


BUILD_SLOWLY = """
import os, sys, time
from pathlib import Path
from funrec.data.preparation.cache import obtain

def build(folder):
    (folder.parent / f"built-{os.getpid()}").touch()
    time.sleep(0.5)
    (folder / "content").write_text("x")

obtain(Path(sys.argv[1]), "name", build)
"""


@pytest.mark.slow
def test_two_processes_at_the_same_moment_build_once(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("built-*"))) == 1 and (tmp_path / "name" / "content").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_entry_in_a_read_only_cache_can_be_used(tmp_path: Path) -> None:
    data = prepare_table(tmp_path)
    for path in (data.path, tmp_path / "cache"):
        path.chmod(0o555)
    assert len(prepare(tabular(tmp_path), tmp_path / "cache").splits["train"]) == len(data.splits["train"])
