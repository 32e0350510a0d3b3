"""Histogram, sketch and class sums of peaks, compared with exact arithmetic, in any order and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.dataset_search.class_sums import MAX_BYTES, MAX_CLASSES, ClassSums
from deconvviz.dataset_search.peak_histogram import BINS, SMALLEST, Histogram, edges_of
from deconvviz.dataset_search.peak_sketch import BITS, ENTRIES, Sketch, signs_of
from deconvviz.dataset_search.summary import Summary
from deconvviz.image_sources.labels import Labels

Table = list[list[float]]  # one row for each image, one column for each channel
SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 63.0, 64.0, -64.0, 1e-45, -1e-45, 2.0**-101, -(2.0**-101)])
SINGLE = st.one_of(
    SPECIAL, st.floats(-100, 100, width=32), st.floats(width=32, allow_nan=False, allow_infinity=False)
)
DOUBLE = st.one_of(
    SINGLE,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308]),
)
NUMBERS = {np.float32: SINGLE, np.float64: DOUBLE}
TYPES = pytest.mark.parametrize("dtype", NUMBERS)


def table(draw: Any, dtype: Any, most: int = 30) -> Table:
    channels = draw(st.integers(1, 3))
    row = st.lists(NUMBERS[dtype], min_size=channels, max_size=channels)
    return draw(st.lists(row, min_size=1, max_size=most))


def batches(draw: Any, count: int) -> list[list[int]]:
    """Draw an order of the images and a split into batches, some of which may be empty."""
    numbers = draw(st.permutations(range(count)))
    ends = sorted(draw(st.lists(st.integers(0, count), max_size=5)))
    return [list(numbers[a:b]) for a, b in zip([0, *ends], [*ends, count], strict=True)]


def summary_of(
    rows: Table, parts: Sequence[Sequence[int]], dtype: Any, labels: Labels | None = None
) -> Summary:
    found = Summary.empty(len(rows[0]), labels, dtype)
    for number, part in enumerate(parts):
        found.add(
            np.array([rows[one] for one in part], dtype).reshape(len(part), len(rows[0])),
            np.array(part, np.int64),
        )
        if number % 2:  # as if the search was resumed from a checkpoint
            arrays = {name: array.copy() for name, array in found.arrays().items()}
            found = Summary.empty(len(rows[0]), labels, dtype).with_arrays(arrays)
    return found


def exact_bins(column: Sequence[float]) -> tuple[Fraction, Fraction, list[int]]:
    """Return the first edge, the width and the counts of the smallest bins that fit."""
    numbers = [Fraction(number) for number in column]
    lowest, highest = min(0, *numbers, 0), max(0, *numbers, 0)
    for exponent in range(SMALLEST, 1100):
        width = Fraction(2) ** exponent
        first = math.floor(lowest / width)
        if math.floor(highest / width) - first < BINS:
            counts = [0] * BINS
            for number in numbers:
                counts[math.floor(number / width) - first] += 1
            return first * width, width, counts
    raise AssertionError


@TYPES
@given(data=st.data())
def test_histogram_equals_exact_bins_in_any_order_and_batches(dtype: Any, data: Any) -> None:
    rows = table(data.draw, dtype)
    found = summary_of(rows, batches(data.draw, len(rows)), dtype).histogram
    for channel in range(len(rows[0])):
        start, width, counts = exact_bins([row[channel] for row in rows])
        assert found.counts[channel].tolist() == counts
        assert Fraction(found.widths[channel]) == width
        assert found.starts[channel] == float(max(start, Fraction(-np.finfo(np.float64).max)))


def test_histogram_of_a_rectified_channel_begins_at_zero() -> None:
    found = Histogram.empty(2)
    found.add(np.array([[0, -5], [0, 2], [7, 1]], np.float32))
    assert found.starts.tolist() == [0, -5] and found.widths.tolist() == [0.125, 0.125]
    assert found.counts[0].tolist() == [2, *[0] * 55, 1, *[0] * 7]


def test_histogram_of_zeros_has_one_filled_bin() -> None:
    found = Histogram.empty(1)
    found.add(np.zeros((5, 1), np.float32))
    assert (found.starts[0], found.widths[0]) == (0, 2.0**SMALLEST)
    assert found.counts[0].tolist() == [5, *[0] * 63]


def test_edges_of_the_largest_numbers_are_finite() -> None:
    largest = np.finfo(np.float64).max
    for values in ([[largest]], [[-largest]], [[largest], [-largest]]):
        found = Histogram.empty(1, np.float64)
        found.add(np.array(values))
        edges = edges_of(found.starts[0], found.widths[0])
        assert np.isfinite(edges).all() and (np.diff(edges) >= 0).all() and len(edges) == BINS + 1
        assert edges[0] <= min(0, *values[-1]) and edges[-1] >= max(0, *values[0])


def cut_off(column: Sequence[float]) -> tuple[list[int], list[int], int]:
    """Return the high and the low number of each peak of a channel, and the exponent E."""
    largest = max(abs(Fraction(number)) for number in column)
    exponent = -7 * BITS
    while largest >= Fraction(2) ** exponent:
        exponent += BITS
    unit = Fraction(2) ** (exponent - 2 * BITS)
    whole = [math.trunc(Fraction(number) / unit) for number in column]
    signs = [1 if number >= 0 else -1 for number in whole]
    parts = [divmod(abs(number), 2**BITS) for number in whole]
    high, low = ([sign * part[one] for sign, part in zip(signs, parts, strict=True)] for one in (0, 1))
    return high, low, exponent


@TYPES
@given(data=st.data())
def test_sketch_equals_exact_sums_in_any_order_and_batches(dtype: Any, data: Any) -> None:
    rows = table(data.draw, dtype)
    place = data.draw(st.integers(0, 600))  # the index of the first image
    parts = [[number + place for number in part] for part in batches(data.draw, len(rows))]
    found = summary_of([[0.0] * len(rows[0])] * place + rows, parts, dtype).sketch
    numbers = range(place, place + len(rows))
    signs = signs_of(np.array(numbers)).tolist()
    for channel in range(len(rows[0])):
        high, low, exponent = cut_off([row[channel] for row in rows])
        assert found.exponents[channel] == exponent
        for kept, expected in ((found.high, high), (found.low, low)):
            sums = [0] * ENTRIES
            for number, sign, value in zip(numbers, signs, expected, strict=True):
                sums[number % ENTRIES] += sign * value
            assert kept[:, channel].tolist() == sums
    assert found.signs.sum() == sum(signs)


SIGNS = [-1, 1, 1, -1, 1, 1, 1, -1, 1, -1, 1, -1]


def test_signs_are_balanced_and_fixed() -> None:
    signs = signs_of(np.arange(100_000))
    assert set(signs.tolist()) == {1, -1} and abs(signs.mean()) < 0.01
    assert abs((signs[:-ENTRIES] * signs[ENTRIES:]).mean()) < 0.01
    assert signs[:12].tolist() == SIGNS  # otherwise searches could not be resumed by another version


def correlations(peaks: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the estimated and the exact correlations of all pairs of channels."""
    found = Sketch.empty(peaks.shape[1])
    for first in range(0, len(peaks), 32):
        found.add(peaks[first : first + 32], np.arange(first, min(first + 32, len(peaks))))
    vectors = found.vectors(peaks.astype(np.float64).mean(axis=0), len(peaks))
    pairs = np.triu_indices(peaks.shape[1], 1)
    return (vectors @ vectors.T)[pairs], np.corrcoef(peaks.T)[pairs]


