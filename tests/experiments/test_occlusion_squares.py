"""Places of the square, and interpolation between grids."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.experiments.occlusion_squares import Squares, at_places, nearest_places, squares


@given(
    rows=st.integers(4, 60),
    columns=st.integers(4, 60),
    size=st.floats(0.01, 1),
    stride=st.floats(0.01, 1),
    phase=st.floats(0, 0.99),
)
def test_squares_are_inside_the_image_and_cover_it_unless_they_are_too_small(
    rows, columns, size, stride, phase
):
    found = squares((rows, columns), size, stride, phase)
    for corners, length in ((found.y, rows), (found.x, columns)):
        assert list(corners) == sorted(set(corners))
        assert corners[0] >= 0
        assert corners[-1] == length - found.side  # the last square ends at the border
    if phase == 0 and stride <= size:
        covered = {pixel for y in found.y for pixel in range(y, y + found.side)}
        assert covered == set(range(rows))


def test_side_and_step_are_shares_of_the_shorter_side():
    found = squares((100, 50), 0.2, 0.1)
    assert found.side == 10
    assert found.y == tuple(range(0, 91, 5))
    assert found.x == tuple(range(0, 41, 5))
    assert found.shape == (19, 9)
    assert len(found) == 171
    assert list(found.corners())[:2] == [(0, 0), (0, 5)]


def test_shifted_grid_starts_later():
    assert squares((30, 30), 0.2, 0.2, 0.5, whole=False).y == (3, 9, 15, 21)


@given(a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_interpolation_is_exact_for_linear_functions_inside_the_grid(a, b):
    given_places, wanted = Squares(3, (0, 4, 9), (0, 5, 10)), Squares(3, (1, 2, 8), (3, 4, 9))

    def plane(places):
        return a * np.array(places.y)[:, None] + b * np.array(places.x)[None]

    np.testing.assert_allclose(
        at_places(plane(given_places), given_places, wanted), plane(wanted), atol=1e-12
    )


def test_each_pixel_belongs_to_the_square_with_the_nearest_centre():
    places = squares((20, 14), 0.3, 0.2)
    for corners, nearest in zip((places.y, places.x), nearest_places(places, (20, 14)), strict=True):
        for pixel, index in enumerate(nearest):
            distances = [abs(corner + places.side / 2 - (pixel + 0.5)) for corner in corners]
            assert distances[index] == min(distances)
