"""Placement of the numbers of boxes, for any arrangement of the boxes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.labels import place_labels

IMAGE = Rect(1.0, 2.0, 3.0, 2.0)
SIZE = (0.16, 0.105)


def boxes_in(image: Rect) -> st.SearchStrategy[Rect]:
    edge = st.floats(0, 1)
    return st.tuples(edge, edge, edge, edge).map(
        lambda e: Rect(
            image.x + min(e[0], e[1]) * image.w,
            image.y + min(e[2], e[3]) * image.h,
            abs(e[0] - e[1]) * image.w,
            abs(e[2] - e[3]) * image.h,
        )
    )


def check_labels(labels: tuple[Rect, ...], bounds: Rect) -> None:
    for one, other in itertools.combinations(labels, 2):
        assert one.overlap(other) < 1e-9
    for label in labels:
        assert label.x >= bounds.x - 1e-9 and label.right <= bounds.right + 1e-9
        assert label.y >= bounds.y - 1e-9 and label.bottom <= bounds.bottom + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(boxes_in(IMAGE), min_size=1, max_size=25))
def test_labels_do_not_overlap(boxes):
    check_labels(place_labels(boxes, [SIZE] * len(boxes), IMAGE), IMAGE)


@pytest.mark.parametrize("count", [2, 9, 64])
@pytest.mark.parametrize("box", [IMAGE, Rect(2, 2.5, 1, 1), Rect(2.5, 3, 0.05, 0.05), Rect(2.5, 3, 0, 0)])
def test_labels_of_coinciding_boxes_do_not_overlap(box, count):
    labels = place_labels([box] * count, [SIZE] * count, IMAGE)
    check_labels(labels, IMAGE)
    assert len(set(labels)) == count


def test_labels_of_64_separate_small_boxes_are_next_to_them():
    boxes = [Rect(1.2 + 0.36 * x, 2.15 + 0.24 * y, 0.05, 0.05) for y in range(8) for x in range(8)]
    labels = place_labels(boxes, [SIZE] * 64, IMAGE)
    check_labels(labels, IMAGE)
    for box, label in zip(boxes, labels, strict=True):
        assert math.dist(label.nearest(*box.centre), box.centre) < 0.1
    assert sum(label.overlap(box) for label in labels for box in boxes) < 1e-9


def test_image_smaller_than_its_labels_has_all_labels():
    labels = place_labels([Rect(0, 0, 0.1, 0.05)] * 3, [SIZE] * 3, Rect(0, 0, 0.1, 0.05))
    assert len(labels) == 3
    assert all(np.isfinite((label.x, label.y)).all() for label in labels)


def test_nearest_point_on_an_outline():
    rect = Rect(0, 0, 4, 2)
    assert rect.nearest(5, 1) == (4, 1)
    assert rect.nearest(-1, -1) == (0, 0)
    assert rect.nearest(1, 0.2) == (1, 0)
    assert rect.nearest(3.9, 1) == (4, 1)
