"""The k strongest images of a stream, compared with a full sort and exact sums."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.dataset_search.peak_finder import Peaks
from deconvviz.dataset_search.top_k import NO_IMAGE, Top

FEW = st.sampled_from(
    [-1.5, -0.0, 0.0, 0.25, 1.0, 1.0000001192092896, 3.0]
)  # with equal and nearly equal values
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)
USUAL = st.one_of(st.just(0.0), st.floats(2**-20, 2**20, width=32), st.floats(-(2**20), -(2**-20), width=32))
Table = list[list[float]]  # one row for each image, one column for each channel


@st.composite
def tables(draw: st.DrawFn, numbers: st.SearchStrategy[float], most: int = 24) -> Table:
    channels = draw(st.integers(1, 4))
    return draw(st.lists(st.lists(numbers, min_size=channels, max_size=channels), min_size=1, max_size=most))


def peaks_of(table: Table, numbers: Sequence[int], dtype: Any = np.float32) -> Peaks:
    """Return the peaks of some images. The place of a peak is computed from its image and channel."""
    channels = len(table[0])
    activations = np.array([table[number] for number in numbers], dtype).reshape(len(numbers), channels)
    places = np.array([[number * 7 + c for c in range(channels)] for number in numbers], np.int32)
    return Peaks(activations, places.reshape(activations.shape), np.array(numbers, np.int64), {})


def in_batches(table: Table, k: int, batches: Sequence[Sequence[int]], dtype: Any = np.float32) -> Top:
    top = Top.empty(len(table[0]), k, dtype)
    for batch in batches:
        top.add(peaks_of(table, batch, dtype))
    return top


def cut(draw: st.DrawFn, numbers: Sequence[int]) -> list[list[int]]:
    """Draw a split into batches, some of which may be empty."""
    ends = sorted(draw(st.lists(st.integers(0, len(numbers)), max_size=5)))
    return [list(numbers[a:b]) for a, b in zip([0, *ends], [*ends, len(numbers)], strict=True)]


def merged(draw: st.DrawFn, tops: Sequence[Top]) -> Top:
    """Draw an order of pairwise merges and return the merged result."""
    left = [deepcopy(top) for top in tops]
    while len(left) > 1:
        one = left.pop(draw(st.integers(0, len(left) - 1)))
        other = left.pop(draw(st.integers(0, len(left) - 1)))
        one.merge(other)
        left.append(one)
    return left[0]


def check_against_a_full_sort(top: Top, table: Table, k: int) -> None:
    for channel in range(len(table[0])):
        column = [row[channel] for row in table]
        order = sorted(range(len(table)), key=lambda number: (-column[number], number))[:k]
        kept = len(order)
        assert top.image[channel, :kept].tolist() == order
        assert top.activation[channel, :kept].tolist() == [column[number] for number in order]
        assert top.place[channel, :kept].tolist() == [number * 7 + channel for number in order]
        assert top.image[channel, kept:].tolist() == [NO_IMAGE] * (k - kept)
        assert top.activation[channel, kept:].tolist() == [-math.inf] * (k - kept)
        assert top.fired[channel] == sum(number > 0 for number in column)
    assert top.image_count == len(table)
    assert not np.signbit(top.activation[top.activation == 0]).any()  # -0.0 is stored as 0.0


def equal(one: Top, other: Top) -> bool:
    names = ("activation", "image", "place", "fired", "mean")
    return one.image_count == other.image_count and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


@given(table=tables(st.one_of(FEW, ANY)), k=st.integers(1, 30), data=st.data())
def test_top_equals_full_sort_for_any_batches_order_and_merges(table: Table, k: int, data: Any) -> None:
    draw = data.draw
    numbers = draw(st.permutations(range(len(table))))
    parts = cut(draw, numbers)
    check_against_a_full_sort(in_batches(table, k, [numbers]), table, k)
    check_against_a_full_sort(in_batches(table, k, parts), table, k)
    tops = [in_batches(table, k, cut(draw, part)) for part in parts]
    check_against_a_full_sort(merged(draw, tops), table, k)


@given(table=tables(USUAL, most=40), data=st.data())
def test_mean_is_exact_for_any_batches_order_and_merges(table: Table, data: Any) -> None:
    draw = data.draw
    numbers = draw(st.permutations(range(len(table))))
    parts = cut(draw, numbers)
    exact = [math.fsum(row[c] for row in table) / len(table) for c in range(len(table[0]))]
    assert in_batches(table, 2, parts).mean.tolist() == exact
    assert merged(draw, [in_batches(table, 2, [part]) for part in parts]).mean.tolist() == exact


@given(
    table=tables(st.one_of(ANY, st.floats(-1e100, 1e100)), most=40),
    data=st.data(),
)
def test_mean_of_extreme_values_is_as_accurate_as_in_twice_the_precision(table: Table, data: Any) -> None:
    parts = cut(data.draw, data.draw(st.permutations(range(len(table)))))
    top = merged(data.draw, [in_batches(table, 1, [part], np.float64) for part in parts])
    for channel, mean in enumerate(top.mean.tolist()):
        column = [row[channel] for row in table]
        exact = math.fsum(column) / len(table)
        slack = len(table) ** 2 * sys.float_info.epsilon**2 * math.fsum(map(abs, column))
        assert abs(mean - exact) <= 2 * math.ulp(exact) + slack


def test_mean_is_exact_where_a_plain_sum_is_not() -> None:
    table = [[1e8], *[[1.0]] * 40, [-1e8]]
    plain = np.float32(0)
    for (number,) in table:
        plain += np.float32(number)
    assert plain != 40
    assert in_batches(table, 1, [range(42)]).mean.tolist() == [40 / 42]
    extreme = [[1e20], [1.0], [-1e20]]
    assert (extreme[0][0] + extreme[1][0]) + extreme[2][0] == 0  # `sum` is exact since Python 3.12
    assert in_batches(extreme, 1, [[2], [0], [1]], np.float64).mean.tolist() == [1 / 3]


@given(table=tables(FEW, most=12), k=st.integers(1, 5), data=st.data())
def test_merge_is_commutative_and_associative(table: Table, k: int, data: Any) -> None:
    numbers = data.draw(st.permutations(range(len(table))))
    ends = sorted(data.draw(st.tuples(*[st.integers(0, len(table))] * 2)))
    parts = numbers[: ends[0]], numbers[ends[0] : ends[1]], numbers[ends[1] :]
    a, b, c = (in_batches(table, k, [part]) for part in parts)

    def add(one: Top, other: Top) -> Top:
        both = deepcopy(one)
        both.merge(other)
        return both

    assert equal(add(a, b), add(b, a))
    assert equal(add(add(a, b), c), add(a, add(b, c)))
    nothing = Top.empty(len(table[0]), k)
    assert equal(add(a, nothing), a) and equal(add(nothing, a), a)
    before = deepcopy(b)
    add(a, b)
    assert equal(b, before)  # the other result is not changed


def test_negative_peaks_are_ranked_and_never_count_as_active() -> None:
    top = in_batches([[-3.0], [-1.0], [-2.0]], 2, [[0, 1, 2]])
    assert top.image.tolist() == [[1, 2]]
    assert top.fired.tolist() == [0]
    assert top.mean.tolist() == [-2.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_keep_their_precision(dtype: Any) -> None:
    close = [[1.0], [1.0 + 2**-40]]
    top = in_batches(close, 2, [[0, 1]], dtype)
    assert top.activation.dtype == dtype
    assert top.image.tolist() == ([[1, 0]] if dtype is np.float64 else [[0, 1]])


def test_top_of_no_images_is_empty() -> None:
    top = Top.empty(3, 2)
    top.add(Peaks(np.empty((0, 3)), np.empty((0, 3), np.int32), np.empty(0, np.int64), {}))
    assert (top.image_count, top.mean.tolist(), top.k) == (0, [0.0, 0.0, 0.0], 2)
    assert (top.image == NO_IMAGE).all()
