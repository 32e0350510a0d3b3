"""Conversion of signed values to colours: signs, zero, shared scales and clipping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import as_rgb
from deconvviz.figures.spec.colour import Limit, limit_of, limits, to_rgb

values = st.floats(-1e6, 1e6, allow_subnormal=False)
images = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float64, (*shape, 3), elements=values)
)
several = st.lists(images, min_size=1, max_size=6)
exact_powers = st.integers(-20, 20).map(lambda power: 2.0**power)


@given(images)
def test_colours_keep_the_sign_and_show_zero_as_mid_grey(signed):
    colours = to_rgb(signed, limit_of([signed]).value)
    # A value far below the limit may round to mid-grey, but never to the other side of it.
    assert np.all((np.sign(colours - 0.5) == np.sign(signed)) | (colours == 0.5))
    assert np.all(colours[signed == 0] == 0.5)
    assert colours.min() >= 0 and colours.max() <= 1


@given(images)
def test_largest_value_is_black_or_white(signed):
    limit = limit_of([signed]).value
    if limit:
        assert np.isclose(np.abs(to_rgb(signed, limit) - 0.5).max(), 0.5)


@given(several, exact_powers, st.sampled_from(["sheet", "row", "tile"]), st.sampled_from([100.0, 99.5, 50.0]))
def test_scaled_values_give_the_same_colours(tiles, factor, scale, percentile):
    rows = [index // 2 for index in range(len(tiles))]
    once = limits(tiles, scale, rows, percentile=percentile)
    more = limits([tile * factor for tile in tiles], scale, rows, percentile=percentile)
    for tile, limit, other in zip(tiles, once, more, strict=True):
        np.testing.assert_array_equal(to_rgb(tile, limit.value), to_rgb(tile * factor, other.value))


@given(several)
def test_shared_scale_preserves_ratios_between_tiles(tiles):
    shared = limits(tiles, "sheet", [0] * len(tiles))
    assert len(set(shared)) == 1
    if not shared[0].value:
        return
    for tile, limit in zip(tiles, shared, strict=True):
        contrast = 2 * (to_rgb(tile, limit.value) - 0.5)
        np.testing.assert_allclose(contrast * limit.value, tile, atol=1e-12 * limit.value + 1e-300)


@given(images, st.floats(1, 100))
def test_conversion_does_not_modify_its_input(signed, percentile):
    before = signed.copy()
    to_rgb(signed, limit_of([signed], percentile=percentile).value)
    as_rgb(signed, "image")[:] = 7
    np.testing.assert_array_equal(signed, before)


@given(images, st.floats(1, 100))
def test_percentile_clips_at_most_the_stated_share(signed, percentile):
    limit = limit_of([signed], percentile=percentile)
    nonzero = np.abs(signed[signed != 0])
    beyond = np.mean(nonzero > limit.value) if nonzero.size else 0
    assert limit.clipped == pytest.approx(beyond)
    assert beyond <= 1 - percentile / 100 + 1e-9
    assert (limit.value > 0) == bool(nonzero.size)


def test_colours_match_values_computed_by_hand():
    signed = np.array([[-4.0, -2.0], [0.0, 2.0]])
    expected = np.array([[0.0, 0.25], [0.5, 0.75]])
    np.testing.assert_array_equal(to_rgb(signed, 4.0), np.repeat(expected[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(to_rgb(signed, 1.0)[:, :, 0], [[0, 0], [0.5, 1]])


def test_limits_for_each_scale():
    tiles = [np.full((1, 1), value) for value in (1.0, -3.0, 2.0, 0.0)]
    rows = [0, 0, 1, 1]
    assert [limit.value for limit in limits(tiles, "sheet", rows)] == [3, 3, 3, 3]
    assert [limit.value for limit in limits(tiles, "row", rows)] == [3, 3, 2, 2]
    assert [limit.value for limit in limits(tiles, "tile", rows)] == [1, 3, 2, 0]


def test_percentile_ignores_zeros():
    signed = np.zeros((100, 100))
    signed[0] = np.arange(1, 101)
    assert limit_of([signed], percentile=90) == Limit(91.0, 90, 0.09)


def test_zero_array_is_uniform_mid_grey():
    np.testing.assert_array_equal(to_rgb(np.zeros((2, 3)), 0.0), np.full((2, 3, 3), 0.5))
    assert limit_of([np.zeros((2, 3))]) == Limit(0.0)
    assert limit_of([np.zeros((2, 3))], percentile=99) == Limit(0.0, 99)


def test_colours_of_smallest_and_largest_floats():
    tiny = np.array([[5e-324, -5e-324, 0.0]])
    np.testing.assert_array_equal(to_rgb(tiny, limit_of([tiny]).value)[0, :, 0], [1, 0, 0.5])
    huge = np.array([[1.7e308, -1.7e308, 0.0]])
    np.testing.assert_array_equal(to_rgb(huge, limit_of([huge]).value)[0, :, 0], [1, 0, 0.5])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8])
def test_colours_of_other_number_types(kind):
    signed = np.array([[-128, 64, 0]], dtype=kind)  # int8 has no +128
    assert limit_of([signed]).value == 128
    np.testing.assert_array_equal(to_rgb(signed, 128)[0, :, 0], [0, 0.75, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("convert", [lambda a: limit_of([a]), lambda a: to_rgb(a, 1.0)])
def test_non_finite_values_raise(bad, convert):
    with pytest.raises(FigureError, match="projection cannot be drawn: 1 of its values is NaN or infinite"):
        convert(np.array([[1.0, bad]]))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 2, 4), (0, 2, 3), (1, 2, 2, 3)])
def test_unsupported_shapes_raise(shape):
    with pytest.raises(FigureError, match=r"has shape .* it must be \(height, width\)"):
        to_rgb(np.zeros(shape), 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_rgb(np.ones((1, 1)), 0.0), "limit 0 for a projection that is not zero"),
        (lambda: to_rgb(np.ones((1, 1)), float("nan")), "must be finite"),
        (lambda: to_rgb(np.ones((1, 1)), -1.0), "not negative"),
        (lambda: limit_of([np.ones((1, 1))], percentile=0), "percentile 0"),
        (
            lambda: limits([np.ones((1, 1))], "column", [0]),
            "unknown scale 'column': choose from sheet, row, tile",
        ),
        (lambda: to_rgb(np.array([["a"]]), 1.0), "it must contain real numbers"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(FigureError, match=message):
        call()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0312345, "±0.0312"),
        (1480.3, "±1480"),
        (162345.0, "±162000"),
        (3e9, "±3e+09"),
        (2e-7, "±2e-07"),
    ],
)
def test_limit_is_written_with_three_digits(value, text):
    assert str(Limit(value)) == text
