"""Drawing of tile grids, checked through the matplotlib artists rather than pixels."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from helpers.artists import check_texts, extent, gids, images, text_of, texts
from helpers.tile_grids import random_grid, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.page.save import save
from deconvviz.figures.page.sizes import COLUMN, MARGIN, PAGE
from deconvviz.figures.spec.crop import Cut
from deconvviz.figures.spec.heat import heat_rgb
from deconvviz.figures.spec.style import GRID_SCALES, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.figures.tile_grid.layout import arrange_grid

HALF_A_STEP = 0.5 / 255 + 1e-9
RANDOM = np.random.default_rng(5)
SIZES = [(1, 1), (1, 2), (2, 1), (3, 3), (4, 6), (1, 12), (8, 1), (8, 12)]


def footer_text(figure) -> str:
    return text_of(figure, "scale") + text_of(figure, "foot")


@pytest.mark.slow
@pytest.mark.parametrize("scale", GRID_SCALES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("long", [False, True])
def test_texts_do_not_overlap(size, scale, long):
    figure = draw(random_grid(*size, scale=scale, long=long))
    check_texts(figure)
    assert COLUMN <= figure.get_figwidth() <= PAGE + 1e-9
    assert figure.get_figheight() <= 9.8


@pytest.mark.parametrize("width", [2.5, 5, 14])
def test_texts_do_not_overlap_at_other_widths(width):
    figure = draw(random_grid(3, 4, long=True), width=width)
    assert figure.get_figwidth() == pytest.approx(width)
    check_texts(figure)


@pytest.mark.parametrize("dpi", [50, 300])
def test_texts_do_not_overlap_at_other_resolutions(dpi):
    check_texts(draw(random_grid(3, 5, long=True, scale="row")), dpi)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 12),
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=8),
    scale=st.sampled_from(GRID_SCALES),
    labels=st.booleans(),
    width=st.none() | st.floats(3, 20),
)
def test_frames_are_separate_and_inside_the_page(rows, columns, sizes, scale, labels, width):
    tiles = [[GridTile(np.ones(sizes[r % len(sizes)]))] * columns for r in range(rows)]
    names = (["row"] * rows, ["column"] * columns) if labels else ((), ())
    grid = TileGrid(("net",), tiles, *names, TileGridStyle(scale))
    try:
        body = arrange_grid(grid, width, around=0.8)
    except FigureError:
        assert width is not None and width < 0.31 * columns + 1.6
        return
    assert len(body.frames) == rows * columns
    assert body.width <= body.page - 2 * MARGIN + 1e-9
    assert len({round(frame.w, 9) for frame in body.frames.values()}) == 1
    for (row, column), frame in body.frames.items():
        assert frame.x >= 0 and frame.y >= 0
        assert frame.right <= body.width + 1e-9 and frame.bottom <= body.height + 1e-9
        assert frame.y == pytest.approx(body.frames[row, 0].y)
        assert frame.x == pytest.approx(body.frames[0, column].x)
    for one, other in itertools.combinations(body.frames.values(), 2):
        apart = max(one.x - other.right, other.x - one.right, one.y - other.bottom, other.y - one.bottom)
        assert apart >= 0.06 - 1e-9


def test_many_columns_make_a_wider_figure():
    figure = draw(random_grid(1, 30))
    assert figure.get_figwidth() > PAGE
    check_texts(figure)


def test_too_many_columns_for_the_width_raise():
    grid = random_grid(1, 12)
    with pytest.raises(
        FigureError, match=r"12 columns do not fit .* 3 inches wide: they need (4\.\d+) inches\."
    ) as caught:
        draw(grid, width=3)
    draw(grid, width=float(str(caught.value).split("need ")[1].split(" ")[0]))


def test_each_tile_is_drawn_with_its_colours():
    grid = random_grid(3, 4, percentile=97)
    shown = images(draw(grid), "tile")
    assert set(shown) == {f"tile-{r}-{c}" for r in range(3) for c in range(4)} - {"tile-2-2"}
    for name, image in shown.items():
        row, column = (int(part) for part in name.split("-")[1:])
        tile = grid.tiles[row][column]
        colours = image.get_array() / 255
        if tile.kind == "image":
            expected = tile.values
        elif tile.kind == "map":
            expected = heat_rgb(tile.values, grid.intervals[row, column])
        else:
            expected = 0.5 + np.clip(tile.values / grid.limits[0, 1].value, -1, 1) / 2
        np.testing.assert_allclose(colours, expected, atol=HALF_A_STEP)


def test_labels_are_next_to_their_rows_and_columns():
    figure = draw(random_grid(3, 4))
    for row in range(3):
        (label,) = texts(figure, f"row-label-{row}")
        assert label.get_text() == f"channel {7 * row}"
        left, _, bottom, top = extent(figure, f"tile-{row}-0")
        assert label.get_position()[0] < left and top < label.get_position()[1] < bottom
    for column in range(4):
        (label,) = texts(figure, f"column-label-{column}")
        assert label.get_text() == f"epoch {2**column}"
        left, _, _, top = extent(figure, f"tile-0-{column}")
        assert label.get_position()[0] == pytest.approx(left) and label.get_position()[1] < top


def test_scale_grid_is_described():
    grid = random_grid(2, 4, units="in pixel values", percentile=97, map_name="probability")
    figure = draw(grid, width=12)
    assert footer_text(figure) == (
        "one colour scale for all tiles; grey is zero · clipped at the 97th percentile · "
        "probability: blue is low, yellow is high"
    )
    assert [text_of(figure, f"key-{end}") for end in ("low", "middle", "high")] == ["−", "0", "+"]
    interval = grid.intervals[0, 3]
    ends = (text_of(figure, "map-key-low"), text_of(figure, "map-key-high"))
    assert ends == (f"{interval.low:.3g}", f"{interval.high:.3g}")
    assert set(images(figure, "key")) == {"key"} and set(images(figure, "map-key")) == {"map-key"}


@pytest.mark.parametrize(
    ("scale", "where"),
    [("row", "to the right of each row"), ("column", "below each column"), ("tile", "below each tile")],
)
def test_other_scales_are_described_and_their_limits_are_shown(scale, where):
    tiles = [[signed(RANDOM, size=10.0**n) for n in range(3)] for _ in range(2)]
    tiles[1][1] = GridTile(np.arange(6.0).reshape(2, 3), "map")
    grid = TileGrid(("net",), tiles, style=TileGridStyle(scale, 100))
    figure = draw(grid)
    check_texts(figure)
    limits_text = f"each {scale} has its own colour scale; grey is zero (limits network input units {where})"
    assert limits_text in footer_text(figure)
    assert f"maps: blue is low, yellow is high (ranges {where})" in footer_text(figure)
    assert "clipped" not in footer_text(figure)
    assert (text_of(figure, "map-key-low"), text_of(figure, "map-key-high")) == ("lowest", "highest")
    found = {
        "row": {f"row-scale-{r}": [grid.limits[r, 0]] for r in range(2)},
        "column": {f"column-scale-{c}": [grid.limits[0, c]] for c in range(3)},
        "tile": {f"caption-{r}-{c}": [limit] for (r, c), limit in grid.limits.items()},
    }[scale]
    for gid, limits in found.items():
        assert text_of(figure, gid).startswith(str(limits[0]))
    assert "0 … 5" in " ".join(text.get_text() for text in texts(figure))


def test_grid_of_images_has_no_colour_bar():
    figure = draw(TileGrid(("net",), [[GridTile(np.full((3, 3), 0.5), "image")] * 2]))
    assert not gids(figure, "key") and not gids(figure, "map-key") and not footer_text(figure)


def test_grid_of_zeros_is_described():
    figure = draw(
        TileGrid(("net",), [[GridTile(np.zeros((3, 3)), note="silent")]], style=TileGridStyle("tile"))
    )
    assert footer_text(figure) == "all signed tiles are zero"
    assert text_of(figure, "caption-0-0") == "all zero" and text_of(figure, "note-0-0") == "silent"
    assert set(np.unique(images(figure, "tile")["tile-0-0"].get_array())) == {128}


def test_missing_tile_is_an_empty_frame_with_its_note():
    tiles = [[signed(RANDOM), GridTile(None, note="unsupported"), None]]
    figure = draw(TileGrid(("net",), tiles))
    assert list(images(figure, "tile")) == ["tile-0-0"]
    assert text_of(figure, "note-0-1") == "unsupported" and not texts(figure, "note-0-2")
    (ground,) = [artist for artist in figure.axes[0].patches if artist.get_width() < 3]
    (note,) = texts(figure, "note-0-1")
    x, y = note.get_position()
    assert ground.get_x() < x < ground.get_x() + ground.get_width()
    assert ground.get_y() < y < ground.get_y() + ground.get_height()


def test_notes_that_do_not_fit_are_replaced_by_letters():
    row = [signed(RANDOM) for _ in range(11)]
    figure = draw(TileGrid(("net",), [[*row, GridTile(None, note="unsupported operations")]]))
    assert text_of(figure, "note-0-11") == "a"
    assert "a: unsupported operations" in footer_text(figure)


def test_marks_are_drawn_at_their_boxes():
    tile = GridTile(
        np.full((20, 40, 3), 0.5), "image", marks=(Mark((10, 5, 20, 15), 3), Mark((0, 0, 40, 20)))
    )
    figure = draw(TileGrid(("net",), [[tile]]))
    left, right, _, top = extent(figure, "tile-0-0")
    (box,) = [artist for artist in figure.findobj() if artist.get_gid() == "mark-0-0-0"]
    zoom = (right - left) / 40
    assert box.get_x() == pytest.approx(left + 10 * zoom) and box.get_width() == pytest.approx(10 * zoom)
    assert box.get_y() == pytest.approx(top + 5 * zoom) and box.get_height() == pytest.approx(10 * zoom)
    assert text_of(figure, "label-0-0-3") == "3" and len(texts(figure, "label")) == 1
    assert gids(figure, "mark") == ["mark-0-0-0", "mark-0-0-1"]


def test_tiles_of_a_row_share_one_zoom_and_maps_fill_their_frames():
    tiles = [
        GridTile(np.full((20, 20), 0.5), "image"),
        GridTile(np.ones((20, 12)), cut=Cut(left=True)),
        GridTile(np.ones((5, 5)), "map"),
    ]
    figure = draw(TileGrid(("net",), [tiles]))
    image, cut, heat = (extent(figure, f"tile-0-{n}") for n in range(3))
    side = image[1] - image[0]
    assert cut[1] - cut[0] == pytest.approx(side * 12 / 20)
    assert cut[1] - image[1] == pytest.approx(side + 0.06)  # aligned with the right of its frame
    assert heat[1] - heat[0] == pytest.approx(side) and heat[2] - heat[3] == pytest.approx(side)
    assert "light grey: outside the image" in footer_text(figure)


def test_pixels_are_square():
    sizes = [(3, 40), (40, 3), (7, 9)]
    tiles = [
        [GridTile(np.ones(sizes[(r + c) % 3]), "map" if r == 2 else "signed") for c in range(3)]
        for r in range(3)
    ]
    for gid, image in images(draw(TileGrid(("net",), tiles)), "tile").items():
        rows, columns = image.get_array().shape[:2]
        left, right, bottom, top = image.get_extent()
        assert (right - left) / columns == pytest.approx((bottom - top) / rows), gid


def test_captions_are_below_their_tiles():
    tiles = [[GridTile(np.ones((3, 3)), caption=("activation 1.5", "epoch 3"))] * 2] * 2
    figure = draw(TileGrid(("net",), tiles))
    check_texts(figure)
    assert text_of(figure, "caption-1-0-") == "activation 1.5 epoch 3"
    assert texts(figure, "caption-0-1-0")[0].get_position()[1] > extent(figure, "tile-0-1")[2]


def test_unusual_characters_in_names_are_drawn(tmp_path):
    name = "猫 $x_1^2$ \\alpha %d {} <&> \ud800\x00\x1b \u202e.jpg"
    tile = GridTile(np.ones((3, 3)), caption=(name,), note=name)
    grid = TileGrid((name,), [[tile]], (name,), (name,), TileGridStyle("tile"), name, name, name)
    ElementTree.fromstring(save(draw(grid), tmp_path / "grid.svg").read_bytes())


def test_same_spec_gives_the_same_file(tmp_path):
    first = save(draw(random_grid(2, 4)), tmp_path / "first.png").read_bytes()
    assert save(draw(random_grid(2, 4)), tmp_path / "again.png").read_bytes() == first


def test_labels_are_upright_if_a_word_is_wider_than_a_tile():
    titles = ["patch", "deconvnet", "guided backprop", "integrated gradients", "occlusion", "LRP", "contrast"]
    grid = TileGrid(("net",), [[signed(RANDOM)] * 7] * 2, (), titles)
    narrow, wide = draw(grid, width=3.2), draw(grid, width=9)
    for figure, angle in ((narrow, 90), (wide, 0)):
        check_texts(figure)
        labels = texts(figure, "column-label")
        assert {label.get_rotation() for label in labels} == {angle}
    assert [label.get_text() for label in texts(narrow, "column-label")] == titles


def test_line_break_in_a_row_label_starts_a_new_line():
    grid = TileGrid(("net",), [[signed(RANDOM)]], ("channel 5\nat (3, 4)",))
    figure = draw(grid)
    assert [label.get_text() for label in texts(figure, "row-label")] == ["channel 5", "at (3, 4)"]


@pytest.mark.parametrize("scale", ["row", "column", "tile"])
def test_limits_can_be_left_out(scale):
    def figure_with(limits):
        style = TileGridStyle(scale, limits=limits)
        return draw(TileGrid(("net",), [[signed(RANDOM)] * 2] * 2, style=style))

    text = text_of(figure_with(True), "scale")
    assert f"each {scale} has its own colour scale; grey is zero (limits" in text
    plain = figure_with(False)
    assert f"each {scale} has its own colour scale; grey is zero" in text_of(plain, "scale")
    assert "±" in "".join(text.get_text() for text in texts(figure_with(True)))
    assert "±" not in "".join(text.get_text() for text in texts(plain))
    assert len(plain.colour_scale["limits"]) == 4


@pytest.mark.parametrize("medium", ["paper", "slide"])
@pytest.mark.parametrize("size", [(1, 1), (3, 6), (9, 2)])
def test_texts_do_not_overlap_for_other_media(size, medium):
    figure = draw(random_grid(*size, scale="tile", medium=medium, long=size[1] < 3))
    check_texts(figure)
    if medium == "slide":
        assert figure.get_size_inches() == pytest.approx((40 / 3, 7.5))
    else:
        assert figure.get_figwidth() == pytest.approx(86 / 25.4)


def test_paper_figure_uses_two_columns_if_the_tiles_do_not_fit_one():
    figure = draw(random_grid(2, 11, scale="tile", medium="paper"))
    check_texts(figure)
    assert 86 / 25.4 < figure.get_figwidth() <= PAGE + 1e-9


def test_too_many_tiles_for_a_slide_raise():
    with pytest.raises(FigureError, match="does not fit on a slide: it has too many tiles"):
        draw(random_grid(90, 2, medium="slide"))
