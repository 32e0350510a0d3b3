"""Signed values to colours: the sign is kept, zero is mid-grey, one scale keeps ratios."""

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
pictures = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float64, (*shape, 3), elements=values)
)
several = st.lists(pictures, min_size=1, max_size=6)
exact_powers = st.integers(-20, 20).map(lambda power: 2.0**power)


@given(pictures)
def test_sign_is_kept_and_zero_is_mid_grey(signed):
    colours = to_rgb(signed, limit_of([signed]).value)
    # A value far below the limit may round to mid-grey, but never across it.
    assert np.all((np.sign(colours - 0.5) == np.sign(signed)) | (colours == 0.5))
    assert np.all(colours[signed == 0] == 0.5)
    assert colours.min() >= 0 and colours.max() <= 1


@given(pictures)
def test_the_largest_value_has_full_colour(signed):
    limit = limit_of([signed]).value
    if limit:
        assert np.isclose(np.abs(to_rgb(signed, limit) - 0.5).max(), 0.5)


@given(several, exact_powers, st.sampled_from(["sheet", "row", "tile"]), st.sampled_from([100.0, 99.5, 50.0]))
def test_a_multiple_of_the_data_gives_the_same_picture(tiles, factor, scale, percentile):
    rows = [index // 2 for index in range(len(tiles))]
    once = limits(tiles, scale, rows, percentile=percentile)
    more = limits([tile * factor for tile in tiles], scale, rows, percentile=percentile)
    for tile, limit, other in zip(tiles, once, more, strict=True):
        np.testing.assert_array_equal(to_rgb(tile, limit.value), to_rgb(tile * factor, other.value))


@given(several)
def test_one_scale_keeps_the_ratios_between_tiles(tiles):
    shared = limits(tiles, "sheet", [0] * len(tiles))
    assert len(set(shared)) == 1
    if not shared[0].value:
        return
    for tile, limit in zip(tiles, shared, strict=True):
        contrast = 2 * (to_rgb(tile, limit.value) - 0.5)
        np.testing.assert_allclose(contrast * limit.value, tile, atol=1e-12 * limit.value + 1e-300)


@given(pictures, st.floats(1, 100))
def test_inputs_are_not_modified(signed, percentile):
    before = signed.copy()
    to_rgb(signed, limit_of([signed], percentile=percentile).value)
    as_rgb(signed, "picture")[:] = 7
    np.testing.assert_array_equal(signed, before)


@given(pictures, st.floats(1, 100))
def test_a_percentile_clips_no_more_than_it_says(signed, percentile):
    limit = limit_of([signed], percentile=percentile)
    nonzero = np.abs(signed[signed != 0])
    beyond = np.mean(nonzero > limit.value) if nonzero.size else 0
    assert limit.clipped == pytest.approx(beyond)
    assert beyond <= 1 - percentile / 100 + 1e-9
    assert (limit.value > 0) == bool(nonzero.size)


def test_values_by_hand():
    signed = np.array([[-4.0, -2.0], [0.0, 2.0]])
    expected = np.array([[0.0, 0.25], [0.5, 0.75]])
    np.testing.assert_array_equal(to_rgb(signed, 4.0), np.repeat(expected[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(to_rgb(signed, 1.0)[:, :, 0], [[0, 0], [0.5, 1]])


def test_limits_by_group():
    tiles = [np.full((1, 1), value) for value in (1.0, -3.0, 2.0, 0.0)]
    rows = [0, 0, 1, 1]
    assert [limit.value for limit in limits(tiles, "sheet", rows)] == [3, 3, 3, 3]
    assert [limit.value for limit in limits(tiles, "row", rows)] == [3, 3, 2, 2]
    assert [limit.value for limit in limits(tiles, "tile", rows)] == [1, 3, 2, 0]


def test_percentile_ignores_zeros():
    signed = np.zeros((100, 100))
    signed[0] = np.arange(1, 101)
    assert limit_of([signed], percentile=90) == Limit(91.0, 90, 0.09)


def test_all_zero_is_uniform_mid_grey():
    np.testing.assert_array_equal(to_rgb(np.zeros((2, 3)), 0.0), np.full((2, 3, 3), 0.5))
    assert limit_of([np.zeros((2, 3))]) == Limit(0.0)
    assert limit_of([np.zeros((2, 3))], percentile=99) == Limit(0.0, 99)


def test_the_smallest_and_the_largest_floats():
    tiny = np.array([[5e-324, -5e-324, 0.0]])
    np.testing.assert_array_equal(to_rgb(tiny, limit_of([tiny]).value)[0, :, 0], [1, 0, 0.5])
    huge = np.array([[1.7e308, -1.7e308, 0.0]])
    np.testing.assert_array_equal(to_rgb(huge, limit_of([huge]).value)[0, :, 0], [1, 0, 0.5])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8])
def test_other_number_types(kind):
    signed = np.array([[-128, 64, 0]], dtype=kind)  # -128 has no positive partner in int8
    assert limit_of([signed]).value == 128
    np.testing.assert_array_equal(to_rgb(signed, 128)[0, :, 0], [0, 0.75, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ask", [lambda a: limit_of([a]), lambda a: to_rgb(a, 1.0)])
def test_not_finite_is_refused(bad, ask):
    with pytest.raises(FigureError, match="projection cannot be shown, 1 of its values is NaN or infinite"):
        ask(np.array([[1.0, bad]]))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 2, 4), (0, 2, 3), (1, 2, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(FigureError, match=r"has shape .* a sheet shows \(height, width\)"):
        to_rgb(np.zeros(shape), 1.0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: to_rgb(np.ones((1, 1)), 0.0), "limit 0 for a projection that is not zero"),
        (lambda: to_rgb(np.ones((1, 1)), float("nan")), "must be finite"),
        (lambda: to_rgb(np.ones((1, 1)), -1.0), "not negative"),
        (lambda: limit_of([np.ones((1, 1))], percentile=0), "percentile 0"),
        (lambda: limits([np.ones((1, 1))], "column", [0]), "no scale 'column'; there are sheet, row, tile"),
        (lambda: to_rgb(np.array([["a"]]), 1.0), "a sheet shows real numbers"),
    ],
)
def test_senseless_questions_are_refused(ask, message):
    with pytest.raises(FigureError, match=message):
        ask()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0312345, "±0.0312"),
        (1480.3, "±1480"),
        (162345.0, "±162000"),
        (3e9, "±3e+09"),
        (2e-7, "±2e-07"),
    ],
)
def test_a_limit_as_a_person_writes_it(value, said):
    assert str(Limit(value)) == said
