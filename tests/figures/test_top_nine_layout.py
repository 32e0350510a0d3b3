"""Positions of blocks, frames and crops in top-nine figures, for any number and size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.errors import FigureError
from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import COLUMN, MARGIN, TOP_NINE_PAGE
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.style import LAYOUTS, TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure
from deconvviz.figures.top_nine.layout import (
    HAIRLINE,
    TopNineBody,
    arrange_top_nine,
    frames_of,
)

CLOSE = pytest.approx


def zeros(height: int, width: int, **cuts: bool) -> Crop:
    return Crop(np.zeros((height, width, 3)), np.zeros((height, width, 3)), **cuts)


def top_nine_of(sizes: list[tuple[int, int]], channels: int, k: int, **style: object) -> TopNineFigure:
    """Return a spec with a panel for each size (height, width), each with the same number of channels."""
    panels = [
        LayerPanel(
            ("conv",),
            [ChannelBlock(f"channel {n}", ("31.5 … 24.8",), [zeros(*size)] * k) for n in range(channels)],
        )
        for size in sizes
    ]
    return TopNineFigure(("net",), panels, TopNineStyle(**style))


def arranged(spec: TopNineFigure, width: float | None = None) -> TopNineBody:
    limits = [[Limit(0.21)] * len(panel.blocks) for panel in spec.panels]
    return arrange_top_nine(spec, limits, width, around=0.8)


def rectangles(body: TopNineBody) -> list[Rect]:
    return [
        side for panel in body.panels for block in panel.blocks for side in (block.projections, block.patches)
    ]


sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    sizes=sizes,
    channels=st.integers(1, 40),
    k=st.integers(1, 16),
    layout=st.sampled_from(LAYOUTS),
    columns=st.none() | st.integers(1, 12),
    width=st.none() | st.floats(1.4, 20),
)
def test_blocks_are_separate_and_inside_the_page(sizes, channels, k, layout, columns, width):
    spec = top_nine_of(sizes, channels, k, layout=layout, columns=columns)
    try:
        body = arranged(spec, width)
    except FigureError:
        assert width is not None and columns is not None and width < 1.32 * columns
        return
    page = width if width is not None else body.room + 2 * MARGIN
    assert body.width <= page - 2 * MARGIN + 1e-9
    if width is None:
        assert page >= COLUMN and (columns is not None or page <= TOP_NINE_PAGE + 1e-9)
    assert body.columns == min(columns, channels) if columns else body.columns <= channels
    blocks = rectangles(body)
    assert len(blocks) == 2 * channels * len(sizes)
    assert len({round(block.w, 9) for block in blocks}) == 1
    assert blocks[0].w >= (0.75 if width is None else 0.5) - 1e-9
    for block in blocks:
        assert block.x >= 0 and block.y > 0
        assert block.right <= body.width + 1e-9 and block.bottom < body.height
    for one, other in itertools.combinations(blocks, 2):
        apart = max(one.x - other.right, other.x - one.right, one.y - other.bottom, other.y - one.bottom)
        assert apart >= 0.05 - 1e-9  # clearly more than the gaps in a block


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, channels=st.integers(1, 20), k=st.integers(1, 10), layout=st.sampled_from(LAYOUTS))
def test_captions_do_not_overlap_blocks(sizes, channels, k, layout):
    body = arranged(top_nine_of(sizes, channels, k, layout=layout))
    blocks = rectangles(body)
    for panel in body.panels:
        for block in panel.blocks:
            for caption in block.captions:
                bottom = caption.y + sum(line.height for line in caption.lines)
                wide = block.projections.w * (1 if layout == "panels" else 2)
                place = Rect(caption.x, caption.y, wide, bottom - caption.y)
                assert not any(place.overlap(other) for other in blocks)
                assert bottom <= body.height + 1e-9


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    block=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.5, 4), st.floats(0.5, 4)),
)
def test_frames_fill_their_block_except_for_the_gaps(rows, columns, block):
    whole = Rect(*block)
    frames = list(frames_of(whole, (rows, columns)))
    assert len(frames) == rows * columns
    assert frames[0].x == CLOSE(whole.x) and frames[0].y == CLOSE(whole.y)
    assert frames[-1].right == CLOSE(whole.right) and frames[-1].bottom == CLOSE(whole.bottom)
    for number, frame in enumerate(frames):
        assert (frame.w, frame.h) == (CLOSE(frames[0].w), CLOSE(frames[0].h))
        if (number + 1) % columns:
            assert frames[number + 1].x - frame.right == CLOSE(HAIRLINE)
            assert frames[number + 1].y == CLOSE(frame.y)
        if number + columns < len(frames):
            assert frames[number + columns].y - frame.bottom == CLOSE(HAIRLINE)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 224), st.integers(1, 224)), min_size=1, max_size=9),
    cuts=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    ratio=st.floats(0.25, 4),
)
def test_crops_of_a_panel_share_one_zoom_and_are_inside_their_frames(sizes, cuts, ratio):
    left, top, right, bottom = cuts
    crops = [zeros(*size, cut_left=left, cut_top=top, cut_right=right, cut_bottom=bottom) for size in sizes]
    panel = LayerPanel(("conv",), (ChannelBlock("channel 3", (), crops),))
    frame = Rect(1.0, 2.0, 0.3, 0.3 * ratio)
    places = [place_crop(frame, crop.size, panel.largest_crop, crop.cut) for crop in crops]
    zooms = [place.w / crop.size[1] for place, crop in zip(places, crops, strict=True)]
    assert zooms == CLOSE([zooms[0]] * len(zooms))
    for place, crop in zip(places, crops, strict=True):
        assert place.h / crop.size[0] == CLOSE(zooms[0])
        assert place.x >= frame.x - 1e-9 and place.right <= frame.right + 1e-9
        assert place.y >= frame.y - 1e-9 and place.bottom <= frame.bottom + 1e-9
        before, behind = place.x - frame.x, frame.right - place.right
        above, below = place.y - frame.y, frame.bottom - place.bottom
        for cut_before, cut_behind, free_before, free_behind in (
            (left, right, before, behind),
            (top, bottom, above, below),
        ):
            if cut_before == cut_behind:
                assert free_before == CLOSE(free_behind, abs=1e-9)
            elif cut_before:
                assert free_behind == CLOSE(0, abs=1e-9)
            else:
                assert free_before == CLOSE(0, abs=1e-9)


@pytest.mark.parametrize(
    ("channels", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (6, 3), (8, 3), (9, 3), (16, 4), (25, 4)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_number_of_columns_for_each_number_of_channels(channels, columns, layout):
    body = arranged(top_nine_of([(63, 63)], channels, 9, layout=layout))
    assert body.columns == columns
    assert body.height <= 9.4


def test_several_layers_fit_on_one_page():
    for layers, channels in ((2, 4), (3, 4), (5, 3), (5, 4)):
        body = arranged(top_nine_of([(31, 31)] * layers, channels, 9))
        assert body.height <= 9.4, (layers, channels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_projections_and_patches_are_arranged_by_layout(layout):
    body = arranged(top_nine_of([(31, 31)], 6, 9, layout=layout, columns=3))
    blocks = body.panels[0].blocks
    for block in blocks:
        assert block.patches.y == block.projections.y and block.patches.h == block.projections.h
    shifts = [block.patches.x - block.projections.x for block in blocks]
    assert shifts == CLOSE([shifts[0]] * 6)
    if layout == "panels":  # all projections, then all patches
        assert max(b.projections.right for b in blocks) < min(b.patches.x for b in blocks)
    else:
        assert all(0 < b.patches.x - b.projections.right < 0.06 for b in blocks)
        assert blocks[0].patches.right < blocks[1].projections.x


def test_many_columns_make_a_wider_page():
    body = arranged(top_nine_of([(31, 31)], 12, 9, columns=12))
    assert body.columns == 12 and body.room > TOP_NINE_PAGE
    assert math.isclose(body.width, body.room)


@pytest.mark.parametrize(
    ("columns", "width", "message"),
    [
        (
            4,
            3.0,
            "4 columns do not fit into a figure 3 inches wide: they need 4.92 inches. Choose fewer columns",
        ),
        (
            None,
            1.1,
            "side by side do not fit into a figure 1.1 inches wide: they need 1.32 inches. Choose a wider",
        ),
    ],
)
def test_page_that_is_too_narrow_raises(columns, width, message):
    spec = top_nine_of([(31, 31)], 9, 9, columns=columns)
    with pytest.raises(FigureError, match=message):
        arranged(spec, width)
    arranged(spec, 4.93 if columns else 1.33)
