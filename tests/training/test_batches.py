"""Every row once per pass, in whole batches, as a function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from examples import Rows, layout
from numpy.typing import NDArray

from funrec.data.arrays import SequenceArrays
from funrec.schema import CategoricalFeature, InputLayout, SequenceFeature
from funrec.training.batches import BatchStream, take_features
from funrec.utils.errors import InputError

LAYOUT = layout({"row": 1000}, numeric=["half"])


def numbered(size: int, **more: NDArray) -> Rows:
    """Return rows whose every array says which row it is."""
    row = np.arange(size)
    return Rows(
        row[:, None].astype(np.int32), row[:, None].astype(np.float32) / 2, row[:, None].astype(np.float32), **more
    )


def stream(size: int = 103, batch_size: int = 10, seed: int = 0, **more: NDArray) -> BatchStream:
    return BatchStream(numbered(size, **more), LAYOUT, batch_size, seed)


def rows_of(stream: BatchStream, first_step: int, steps: int) -> NDArray:
    return stream.block(first_step, steps)["ids"].reshape(-1)


def test_every_pass_meets_every_row_once() -> None:
    rows = rows_of(stream(), 0, 31)  # three passes and one row more
    for first in (0, 103, 206):
        np.testing.assert_array_equal(np.sort(rows[first : first + 103]), np.arange(103))
    assert (rows[:103] != rows[103:206]).any()


def test_every_batch_is_whole_across_the_ends_of_passes() -> None:
    block = stream().block(8, 5)
    assert block["ids"].shape == (5, 10, 1)
    assert block["numeric"].shape == (5, 10, 1)
    assert block["labels"].shape == (5, 10, 1)


def test_a_rows_arrays_stay_together() -> None:
    masks = np.arange(103)[:, None] % 3 > 0
    block = stream(masks=masks).block(0, 20)
    np.testing.assert_array_equal(block["numeric"], block["ids"] / 2)
    np.testing.assert_array_equal(block["labels"], block["ids"])
    np.testing.assert_array_equal(block["weights"], block["ids"] % 3 > 0)


def test_a_block_is_the_same_however_the_steps_before_it_were_cut() -> None:
    whole = rows_of(stream(), 0, 30)
    other = stream()
    np.testing.assert_array_equal(rows_of(other, 25, 5), whole[250:])  # a resumed run starts in the middle
    np.testing.assert_array_equal(np.concatenate([rows_of(other, s, 3) for s in range(0, 30, 3)]), whole)


def test_the_order_is_a_function_of_the_seed() -> None:
    np.testing.assert_array_equal(rows_of(stream(seed=1), 0, 10), rows_of(stream(seed=1), 0, 10))
    assert (rows_of(stream(seed=1), 0, 10) != rows_of(stream(seed=2), 0, 10)).any()


def test_epochs_begin_where_the_rows_do() -> None:
    assert [stream().steps_until(epoch) for epoch in range(5)] == [0, 10, 20, 30, 41]


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    small = stream(size=7, batch_size=1000)
    assert small.batch_size == 7
    assert small.steps_until(3) == 3
    np.testing.assert_array_equal(np.sort(rows_of(small, 0, 1)), np.arange(7))


def test_the_shuffle_is_even() -> None:
    places = np.array([np.argsort(rows_of(stream(20, 20, seed), 0, 1)) for seed in range(500)])
    mean, deviation = places.mean(axis=0), np.sqrt((20**2 - 1) / 12 / 500)
    assert np.abs(mean - 9.5).max() < 4.5 * deviation


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_zero_where_masked_and_absent_where_all_are_one(masked: bool, weighted: bool) -> None:
    masks = np.arange(103)[:, None] % 2 > 0 if masked else None
    weights = np.arange(103)[:, None].astype(np.float32) + 1 if weighted else None
    block = stream(masks=masks, weights=weights).block(0, 2)
    if not masked and not weighted:
        assert "weights" not in block
        return
    expected = (block["ids"] + 1.0 if weighted else 1.0) * (block["ids"] % 2 if masked else 1.0)
    np.testing.assert_array_equal(block["weights"], expected)
    assert block["weights"].dtype == np.float32


def test_sequences_are_padded_and_stay_with_their_rows() -> None:
    lengths = np.arange(30) % 4
    lists = SequenceArrays(
        np.concatenate([[0], np.cumsum(lengths)]), np.repeat(np.arange(30), lengths).astype(np.int32)
    )
    inputs = InputLayout(
        (CategoricalFeature("row"), SequenceFeature("seen", max_length=2)), ("row",), (), {"row": 30, "seen": 30}
    )
    rows = Rows(np.arange(30, dtype=np.int32)[:, None], np.zeros((30, 0)), np.zeros((30, 1)), sequences={"seen": lists})
    block = BatchStream(rows, inputs, 10, seed=0).block(0, 3)
    assert "numeric" not in block
    seen, ids = block["sequences"]["seen"].reshape(30, 2), block["ids"].reshape(30)
    expected = np.where(np.arange(2) < (ids % 4)[:, None], ids[:, None], -1)
    np.testing.assert_array_equal(seen, expected)
    features = take_features(rows, inputs, slice(4, 9))
    np.testing.assert_array_equal(features["ids"][:, 0], np.arange(4, 9))
    np.testing.assert_array_equal(features["sequences"]["seen"][:, 0], [-1, 5, 6, 7, -1])


def grouped(size: int = 1003, batch_size: int = 40, seed: int = 0, groups: int = 150) -> tuple[BatchStream, NDArray]:
    codes = np.random.default_rng(9).integers(0, groups, size).astype(np.int32)
    rows = numbered(size, groups=codes)
    inputs = InputLayout((CategoricalFeature("row"),), ("row",), (), {"row": size})
    return BatchStream(rows, inputs, batch_size, seed, True, True), codes


def test_batches_by_group_meet_every_row_once_a_pass_and_cut_a_group_only_at_their_ends() -> None:
    stream, codes = grouped()
    rows = rows_of(stream, 0, 51)[:2006]
    for order in (rows[:1003], rows[1003:]):
        np.testing.assert_array_equal(np.sort(order), np.arange(1003))
    runs = 1 + np.count_nonzero(np.diff(codes[rows[:1003]]))
    pieces = sum(-(-count // 10) for count in np.bincount(codes))  # a quarter of a batch at most
    assert np.unique(codes).size <= runs <= pieces
    assert (rows[:1003] != rows[1003:]).any()


def test_a_group_larger_than_a_batch_does_not_fill_it_alone() -> None:
    stream, codes = grouped(groups=4)
    batches = codes[rows_of(stream, 0, 25)].reshape(25, 40)
    assert np.median([np.unique(batch).size for batch in batches]) > 1


def test_batches_by_group_are_the_same_however_the_steps_before_them_were_cut() -> None:
    whole = rows_of(grouped()[0], 0, 60)
    np.testing.assert_array_equal(rows_of(grouped()[0], 45, 15), whole[45 * 40 :])
    assert (rows_of(grouped(seed=1)[0], 0, 20) != whole[:800]).any()


def test_batches_whose_rows_are_all_alone_in_their_groups_are_refused() -> None:
    rows = numbered(100, groups=np.arange(100, dtype=np.int32))
    with pytest.raises(InputError, match=r"^A batch should have several rows of a group .* trainer\.batch_by=group"):
        BatchStream(rows, LAYOUT, 10, 0, True).check_groups()
    grouped()[0].check_groups()
