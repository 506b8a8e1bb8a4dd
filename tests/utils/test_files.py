"""Archives of arrays: whole or not at all, and never read as anything but what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funrec.utils.errors import InputError
from funrec.utils.files import CHUNK, Cancelled, read_arrays, read_notes, write_arrays

ARRAYS = {
    "weights/0": np.arange(12, dtype=np.float32).reshape(3, 4),
    "weights/1": np.zeros((0, 3), np.float32),
    "step": np.asarray(7),
    "columns first": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "flags": np.array([True, False]),
}
NOTES = {"best": -np.inf, "scores": [0.1 + 0.2, np.float32(0.1)], "epoch": np.int64(3)}


def test_arrays_and_notes_come_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS, NOTES)
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert read_notes(path) == {"best": -np.inf, "scores": [0.1 + 0.2, float(np.float32(0.1))], "epoch": 3}
    with np.load(path, allow_pickle=False) as archive:  # NumPy reads it too
        np.testing.assert_array_equal(archive["weights/0"], ARRAYS["weights/0"])


def test_an_array_of_several_chunks_comes_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, CHUNK + 5).astype(np.uint8)
    write_arrays(tmp_path / "a.npz", {"a": array})
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["a"], array)


def test_a_file_that_is_not_wanted_any_more_is_not_there(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"a": np.zeros(3)})
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(Cancelled):
        write_arrays(tmp_path / "a.npz", {"a": np.ones(3)}, is_cancelled=lambda: True)
    assert (tmp_path / "a.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_whatever_byte_is_damaged_the_file_is_refused_or_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"weights/0": ARRAYS["weights/0"], "step": ARRAYS["step"]}
    write_arrays(path, arrays, {"epoch": 3})
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        try:
            notes, found = read_notes(path), read_arrays(path)
        except InputError as error:
            assert "is damaged" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert notes == {"epoch": 3}
            assert {name: array.tolist() for name, array in found.items()} == {
                name: array.tolist() for name, array in arrays.items()
            }
    assert refused > 0.6 * len(whole)


@pytest.mark.parametrize("size", [0, 1, 50, -1, -30])
def test_a_file_cut_short_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS, NOTES)
    path.write_bytes(path.read_bytes()[:size])
    for read in (read_arrays, read_notes):
        with pytest.raises(InputError, match="is damaged"):
            read(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="is damaged"):
        read_arrays(tmp_path / "a.npz")


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    for read in (read_arrays, read_notes):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "a.npz")
