"""Validation of top-nine figures before they are drawn."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest

from deconvviz.errors import FigureError
from deconvviz.figures.spec.colour import limit_of
from deconvviz.figures.spec.style import TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure

SETTINGS = {field.name for field in fields(TopNineStyle)}
GREY = np.full((4, 6, 3), 0.5)


def crop(**changes: object) -> Crop:
    return Crop(**{"projection": GREY, "patch": GREY, **changes})


def block(*crops: Crop, **changes: object) -> ChannelBlock:
    return ChannelBlock(
        **{"name": "channel 3", "caption": ("31 … 24",), "crops": crops or (crop(),), **changes}
    )


def panel(*blocks: ChannelBlock, **changes: object) -> LayerPanel:
    return LayerPanel(**{"title": ("conv1_1",), "blocks": blocks or (block(),), **changes})


def top_nine(*panels: LayerPanel, **changes: object) -> TopNineFigure:
    style = TopNineStyle(**{name: changes.pop(name) for name in SETTINGS if name in changes})
    return TopNineFigure(**{"title": ("vgg19",), "panels": panels or (panel(),), "style": style, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: crop(patch=GREY[1:]),
            "crop: the patch has 6x3 px and the projection 6x4 px. Crop both to the same box",
        ),
        (
            lambda: crop(patch=GREY * 255),
            "crop: patch has values from 128 to 128: colours must be from 0 to 1",
        ),
        (
            lambda: crop(projection=np.full((4, 6), np.nan)),
            "crop: projection cannot be drawn: 24 of its values",
        ),
        (lambda: crop(projection=np.zeros((4, 6, 5))), "choose one or three of them"),
        (
            lambda: crop(projection=np.zeros((0, 6, 3)), patch=np.zeros((0, 6, 3))),
            "crop: projection has shape",
        ),
        (lambda: crop(note=3), "crop: note must be text, not 3"),
        (lambda: block(name=" "), "block name ' ': it must be text that is not empty. Give the name"),
        (lambda: block(name=50), "block name 50: it must be text that is not empty. Give the name"),
        (lambda: block(caption=(3,)), "channel 3: caption must be lines of text"),
        (lambda: block(crops=()), "channel 3 has no crops: a block needs at least one"),
        (lambda: panel(title=()), "a panel has no title. Give the name of the layer"),
        (lambda: panel(title=("",)), "a panel has no title. Give the name of the layer"),
        (lambda: panel(blocks=()), "conv1_1 has no blocks. Choose at least one channel"),
        (
            lambda: top_nine(panels=()),
            "a top-nine figure needs at least one panel. Choose at least one layer",
        ),
        (lambda: top_nine(layout="rows"), "unknown layout 'rows': choose from panels, pairs"),
        (lambda: top_nine(percentile=0), "percentile 0: it must be above 0"),
        (lambda: top_nine(percentile=101), "percentile 101"),
        (lambda: top_nine(percentile=float("nan")), "percentile nan"),
        (lambda: top_nine(columns=0), "columns 0: it must be a whole number of at least 1, or None"),
        (lambda: top_nine(columns=1.5), "columns 1.5"),
        (lambda: top_nine(top=0), "top 0: it must be a whole number of at least 1, or None"),
        (lambda: top_nine(top=True), "top True"),
        (
            lambda: top_nine(panel(block(*[crop()] * 5)), top=4),
            "conv1_1, channel 3 has 5 crops, but top is 4. Leave out the weakest crops, or increase top",
        ),
    ],
)
def test_invalid_figures_raise(make, message):
    with pytest.raises(FigureError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("crops", "top", "shape"),
    [(1, None, (1, 1)), (2, None, (1, 2)), (3, None, (2, 2)), (4, None, (2, 2)), (5, None, (2, 3)),
     (7, None, (3, 3)), (9, None, (3, 3)), (10, None, (3, 4)), (16, None, (4, 4)), (2, 9, (3, 3))],
)  # fmt: skip
def test_block_shape_is_as_square_as_possible(crops, top, shape):
    assert top_nine(panel(block(*[crop()] * crops), block()), top=top).block_shape == shape


def test_largest_crop_combines_height_and_width_of_different_crops():
    tall, wide = np.full((9, 2, 3), 0.5), np.full((3, 7, 3), 0.5)
    made = panel(block(crop(projection=tall, patch=tall)), block(crop(projection=wide, patch=wide)))
    assert made.largest_crop == (9, 7)


def test_crops_of_a_block_share_one_limit():
    crops = [crop(projection=GREY * size) for size in (1, -6, 2)]
    assert block(*crops).limit(100).value == 3.0
    assert block(*crops).limit(60) == limit_of([each.projection for each in crops], percentile=60)


def test_grey_crops_and_single_line_titles_are_accepted():
    assert crop(projection=GREY[:, :, 0], patch=GREY[:, :, :1]).size == (4, 6)
    made = top_nine(panel(title="conv1_1"), title="vgg19")
    assert made.title == ("vgg19",) and made.panels[0].title == ("conv1_1",)
    assert block(caption="31 … 24").caption == ("31 … 24",)


def test_reprs_are_short():
    assert repr(crop()) == "Crop(6x4 px)"
    assert repr(block(crop(), crop())) == "ChannelBlock(channel 3 · 31 … 24; 2 crops)"
    assert repr(panel()) == "LayerPanel('conv1_1': 1 block)"
    assert repr(top_nine(panel(), panel())) == "TopNineFigure('vgg19': 2 panels, layout panels)"
