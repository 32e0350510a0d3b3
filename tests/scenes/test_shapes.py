import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.scenes.shapes import Pose, box, curve, oval

lengths = st.floats(0.05, 2)
places = st.floats(-2, 2)
turns = st.floats(-360, 360)


@given(places, places, lengths, lengths, turns)
def test_points_of_an_oval_are_on_its_ellipse(x: float, y: float, rx: float, ry: float, turn: float) -> None:
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    for px, py in oval(x, y, rx, ry, turn):
        u, v = (px - x) * cos + (py - y) * sin, (py - y) * cos - (px - x) * sin
        assert math.hypot(u / rx, v / ry) == pytest.approx(1)


@given(lengths, lengths, st.floats(0, 3))
def test_box_extends_exactly_to_its_bounds(wide: float, high: float, corner: float) -> None:
    points = box(0, 0, wide, high, corner)
    assert min(x for x, _ in points) == pytest.approx(0, abs=1e-9)
    assert max(x for x, _ in points) == pytest.approx(wide)
    assert min(y for _, y in points) == pytest.approx(0, abs=1e-9)
    assert max(y for _, y in points) == pytest.approx(high)


@given(st.lists(st.tuples(places, places), min_size=3, max_size=8), st.booleans())
def test_curve_passes_through_its_points(points: list[tuple[float, float]], closed: bool) -> None:
    drawn = curve(points, closed, steps=4)
    assert drawn[::4] == [pytest.approx(point, abs=1e-9) for point in points]


@given(places, places, lengths, turns, lengths, st.booleans())
def test_pose_maps_the_origin_to_its_position_and_scales_the_area(
    x: float, y: float, scale: float, turn: float, stretch: float, flip: bool
) -> None:
    pose = Pose.at(x, y, scale, turn, stretch, flip)
    middle, right, down = pose.apply([(0, 0), (1, 0), (0, 1)])
    assert middle == (x, y)
    u, v = (right[0] - x, right[1] - y), (down[0] - x, down[1] - y)
    assert abs(u[0] * v[1] - u[1] * v[0]) == pytest.approx(scale**2)
    assert (u[0] * v[1] - u[1] * v[0] < 0) is flip
    assert pose.scale == pytest.approx(scale)


def test_positive_turn_of_a_pose_is_clockwise_on_the_screen() -> None:
    (right,) = Pose.at(0, 0, 2, turn=90).apply([(1, 0)])
    assert right == pytest.approx((0, 2))
