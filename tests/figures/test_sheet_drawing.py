"""Drawing of sheets, checked through the matplotlib artists rather than pixels."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from helpers.artists import check_texts, extent, gids, images, text_of, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deconvviz.errors import FigureError
from deconvviz.figures.page.style import sheet_style
from deconvviz.figures.sheet.draw import draw_sheet
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import SheetStyle

MakeSheet = Callable[..., Sheet]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 9, 16, 25, 64])
def test_texts_do_not_overlap(make_sheet, count):
    check_texts(draw_sheet(make_sheet(count)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(30, 150), (150, 30), (40, 80), (90, 40)])
@pytest.mark.parametrize("count", [1, 9, 25])
def test_texts_do_not_overlap_with_tall_and_wide_images(make_sheet, count, size):
    check_texts(draw_sheet(make_sheet(count, size)))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 16, 64])
def test_texts_do_not_overlap_with_projections_only(make_sheet, count):
    check_texts(draw_sheet(make_sheet(count, projection_only=True)))


@pytest.mark.slow
@pytest.mark.parametrize("field", [1, 3, 59, None])
@pytest.mark.parametrize("scale", ["row", "tile"])
def test_texts_do_not_overlap_for_any_field_and_scale(make_sheet, field, scale):
    check_texts(draw_sheet(make_sheet(9, field=field, scale=scale, percentile=99.5)))


@pytest.mark.parametrize("width", [3.45, 5, 12])
def test_texts_do_not_overlap_at_other_widths(make_sheet, width):
    figure = draw_sheet(make_sheet(6), width=width)
    assert figure.get_figwidth() == width
    check_texts(figure)


@pytest.mark.parametrize("dpi", [50, 96, 300])
def test_texts_do_not_overlap_at_other_resolutions(make_sheet, dpi):
    check_texts(draw_sheet(make_sheet(9, zero=(2,))), dpi)


def test_texts_do_not_overlap_without_an_image(make_sheet):
    figure = draw_sheet(make_sheet(5, image=None))
    check_texts(figure)
    assert not images(figure, "image") and not gids(figure, "box")


def test_long_names_stay_inside_the_figure(make_sheet):
    path = "/data/" + "sehr_langer_ordner_" * 20 + "/$\\alpha_1^2$ 猫.jpg"
    sheet = make_sheet(3, title=(path, path, "a word " * 80), footer=path, units="of " + path)
    figure = draw_sheet(sheet)
    check_texts(figure)
    assert text_of(figure, "title").count(r"/$\alpha_1^2$ �.jpg") == 2
    figure.savefig("/dev/null", format="png")  # would raise if the name were parsed as mathematics


def test_long_captions_are_wrapped():
    caption = ("features.denseblock4.denselayer16.conv2 · channel 1023", "at (6, 7) · activation 123.45")
    tiles = tuple(Tile(n, caption, np.ones((3, 3)), np.ones((3, 3))) for n in range(1, 7))
    figure = draw_sheet(Sheet(("net",), tiles, style=SheetStyle(columns=6)))
    check_texts(figure)
    shown = text_of(figure, "caption-4")
    assert all(word in shown for word in ("channel 1023", "at (6, 7)", "activation", "123.45"))


def test_type_is_at_least_six_points(make_sheet):
    for count in (1, 9, 25):
        assert min(text.get_fontsize() for text in texts(draw_sheet(make_sheet(count)))) >= 6


def test_each_tile_has_patch_projection_number_and_caption(make_sheet):
    sheet = make_sheet(9)
    figure = draw_sheet(sheet)
    assert list(images(figure, "patch")) == [f"patch-{n}" for n in range(1, 10)]
    assert list(images(figure, "projection")) == [f"projection-{n}" for n in range(1, 10)]
    for tile in sheet.tiles:
        assert text_of(figure, f"number-{tile.number}") == str(tile.number)
        assert text_of(figure, f"caption-{tile.number}-") == " ".join(tile.caption)
        assert text_of(figure, f"label-{tile.number}") == str(tile.number)
        np.testing.assert_array_equal(images(figure, "patch")[f"patch-{tile.number}"].get_array(), tile.patch)


def test_projections_share_one_scale_with_zero_at_mid_grey(make_sheet):
    sheet = make_sheet(4, zero=(2,))
    largest = max(np.abs(tile.projection).max() for tile in sheet.tiles)
    shown = images(draw_sheet(sheet), "projection")
    for tile in sheet.tiles:
        colours = shown[f"projection-{tile.number}"].get_array()
        np.testing.assert_allclose(colours, 0.5 + tile.projection / largest / 2, atol=1e-12)
    assert np.all(shown["projection-2"].get_array() == 0.5)


def test_scale_row_is_applied_and_described(make_sheet):
    sheet = make_sheet(6, scale="row", columns=3)
    figure = draw_sheet(sheet)
    for tiles in (sheet.tiles[:3], sheet.tiles[3:]):
        largest = max(np.abs(tile.projection).max() for tile in tiles)
        assert largest in figure.colour_scale["limits"]
        shown = images(figure, "projection")
        contrast = [np.abs(shown[f"projection-{tile.number}"].get_array() - 0.5).max() for tile in tiles]
        assert max(contrast) == pytest.approx(0.5) and min(contrast) < 0.5
    assert len(figure.colour_scale["limits"]) == 2
    assert "each row has its own colour scale; grey is zero" in text_of(figure, "scale")


def test_scale_tile_is_applied_and_described(make_sheet):
    sheet = make_sheet(3, scale="tile")
    figure = draw_sheet(sheet)
    for tile in sheet.tiles:
        colours = images(figure, "projection")[f"projection-{tile.number}"].get_array()
        assert np.abs(colours - 0.5).max() == pytest.approx(0.5)
    assert figure.colour_scale["limits"] == [np.abs(tile.projection).max() for tile in sheet.tiles]
    assert "each projection has its own colour scale; grey is zero" in text_of(figure, "scale")


def test_limits_are_in_the_manifest_and_not_in_the_caption(make_sheet):
    sheet = make_sheet(2, field=None, units="of the image's range 0 to 1", crop_text="cut somewhere")
    largest = max(np.abs(tile.projection).max() for tile in sheet.tiles)
    figure = draw_sheet(sheet, width=9)
    assert text_of(figure, "scale") == "one colour scale for all projections; grey is zero · cut somewhere"
    assert [text_of(figure, f"key-{end}") for end in ("low", "middle", "high")] == ["−", "0", "+"]
    assert figure.colour_scale == {
        "units": "of the image's range 0 to 1", "limits": [largest], "clipped": [0.0],
    }  # fmt: skip


def test_zero_label_is_below_the_middle_of_the_colour_bar(make_sheet):
    figure = draw_sheet(make_sheet(2))
    left, right, bottom, _ = extent(figure, "key")
    (zero,) = texts(figure, "key-middle")
    box = zero.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    middle, top = figure.axes[0].transData.inverted().transform([(box.x0 + box.x1) / 2, box.y1])
    assert middle == pytest.approx((left + right) / 2, abs=0.01)
    assert top > bottom


def test_clipping_is_described_by_its_percentile():
    projection = np.arange(-50.0, 51.0)[None]
    tile = Tile(1, ("conv1_1",), projection, np.ones((1, 101)))
    figure = draw_sheet(Sheet(("net",), (tile,), style=SheetStyle(percentile=90)))
    assert "clipped at the 90th percentile" in text_of(figure, "scale")
    assert figure.colour_scale["limits"] == [46]
    assert figure.colour_scale["clipped"] == [0.08]  # ±47 to ±50 of 100


def test_clipping_is_not_mentioned_if_nothing_is_clipped():
    flat = Tile(1, ("conv1_1",), np.ones((5, 5)), np.ones((5, 5)))
    figure = draw_sheet(Sheet(("net",), (flat,), style=SheetStyle(percentile=90)))
    assert "clipped" not in text_of(figure, "scale")


def test_note_of_a_zero_unit_is_inside_its_frame(make_sheet):
    figure = draw_sheet(make_sheet(9, zero=(4,)))
    note = texts(figure, "note-4-")
    assert " ".join(line.get_text() for line in note) == "zero: this unit is not active here"
    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = images(figure, "projection-4")["projection-4"].get_window_extent(renderer)
    for line in note:
        box = line.get_window_extent(renderer)
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    assert not texts(figure, "note-5")


def test_sheet_of_zeros_is_described(make_sheet):
    figure = draw_sheet(make_sheet(2, zero=(1, 2)))
    assert "all projections are zero" in text_of(figure, "scale")


def test_long_note_on_a_non_zero_projection_is_shortened():
    tile = Tile(1, ("fc8",), np.ones((9, 9)), np.ones((9, 9)), note="the whole channel, " * 20)
    figure = draw_sheet(Sheet(("net",), (tile,)))
    check_texts(figure)
    assert "…" in text_of(figure, "note-1")


def test_boxes_match_the_receptive_fields(make_sheet):
    sheet = make_sheet(9)
    figure = draw_sheet(sheet)
    left, right, bottom, top = extent(figure, "image")
    height, width = sheet.image_size
    for tile in sheet.tiles:
        (box,) = [artist for artist in figure.findobj() if artist.get_gid() == f"box-{tile.number}"]
        x0, y0, x1, y1 = tile.box
        assert box.get_x() == pytest.approx(left + x0 / width * (right - left))
        assert box.get_y() == pytest.approx(top + y0 / height * (bottom - top))
        assert box.get_width() == pytest.approx((x1 - x0) / width * (right - left))
        assert box.get_height() == pytest.approx((y1 - y0) / height * (bottom - top))


def cropped_tiles() -> tuple[np.ndarray, tuple[Tile, ...]]:
    """Return an image and three tiles: crop inside the field, crop equal to the field, whole-image field."""
    image = np.full((60, 80, 3), 0.5)
    boxes = [((10, 10, 40, 40), (15, 12, 35, 32)), ((50, 20, 70, 40), (50, 20, 70, 40)),
             ((0, 0, 80, 60), (30, 30, 50, 50))]  # fmt: skip
    return image, tuple(
        Tile(number, ("conv",), np.ones((20, 20)), np.ones((20, 20)), field, crop_box=crop)
        for number, (field, crop) in enumerate(boxes, start=1)
    )


def test_crop_has_a_solid_box_and_the_field_a_dashed_box():
    image, tiles = cropped_tiles()
    figure = draw_sheet(Sheet(("net",), tiles, image))
    assert gids(figure, "box") == ["box-1", "box-2", "box-3"] and gids(figure, "field") == ["field-1"]
    left, right, bottom, top = extent(figure, "image")
    for gid, box in (("box-1", tiles[0].crop_box), ("field-1", tiles[0].box), ("box-3", tiles[2].crop_box)):
        (drawn,) = [artist for artist in figure.findobj() if artist.get_gid() == gid]
        assert drawn.get_x() == pytest.approx(left + box[0] / 80 * (right - left))
        assert drawn.get_y() == pytest.approx(top + box[1] / 60 * (bottom - top))
        assert drawn.get_width() == pytest.approx((box[2] - box[0]) / 80 * (right - left))
        assert (drawn.get_linestyle() in ("-", "solid")) == gid.startswith("box")
    assert [line.get_text() for line in texts(figure, "image-note")] == [
        "solid box: area shown · dashed box: receptive field",
        "3: receptive field is the whole image",
    ]
    check_texts(figure)


def test_crops_of_one_size_fill_their_frames():
    image, tiles = cropped_tiles()
    figure = draw_sheet(Sheet(("net",), tiles, image))
    sides = {round(extent(figure, f"patch-{n}")[1] - extent(figure, f"patch-{n}")[0], 6) for n in (1, 2, 3)}
    assert len(sides) == 1 and "light grey" not in text_of(figure, "scale")


def test_boxes_of_different_units_have_different_colours(make_sheet):
    figure = draw_sheet(make_sheet(3))
    colours = []
    for number in (1, 2, 3):
        (box,) = [artist for artist in figure.findobj() if artist.get_gid() == f"box-{number}"]
        colours.append(box.get_edgecolor())
    assert len(set(colours)) == 3


def test_numbers_in_the_image_do_not_overlap(make_sheet):
    figure = draw_sheet(make_sheet(64, field=55))
    renderer = FigureCanvasAgg(figure).get_renderer()
    with sheet_style():
        boxes = [text.get_window_extent(renderer) for text in texts(figure, "label")]
    assert len(boxes) == 64
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_field_of_the_whole_image_is_described_instead_of_drawn(make_sheet):
    figure = draw_sheet(make_sheet(4, field=None))
    assert text_of(figure, "image-note") == "all: receptive field is the whole image"
    assert not gids(figure, "box") and not gids(figure, "label")


def test_centre_of_a_whole_image_field_is_marked_by_a_dot(make_sheet):
    tiles = [
        Tile(
            number, ("conv5_4",), np.ones((60, 80)), np.ones((60, 80)), (0, 0, 80, 60), (number * 10.0, 300.0)
        )
        for number in (1, 2, 4)
    ]
    figure = draw_sheet(make_sheet(1, tiles=tuple(tiles)))
    assert text_of(figure, "image-note") == "all: receptive field is the whole image (dot: its centre)"
    assert gids(figure, "centre") == ["centre-1", "centre-2", "centre-4"]
    assert gids(figure, "label") == ["label-1", "label-2", "label-4"]
    left, right, bottom, _ = extent(figure, "image")
    (dot,) = [artist for artist in figure.findobj() if artist.get_gid() == "centre-2"]
    assert dot.get_center() == pytest.approx(
        (left + 0.25 * (right - left), bottom)
    )  # moved to the border of the image


def test_patch_and_projection_touch_and_have_the_same_size(make_sheet):
    figure = draw_sheet(make_sheet(1, field=None))
    patch, projection = extent(figure, "patch-1"), extent(figure, "projection-1")
    assert patch[1] == pytest.approx(projection[0])
    assert patch[2:] == pytest.approx(projection[2:])
    assert patch[1] - patch[0] == pytest.approx(projection[1] - projection[0])


def test_cut_fields_share_the_zoom_and_are_aligned_with_the_uncut_side():
    image = np.full((40, 40, 3), 0.5)
    boxes = [(10, 10, 30, 30), (0, 10, 12, 30), (28, 10, 40, 30), (10, 0, 30, 14)]
    tiles = tuple(
        Tile(n, ("conv",), np.ones((b[3] - b[1], b[2] - b[0])), image[b[1] : b[3], b[0] : b[2]], b)
        for n, b in enumerate(boxes, start=1)
    )
    figure = draw_sheet(Sheet(("net",), tiles, image, SheetStyle(columns=2)))
    whole, left, right, top = (extent(figure, f"patch-{n}") for n in (1, 2, 3, 4))
    side = whole[1] - whole[0]
    assert whole[2] - whole[3] == pytest.approx(side)
    for cut in (left, right):
        assert cut[1] - cut[0] == pytest.approx(side * 12 / 20)
        assert cut[2] - cut[3] == pytest.approx(side)
    assert left[1] == pytest.approx(
        extent(figure, "projection-2")[0] - side * 8 / 20
    )  # aligned with the right of its frame
    assert right[0] == pytest.approx(whole[0])  # aligned with the left of its frame
    assert top[2] - top[3] == pytest.approx(side * 14 / 20)
    assert "light grey: outside the image" in text_of(figure, "scale")


def test_pixels_are_square(make_sheet):
    figure = draw_sheet(make_sheet(9, (50, 90), field=21))
    for gid, image in images(figure, "").items():
        if gid != "key":
            rows, columns = image.get_array().shape[:2]
            left, right, bottom, top = image.get_extent()
            assert (right - left) / columns == pytest.approx((bottom - top) / rows), gid


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 9])
def test_sheet_has_the_given_number_of_columns(make_sheet, columns):
    figure = draw_sheet(make_sheet(9, columns=columns, projection_only=True, field=None))
    tops = [round(extent(figure, f"projection-{n}")[3], 6) for n in range(1, 10)]
    assert [len(list(group)) for _, group in itertools.groupby(tops)] == (
        [columns] * (9 // columns) + ([9 % columns] if 9 % columns else [])
    )


def test_many_columns_make_a_wider_figure(make_sheet):
    figure = draw_sheet(make_sheet(20, columns=20))
    assert figure.get_figwidth() > 7.2
    check_texts(figure)


def test_too_many_columns_for_the_width_raise(make_sheet):
    with pytest.raises(
        FigureError, match=r"20 columns do not fit into a figure 5 inches wide: .* fewer columns"
    ):
        draw_sheet(make_sheet(20, columns=20), width=5)


@pytest.mark.parametrize("width", [0, -1, float("nan"), 1000])
def test_width_out_of_range_raises(make_sheet, width):
    with pytest.raises(FigureError, match="from 1 to 300 inches"):
        draw_sheet(make_sheet(1), width=width)


def test_figures_are_not_too_wide_or_high(make_sheet):
    for count, tallest in ((1, 4), (9, 5), (16, 9.6), (25, 9.6)):
        figure = draw_sheet(make_sheet(count))
        assert 3.45 <= figure.get_figwidth() <= 7.2
        assert figure.get_figheight() <= tallest, count


def test_drawing_ignores_and_restores_the_users_settings(make_sheet):
    sheet = make_sheet(2)
    plain = draw_sheet(sheet)
    user_settings = {
        "text.usetex": True, "font.family": "serif", "font.weight": "bold", "figure.facecolor": "black",
        "text.color": "red", "image.origin": "lower", "figure.autolayout": True,
        "image.interpolation": "bilinear", "lines.linewidth": 9, "path.sketch": (5, 5, 5),
    }  # fmt: skip
    with matplotlib.rc_context(user_settings):
        before = dict(matplotlib.rcParams)
        figure = draw_sheet(sheet)
        assert dict(matplotlib.rcParams) == before
    assert [text.get_position() for text in texts(figure)] == [text.get_position() for text in texts(plain)]
    assert not any(text.get_usetex() for text in texts(figure))
    assert {tuple(text.get_fontfamily()) for text in texts(figure)} == {("DejaVu Sans", "sans-serif")}
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert {image.origin for image in images(figure, "").values()} == {"upper"}
    assert figure.get_layout_engine() is None


def test_sheet_saved_by_the_user_looks_the_same(make_sheet):
    figure = draw_sheet(make_sheet(2))
    figure.savefig(ours := io.BytesIO(), format="raw", dpi=60)
    dark = {"text.hinting": "force_autohint", "savefig.facecolor": "black", "path.sketch": (5, 5, 5)}
    with matplotlib.rc_context(dark):
        figure.savefig(theirs := io.BytesIO(), format="raw", dpi=60)
    assert theirs.getvalue() == ours.getvalue()


def test_drawing_does_not_modify_the_spec(make_sheet):
    sheet = make_sheet(2)
    arrays = [
        sheet.image,
        *(tile.projection for tile in sheet.tiles),
        *(tile.patch for tile in sheet.tiles),
    ]
    for array in arrays:
        array.flags.writeable = False
    draw_sheet(sheet)


@pytest.mark.slow
def test_drawing_imports_neither_torch_nor_pyplot():
    code = (
        "import sys, deconvviz.figures.sheet.draw, deconvviz.figures.page.save;"
        "print([m for m in ('torch', 'matplotlib.pyplot', 'deconvviz.engine') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
