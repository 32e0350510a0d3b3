"""Numbers of boxes stay readable however the boxes lie."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.labels import place_labels

PICTURE = Rect(1.0, 2.0, 3.0, 2.0)
SIZE = (0.16, 0.105)


def boxes_in(picture: Rect) -> st.SearchStrategy[Rect]:
    edge = st.floats(0, 1)
    return st.tuples(edge, edge, edge, edge).map(
        lambda e: Rect(
            picture.x + min(e[0], e[1]) * picture.w,
            picture.y + min(e[2], e[3]) * picture.h,
            abs(e[0] - e[1]) * picture.w,
            abs(e[2] - e[3]) * picture.h,
        )
    )


def check(labels: tuple[Rect, ...], bounds: Rect) -> None:
    for one, other in itertools.combinations(labels, 2):
        assert one.overlap(other) < 1e-9
    for label in labels:
        assert label.x >= bounds.x - 1e-9 and label.right <= bounds.right + 1e-9
        assert label.y >= bounds.y - 1e-9 and label.bottom <= bounds.bottom + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(boxes_in(PICTURE), min_size=1, max_size=25))
def test_labels_never_hide_one_another(boxes):
    check(place_labels(boxes, [SIZE] * len(boxes), PICTURE), PICTURE)


@pytest.mark.parametrize("count", [2, 9, 64])
@pytest.mark.parametrize("box", [PICTURE, Rect(2, 2.5, 1, 1), Rect(2.5, 3, 0.05, 0.05), Rect(2.5, 3, 0, 0)])
def test_labels_of_boxes_that_coincide(box, count):
    labels = place_labels([box] * count, [SIZE] * count, PICTURE)
    check(labels, PICTURE)
    assert len(set(labels)) == count


def test_64_small_boxes_far_apart_have_their_labels_beside_them():
    boxes = [Rect(1.2 + 0.36 * x, 2.15 + 0.24 * y, 0.05, 0.05) for y in range(8) for x in range(8)]
    labels = place_labels(boxes, [SIZE] * 64, PICTURE)
    check(labels, PICTURE)
    for box, label in zip(boxes, labels, strict=True):
        assert math.dist(label.nearest(*box.centre), box.centre) < 0.1
    assert sum(label.overlap(box) for label in labels for box in boxes) < 1e-9


def test_a_picture_too_small_for_its_labels_still_gets_them():
    labels = place_labels([Rect(0, 0, 0.1, 0.05)] * 3, [SIZE] * 3, Rect(0, 0, 0.1, 0.05))
    assert len(labels) == 3
    assert all(np.isfinite((label.x, label.y)).all() for label in labels)


def test_nearest_point_of_an_outline():
    rect = Rect(0, 0, 4, 2)
    assert rect.nearest(5, 1) == (4, 1)
    assert rect.nearest(-1, -1) == (0, 0)
    assert rect.nearest(1, 0.2) == (1, 0)
    assert rect.nearest(3.9, 1) == (4, 1)
