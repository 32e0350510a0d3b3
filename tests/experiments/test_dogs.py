"""The boxes of `examples/dogs.csv`, on five photographs of dogs."""

from __future__ import annotations

from pathlib import Path

import pytest

import deconvviz as dv
from deconvviz.experiments.correspondence_parts import OBJECT, names_of, read_parts

DOGS = Path(__file__).parents[2] / "examples" / "dogs.csv"


def test_five_dogs_have_three_parts_inside_their_heads():
    boxes = read_parts(DOGS)
    assert names_of(boxes) == ("right eye", "left eye", "nose")
    images = {one.image for one in boxes}
    assert len(images) == 5
    for image in images:
        own = {one.part: one.box for one in boxes if one.image == image}
        left, top, right, bottom = own.pop(OBJECT)
        assert 0 <= left < right <= 224 and 0 <= top < bottom <= 224
        for x0, y0, x1, y1 in own.values():
            assert left <= x0 < x1 <= right and top <= y0 < y1 <= bottom
        assert own["right eye"][2] < own["left eye"][0]  # the dog's right eye is on the left of the image
        assert own["nose"][1] > own["right eye"][1]


@pytest.mark.slow
@pytest.mark.usefixtures("spare_threads")
def test_noses_of_dogs_correspond_in_the_output_of_squeezenet(real_data):
    net = dv.load("squeezenet1_0", weights=real_data / "squeezenet1_0.pth")
    found = dv.correspondence(net, real_data / "imagenet-sample", DOGS, "output", draws=2)
    nose = found.row("output", "nose")
    assert nose.images == 5
    assert nose.mean < nose.random_mean
    assert nose.cosine > nose.random_cosine
    assert nose.p_value < 0.05