def random_peaks(count: int, channels: int = 60) -> np.ndarray[Any, Any]:
    """Return rectified peaks of channels with common causes, with very different scales and densities."""
    dice = np.random.default_rng(5)
    causes = dice.normal(size=(count, 8)) @ dice.normal(size=(8, channels))
    peaks = causes + dice.normal(size=(count, channels)) * 2 - dice.uniform(-6, 6, channels)
    return (np.maximum(peaks, 0) * 10.0 ** dice.uniform(-6, 6, channels)).astype(np.float32)


@pytest.mark.parametrize("count", [2, 40, ENTRIES])
def test_correlations_of_few_images_are_exact(count: int) -> None:
    peaks = random_peaks(count)
    estimated, exact = correlations(peaks[:, peaks.std(axis=0) > 0])
    assert np.abs(estimated - exact).max() < 1e-3


@pytest.mark.parametrize("count", [1000, 5000])
def test_correlations_of_many_images_have_the_stated_error(count: int) -> None:
    estimated, exact = correlations(random_peaks(count))
    stated = (1 - exact**2) / math.sqrt(ENTRIES)
    ratio = (estimated - exact) / stated
    assert math.sqrt(np.square(ratio).mean()) < 1
    assert np.abs(estimated - exact).max() < 0.3 and np.abs(ratio.mean()) < 0.2


def test_channel_with_equal_peaks_has_no_sketch() -> None:
    peaks = np.stack([np.full(40, 3.3), np.zeros(40), np.arange(40.0), np.full(40, -1e30)], axis=1)
    found = Sketch.empty(4)
    found.add(peaks.astype(np.float32), np.arange(40))
    vectors = found.vectors(peaks.astype(np.float32).astype(np.float64).mean(axis=0), 40)
    assert vectors.any(axis=1).tolist() == [False, False, True, False]
    assert np.linalg.norm(vectors[2]) == pytest.approx(1)


NAMES = ("a", "b", "c", None)


@given(data=st.data())
def test_class_sums_are_exact_in_any_order_and_batches(data: Any) -> None:
    usual = st.one_of(
        st.just(0.0), st.floats(2**-20, 2**20, width=32), st.floats(-(2**20), -(2**-20), width=32)
    )
    row = st.lists(usual, min_size=2, max_size=2)
    rows = data.draw(st.lists(row, min_size=1, max_size=40))
    values = [data.draw(st.sampled_from(NAMES)) for _ in rows]
    labels = Labels.of(values)
    found = summary_of(rows, batches(data.draw, len(rows)), np.float32, labels).class_sums
    if labels is None:
        assert found is None
        return
    assert found is not None
    for channel in range(2):
        of_class = {
            name: [row[channel] for row, value in zip(rows, values, strict=True) if value == name]
            for name in labels.names
        }
        assert found.means[channel].tolist() == [math.fsum(own) / len(own) for own in of_class.values()]
        assert found.images.tolist() == [len(own) for own in of_class.values()]


def numbered(count: int) -> Labels | None:
    return Labels.of(str(number) for number in range(count))


def test_sums_of_classes_are_kept_up_to_a_limit_of_classes_and_memory() -> None:
    assert MAX_CLASSES == 1000
    assert ClassSums.empty(3, None) is None and ClassSums.empty(3, numbered(1001)) is None
    kept = ClassSums.empty(3, numbered(1000))
    assert kept is not None and kept.total.shape == (1000, 3)
    most = MAX_BYTES // 16 // 2
    assert ClassSums.empty(most, numbered(2)) is not None and ClassSums.empty(most + 1, numbered(2)) is None


def test_class_without_images_has_no_mean() -> None:
    found = ClassSums.empty(1, Labels.of(["a", "b", "c"]))
    assert found is not None
    found.add(np.array([[2.0], [4.0]], np.float32), np.array([0, 2]))
    assert found.means.tolist() == [[2.0, 4.0]]
