"""Smallest squares that contain most of a projection, compared with a search over all squares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.errors import FigureError
from deconvviz.figures.spec.effective_crop import effective_boxes, reachable, tightest_box

Box = tuple[int, int, int, int]


def image_energy(projection: np.ndarray, field: Box, size: tuple[int, int]) -> np.ndarray:
    """Return the energy of each pixel of the image."""
    energy = np.zeros(size)
    energy[field[1] : field[3], field[0] : field[2]] = (projection.astype(float) ** 2).sum(axis=0)
    return energy


def smallest_side(energy: np.ndarray, share: float) -> int:
    """Return the side of the smallest square with this share of the energy, by trying every square."""
    rows, columns = energy.shape
    for side in range(1, max(rows, columns) + 1):
        height, width = min(side, rows), min(side, columns)
        for y, x in itertools.product(range(rows - height + 1), range(columns - width + 1)):
            if energy[y : y + height, x : x + width].sum() >= share * energy.sum() * (1 - 1e-12):
                return side
    raise AssertionError("unreachable: the whole image contains all energy")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], list[Box], tuple[int, int]]:
    """Projections of whole numbers in fields of any shape; some are zero, some sparse."""
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    projections, fields = [], []
    for _ in range(draw(st.integers(1, 3))):
        y0, x0 = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
        y1, x1 = draw(st.integers(y0 + 1, size[0])), draw(st.integers(x0 + 1, size[1]))
        random = np.random.default_rng(draw(st.integers(0, 10**6)))
        values = random.integers(-3, 4, (draw(st.integers(1, 3)), y1 - y0, x1 - x0))
        projections.append(values * (random.random(values.shape[1:]) < draw(st.sampled_from([0, 0.2, 1]))))
        fields.append((x0, y0, x1, y1))
    return projections, fields, size


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([0.3, 0.5, 0.98, 1.0]))
def test_common_size_matches_a_search_over_all_squares(case, share):
    projections, fields, size = case
    boxes = effective_boxes(projections, fields, size, energy=share)
    energies = [image_energy(*one, size) for one in zip(projections, fields, strict=True)]
    if not any(energy.any() for energy in energies):
        assert boxes == tuple(fields)
        return
    side = max(smallest_side(energy, share) for energy in energies if energy.any())
    for (x0, y0, x1, y1), energy in zip(boxes, energies, strict=True):
        assert min(x0, y0) >= 0 and x1 <= size[1] and y1 <= size[0]
        assert (y1 - y0, x1 - x0) == (min(side, size[0]), min(side, size[1]))
        assert energy[y0:y1, x0:x1].sum() >= share * energy.sum() * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([0.5, 0.98]))
def test_squares_are_inside_the_field_or_cover_it(case, share):
    projections, fields, size = case
    boxes = effective_boxes(projections, fields, size, energy=share)
    most = max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in fields)
    for box, field in zip(boxes, fields, strict=True):
        around = reachable(field, most, size)
        for low, high in ((0, 2), (1, 3)):
            one, other = sorted([(box[low], box[high]), (field[low], field[high])], key=lambda s: s[1] - s[0])
            assert other[0] <= one[0] and one[1] <= other[1]
            assert around[low] <= box[low] and box[high] <= around[high]


def test_box_of_a_single_non_zero_pixel_is_that_pixel():
    projection = np.zeros((3, 20, 30))
    projection[:, 7, 11] = 1, -2, 3
    assert tightest_box(projection, (100, 200, 130, 220)) == (111, 207, 112, 208)


def test_pixel_with_two_percent_of_the_energy_is_excluded_and_one_with_more_is_not():
    projection = np.zeros((1, 1, 10))
    projection[0, 0, :2], projection[0, 0, 9] = 7, np.sqrt(2)  # 98 and 2 of 100
    assert tightest_box(projection, (0, 0, 10, 1)) == (0, 0, 2, 1)
    projection[0, 0, 9] = 1.5
    assert tightest_box(projection, (0, 0, 10, 1)) == (0, 0, 10, 1)


def test_square_of_a_field_cut_at_the_border_is_moved_into_the_image():
    wide, corner = np.ones((3, 20, 20)), np.ones((3, 8, 8))
    fields = [(40, 40, 60, 60), (0, 0, 8, 8)]
    first, second = effective_boxes([wide, corner], fields, (100, 100), energy=1.0)
    assert first == (40, 40, 60, 60) and second == (0, 0, 20, 20)


def test_zero_projection_does_not_affect_the_size_and_its_box_is_centred():
    small = np.zeros((1, 21, 21))
    small[0, 8:13, 8:13] = 1
    zero = np.zeros((1, 41, 41))
    first, second = effective_boxes([small, zero], [(0, 0, 21, 21), (30, 30, 71, 71)], (90, 90))
    assert first == (8, 8, 13, 13) and second == (48, 48, 53, 53)


def test_box_is_cut_to_a_narrow_image():
    flat = np.ones((1, 4, 30))
    assert effective_boxes([flat], [(0, 0, 30, 4)], (4, 50), energy=1.0) == ((0, 0, 30, 4),)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 5e-324, 1e30])
def test_box_does_not_depend_on_the_size_of_values(scale):
    projection = np.zeros((1, 9, 9))
    projection[0, 2:5, 3:6] = scale
    assert tightest_box(projection, (0, 0, 9, 9), 1.0) == (3, 2, 6, 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_raise(bad):
    projection = np.ones((3, 4, 4))
    projection[1, 2, 3] = bad
    with pytest.raises(FigureError, match="projection cannot be drawn: 1 of its values is NaN or infinite"):
        effective_boxes([projection], [(0, 0, 4, 4)], (8, 8))


@pytest.mark.parametrize("energy", [0, -1, 1.01, float("nan"), float("inf")])
def test_energy_share_out_of_range_raises(energy):
    with pytest.raises(FigureError, match=r"it must be above 0 and at most 1\. Give the share"):
        effective_boxes([np.ones((1, 2, 2))], [(0, 0, 2, 2)], (2, 2), energy=energy)
