"""The smallest squares that hold most of a projection, against loops over all squares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.errors import FigureError
from deconvviz.figures.spec.effective_crop import effective_boxes, reachable, tightest_box

Box = tuple[int, int, int, int]


def placed(projection: np.ndarray, field: Box, size: tuple[int, int]) -> np.ndarray:
    """The energy of each pixel of the image."""
    energy = np.zeros(size)
    energy[field[1] : field[3], field[0] : field[2]] = (projection.astype(float) ** 2).sum(axis=0)
    return energy


def smallest_side(energy: np.ndarray, share: float) -> int:
    """By trying every square inside the image, cut to it where it is larger."""
    rows, columns = energy.shape
    for side in range(1, max(rows, columns) + 1):
        height, width = min(side, rows), min(side, columns)
        for y, x in itertools.product(range(rows - height + 1), range(columns - width + 1)):
            if energy[y : y + height, x : x + width].sum() >= share * energy.sum() * (1 - 1e-12):
                return side
    raise AssertionError("the whole image holds everything")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], list[Box], tuple[int, int]]:
    """Whole numbers in fields of any shape, some of them zero, some sparse."""
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
def test_the_common_size_is_that_of_a_loop_over_all_squares(case, share):
    projections, fields, size = case
    boxes = effective_boxes(projections, fields, size, energy=share)
    energies = [placed(*one, size) for one in zip(projections, fields, strict=True)]
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
def test_squares_lie_in_the_field_where_there_is_room_and_else_cover_it(case, share):
    projections, fields, size = case
    boxes = effective_boxes(projections, fields, size, energy=share)
    most = max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in fields)
    for box, field in zip(boxes, fields, strict=True):
        around = reachable(field, most, size)
        for low, high in ((0, 2), (1, 3)):
            one, other = sorted([(box[low], box[high]), (field[low], field[high])], key=lambda s: s[1] - s[0])
            assert other[0] <= one[0] and one[1] <= other[1]
            assert around[low] <= box[low] and box[high] <= around[high]


def test_one_pixel_holds_everything():
    projection = np.zeros((3, 20, 30))
    projection[:, 7, 11] = 1, -2, 3
    assert tightest_box(projection, (100, 200, 130, 220)) == (111, 207, 112, 208)


def test_a_pixel_of_two_percent_is_left_out_and_one_of_more_is_not():
    projection = np.zeros((1, 1, 10))
    projection[0, 0, :2], projection[0, 0, 9] = 7, np.sqrt(2)  # 98 and 2 of 100
    assert tightest_box(projection, (0, 0, 10, 1)) == (0, 0, 2, 1)
    projection[0, 0, 9] = 1.5
    assert tightest_box(projection, (0, 0, 10, 1)) == (0, 0, 10, 1)


def test_a_field_cut_by_the_border_gets_a_square_that_is_moved_into_the_image():
    wide, corner = np.ones((3, 20, 20)), np.ones((3, 8, 8))
    fields = [(40, 40, 60, 60), (0, 0, 8, 8)]
    first, second = effective_boxes([wide, corner], fields, (100, 100), energy=1.0)
    assert first == (40, 40, 60, 60) and second == (0, 0, 20, 20)


def test_a_zero_projection_has_no_part_in_the_size_and_is_shown_in_the_middle_of_its_field():
    small = np.zeros((1, 21, 21))
    small[0, 8:13, 8:13] = 1
    zero = np.zeros((1, 41, 41))
    first, second = effective_boxes([small, zero], [(0, 0, 21, 21), (30, 30, 71, 71)], (90, 90))
    assert first == (8, 8, 13, 13) and second == (48, 48, 53, 53)


def test_the_size_is_cut_to_a_narrow_image():
    flat = np.ones((1, 4, 30))
    assert effective_boxes([flat], [(0, 0, 30, 4)], (4, 50), energy=1.0) == ((0, 0, 30, 4),)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 5e-324, 1e30])
def test_values_of_any_size(scale):
    projection = np.zeros((1, 9, 9))
    projection[0, 2:5, 3:6] = scale
    assert tightest_box(projection, (0, 0, 9, 9), 1.0) == (3, 2, 6, 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    projection = np.ones((3, 4, 4))
    projection[1, 2, 3] = bad
    with pytest.raises(FigureError, match="projection cannot be shown, 1 of its values is NaN or infinite"):
        effective_boxes([projection], [(0, 0, 4, 4)], (8, 8))


@pytest.mark.parametrize("energy", [0, -1, 1.01, float("nan"), float("inf")])
def test_a_share_out_of_range(energy):
    with pytest.raises(FigureError, match=r"it must be above 0 and at most 1\. Give the share"):
        effective_boxes([np.ones((1, 2, 2))], [(0, 0, 2, 2)], (2, 2), energy=energy)
