"""Each kind of spec as content of a report: numbers, positions and pixels."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.reports import pixels_of
from helpers.tile_grids import random_grid
from helpers.top_nine_figures import random_top_nine

from deconvviz.figures.page.style import MARK_COLOURS
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import SheetStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.web.page import asset
from deconvviz.web.report import curves, measures, panels, sheet, strongest, tile_grid
from deconvviz.web.report.embedded import Embedded

NAN = float("nan")


def image(seed: int = 0, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)) / 255


def tile(number: int, picture: np.ndarray, box: tuple[int, int, int, int], scale: float = 1.0) -> Tile:
    x0, y0, x1, y1 = box
    projection = np.random.default_rng(number).standard_normal((y1 - y0, x1 - x0, 3)) * scale
    return Tile(number, (f"conv · channel {number}",), projection, picture[y0:y1, x0:x1], box)


def cards(given: Sheet, described: dict | None = None, embedded: Embedded | None = None) -> sheet.SheetBlock:
    return sheet.block_of(given, described or {}, embedded or Embedded(), {}, prefix="r")


def test_patches_of_the_image_are_views_of_the_one_embedded_image() -> None:
    picture, embedded = image(), Embedded()
    boxes = [(0, 0, 12, 12), (10, 20, 30, 40)]
    found = cards(
        Sheet(("t",), [tile(n, picture, b) for n, b in enumerate(boxes, 1)], picture), None, embedded
    )
    assert len(embedded.symbols) == 3  # the image and two projections
    assert found.image is not None
    assert {card.patch.symbol.id for card in found.cards if card.patch} == {found.image.symbol.id}
    assert [card.patch.box for card in found.cards if card.patch] == ["0 0 12 12", "10 20 20 20"]
    assert np.array_equal(pixels_of(found.image.symbol.uri), np.rint(picture * 255))


def test_a_patch_that_is_not_a_part_of_the_image_is_embedded() -> None:
    picture, other = image(0), image(1)
    found = cards(Sheet(("t",), [tile(1, other, (5, 5, 15, 15))], picture))
    (card,) = found.cards
    assert card.patch is not None and found.image is not None
    assert card.patch.symbol.id != found.image.symbol.id
    assert np.array_equal(pixels_of(card.patch.symbol.uri), np.rint(other[5:15, 5:15] * 255))


def test_projections_share_one_scale_and_zero_is_mid_grey() -> None:
    picture = image()
    box = (0, 0, 2, 1)
    pixels = [np.array([[[0.0] * 3, [2.0] * 3]]), np.array([[[-1.0] * 3, [1.0] * 3]])]
    tiles = [Tile(n, ("u",), one, picture[0:1, 0:2], box) for n, one in enumerate(pixels, 1)]
    found = cards(Sheet(("t",), tiles, picture, SheetStyle(percentile=100)))
    shown = [pixels_of(card.projection.symbol.uri)[0, :, 0].tolist() for card in found.cards]
    assert shown == [[128, 255], [64, 191]]
    assert found.scale == "one colour scale for all projections of this layer; grey is zero"
    each = cards(Sheet(("t",), tiles, picture, SheetStyle(percentile=100, scale="tile")))
    assert pixels_of(each.cards[1].projection.symbol.uri)[0, :, 0].tolist() == [0, 255]


def test_ranks_are_by_activation_and_bars_are_shares_of_the_highest() -> None:
    picture = image()
    given = Sheet(("t",), [tile(n, picture, (n, 0, n + 8, 8)) for n in (1, 2, 3)], picture)
    units = [{"channel": n, "activation": value} for n, value in ((1, 2.0), (2, 8.0), (3, -1.0))]
    found = cards(given, {"units": units}).cards
    assert [(card.rank, card.share) for card in found] == [
        ("rank 2 of 3", 0.25),
        ("rank 1 of 3", 1.0),
        ("rank 3 of 3", 0.0),
    ]
    assert [(card.rank, card.share) for card in cards(given).cards] == [("", None)] * 3


def test_boxes_are_those_of_the_tiles_and_small_ones_are_above() -> None:
    picture = image()
    small, large = tile(1, picture, (10, 10, 15, 15)), tile(2, picture, (0, 0, 30, 30))
    crop = Tile(3, ("u",), np.ones((4, 4, 3)), picture[0:4, 0:4], (0, 0, 20, 20), crop_box=(0, 0, 4, 4))
    found = cards(Sheet(("t",), [small, large, crop], picture)).outlines
    assert [(one.number, one.box, one.field) for one in found] == [
        (2, (0, 0, 30, 30), None),
        (1, (10, 10, 15, 15), None),
        (3, (0, 0, 4, 4), (0, 0, 20, 20)),
    ]
    assert [one.card for one in found] == ["r-unit-2", "r-unit-1", "r-unit-3"]


def test_colours_of_boxes_are_those_of_the_figures() -> None:
    style = asset("report.css")
    for number, colour in enumerate(MARK_COLOURS, 1):
        assert f".mark-{number} {{ --mark: {colour};" in style


def test_channel_of_a_card_gets_its_strongest_images() -> None:
    figure, embedded = random_top_nine([2], [20]), Embedded()
    block = strongest.block_of(figure, embedded)
    described = {"network": {"digest": "d"}, "layers": [{"name": "conv", "channels": [5, 3]}]}
    channels = strongest.channels_of(described, block)
    assert set(channels) == {("d", "conv", 5), ("d", "conv", 3)}
    picture = image()
    given = Sheet(("t",), [tile(1, picture, (0, 0, 9, 9)), tile(2, picture, (9, 9, 18, 18))], picture)
    units = [{"channel": 3, "activation": 2.0}, {"channel": 4, "activation": 1.0}]
    about = {"network": {"digest": "d"}, "layer": {"name": "conv"}, "units": units}
    first, second = sheet.block_of(given, about, embedded, channels, prefix="r").cards
    assert first.strongest == block.panels[0].channels[1] and second.strongest is None
    other = {**about, "network": {"digest": "other"}}
    assert sheet.block_of(given, other, embedded, channels, prefix="r").cards[0].strongest is None


def test_tiles_of_the_strongest_images_are_at_most_64_pixels() -> None:
    embedded = Embedded()
    (panel,) = strongest.block_of(random_top_nine([1], [90]), embedded).panels
    (channel,) = panel.channels
    assert channel.count == 9 and channel.name == "channel 0"
    for view in (channel.patches, channel.projections):
        assert (view.width, view.height) == (3 * 64 + 2 * 2,) * 2
        assert view.symbol.uri.startswith("data:image/webp")
    (small,) = strongest.block_of(random_top_nine([1], [9]), embedded).panels
    assert small.channels[0].patches.width == 3 * 9 + 2 * 2  # not enlarged


def test_small_tiles_of_a_grid_have_the_colours_of_the_figure() -> None:
    grid = random_grid(2, 3)
    block = tile_grid.block_of(grid, Embedded())
    assert block.columns == grid.column_labels
    for r, row in enumerate(block.rows):
        for c, cell in enumerate(row.cells):
            colours = grid.colours((r, c))
            assert cell is not None
            if colours is None:
                assert cell.view is None and cell.note == "not recorded"
            else:
                assert cell.view is not None
                expected = np.rint(np.clip(colours, 0, 1) * 255)
                assert np.array_equal(pixels_of(cell.view.symbol.uri), expected)
    assert block.rows[1].label == ("channel 7",)
    assert block.rows[0].cells[1].name == "channel 0, epoch 2"  # type: ignore[union-attr]


def test_maps_have_a_colour_scale_and_marks_keep_their_pixels() -> None:
    values = np.arange(12.0).reshape(3, 4)
    cell = GridTile(values, "map", marks=[Mark((1, 0, 3, 2), 9)])
    grid = TileGrid(("t",), [[cell]], map_name="activation", map_interval=(0.0, 20.0))
    block = tile_grid.block_of(grid, Embedded())
    assert block.heat is not None
    assert (block.heat.name, block.heat.low, block.heat.high) == ("activation", "0", "20")
    assert block.heat.colours[0] == "#440154" and block.heat.colours[-1] == "#fde725"
    (mark,) = block.rows[0].cells[0].marks  # type: ignore[union-attr]
    assert (mark.x, mark.y, mark.width, mark.height, mark.number, mark.mark) == (1, 0, 2, 2, 9, 1)


def plotted(*given: Curve, **settings: object) -> curves.PlottedPanel:
    panel = CurvePanel(given, "angle", "distance", x_units="degrees", **settings)  # type: ignore[arg-type]
    return curves.block_of(Curves(("t",), [panel])).panels[0]


def test_curves_are_drawn_where_their_numbers_are() -> None:
    x, y = np.array([0.0, 50.0, 100.0]), np.array([0.0, 1.0, 0.5])
    panel = plotted(Curve("a", x, y), y_range=(0.0, 1.0))
    left, right, top, bottom = curves.CurvesBlock((), (), "").frame
    (path,) = panel.lines[0].paths
    points = [tuple(map(float, one.split(","))) for one in path.split()]
    width = right - left
    # the range of x has 2 % more on both sides: from -2 to 102
    expected = [left + width * (value + 2) / 104 for value in (0, 50, 100)]
    assert [point[0] for point in points] == pytest.approx(expected, abs=0.01)
    middle = (top + bottom) / 2
    assert [point[1] for point in points] == pytest.approx([bottom, top, middle], abs=0.01)
    assert panel.name == "distance: distance against angle (degrees), a"


def test_unknown_values_leave_gaps_and_are_named_in_the_table() -> None:
    x = np.arange(5.0)
    band = (np.array([0.0, 0, NAN, 2, 3]), np.array([1.0, 1, NAN, 4, 5]))
    panel = plotted(Curve("a", x, np.array([0.5, 0.5, NAN, 3, 4]), band))
    (line,) = panel.lines
    assert [len(path.split()) for path in line.paths] == [2, 2]
    assert [len(path.split()) for path in line.bands] == [4, 4]
    (table,) = panel.tables
    assert table.head == ("angle (degrees)", "a")
    assert table.rows[2:4] == (("2", "unknown"), ("3", "3 [2, 4]"))


def test_curves_with_one_label_share_one_colour_and_references_have_dashes() -> None:
    x = np.arange(3.0)
    lines = [Curve("a", x, x), Curve("b", x, x + 1)]
    first = CurvePanel(lines, "x", "y", references=[Reference(1.0, "chance")])
    second = CurvePanel(lines[1:], "x", "y", references=[Reference(2.0, "edges", "x")])
    block = curves.block_of(Curves(("t",), [first, second]))
    assert [(one.label, one.style, one.reference) for one in block.legend] == [
        ("a", 1, False),
        ("b", 2, False),
        ("chance", 0, True),
        ("edges", 0, True),
    ]
    assert block.panels[0].lines[1].style == block.panels[1].lines[0].style == 2
    assert block.panels[0].references[0].dash != block.panels[1].references[0].dash


def test_bars_have_their_positions_on_the_axis_of_the_panel() -> None:
    panel = BarPanel("likeness", "note", [Bar(0.5, 0.25, 0.75, 0.1), None], "higher")
    negative = BarPanel("gain", "", [Bar(-0.25), Bar(0.5)])
    found = measures.block_of(MeasuresFigure(("t",), ("deconvnet", "other"), [panel, negative]))
    first, missing = found.tables[0].rows
    assert (first.start, first.width, first.low, first.high, first.base) == (0, 50, 25, 75, 10)
    assert (first.value, first.interval, first.baseline) == ("0.50", "0.25 to 0.75", "0.10")
    assert (missing.value, missing.width) == ("unknown", 0)
    below, above = found.tables[1].rows  # the axis is from -0.25 to 1
    assert (below.start, below.width) == (0, 20)
    assert (above.start, above.width) == (20, 40)
    assert above.interval == ""  # no bar of this panel has an interval
    assert found.tables[0].better == "higher is better"


def test_bars_without_interval_and_baseline_have_no_text_for_them() -> None:
    panel = BarPanel("likeness", "", [Bar(0.5, 0.25, 0.75), Bar(0.25)])
    known, unknown = measures.block_of(MeasuresFigure(("t",), ("a", "b"), [panel])).tables[0].rows
    assert (known.interval, known.baseline) == ("0.25 to 0.75", "")
    assert unknown.interval == "interval unknown"  # the other bar of the panel has one


def wide(columns: int, rows: int = 3, labels: tuple[str, ...] = ()) -> TileGrid:
    tiles = [[GridTile(image(side=6), "image") for _ in range(columns)] for _ in range(rows)]
    return TileGrid(("grid",), tiles, row_labels=labels)


@pytest.mark.parametrize(
    ("columns", "rows", "size"), [(1, 1, "large"), (2, 2, "large"), (2, 3, "usual"), (7, 1, "small")]
)
def test_size_of_tiles_follows_their_number(columns: int, rows: int, size: str) -> None:
    assert tile_grid.block_of(wide(columns, rows), Embedded()).size == size


def test_grids_in_a_row_of_panels_share_row_labels_and_wide_ones_get_a_row_of_their_own() -> None:
    x = np.arange(3.0)
    plotted = Curves(("curves",), [CurvePanel([Curve("a", x, x)], "x", "y")])
    rows = ((wide(8, labels=("one", "two", "three")), wide(8)), (wide(3), plotted))
    found = panels.block_of(Panels(("t",), rows), Embedded())
    first, second = found.rows[0]
    assert [row.label for row in second.content.rows] == [("one",), ("two",), ("three",)]
    assert first.content.rows[0].cells[0].name == "one"
    assert [part.width for row in found.rows for part in row] == ["whole", "whole", "narrow", "rest"]
    assert found.rows[1][0].content.rows[0].label == ()


def test_few_tiles_such_as_mosaics_are_not_compressed() -> None:
    mosaic = image(4, 90)
    one = tile_grid.block_of(TileGrid(("t",), [[GridTile(mosaic, "image")]]), Embedded()).rows[0].cells[0]
    assert one is not None and one.view is not None
    np.testing.assert_array_equal(pixels_of(one.view.symbol.uri), np.rint(255 * mosaic))


def test_equal_images_are_embedded_once_and_large_light_ones_are_lossy() -> None:
    embedded, large = Embedded(), image(3, 120)
    assert embedded.whole(large).symbol == embedded.whole(large.copy()).symbol
    light = embedded.light(large)
    assert len(embedded.symbols) == 2
    assert len(light.symbol.uri) < len(embedded.whole(large).symbol.uri)
    assert light.symbol.uri.startswith("data:image/webp")
