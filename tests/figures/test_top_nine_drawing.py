"""Drawing of top-nine figures, checked through the matplotlib artists rather than pixels."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from helpers.artists import check_texts, extent, gids, images, text_of, texts
from helpers.top_nine_figures import random_top_nine

from deconvviz.errors import FigureError
from deconvviz.figures.page.save import save
from deconvviz.figures.spec.colour import limit_of
from deconvviz.figures.spec.style import LAYOUTS, TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure
from deconvviz.figures.top_nine.draw import draw_top_nine

pytestmark = pytest.mark.slow

HALF_A_STEP = 0.5 / 255 + 1e-9  # colours are drawn with 8 bits


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 5, 9, 16])
def test_texts_do_not_overlap(channels, layout):
    check_texts(draw_top_nine(random_top_nine(channels, layout=layout)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [1.4, 2, 5, 12])
def test_texts_do_not_overlap_at_other_widths(width, layout):
    figure = draw_top_nine(random_top_nine(3, layout=layout), width=width)
    assert figure.get_figwidth() == pytest.approx(width)
    check_texts(figure)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 4, 16])
def test_texts_do_not_overlap_for_other_numbers_of_crops(k):
    check_texts(draw_top_nine(random_top_nine(6, k=k)))


@pytest.mark.parametrize("dpi", [50, 96, 300])
def test_texts_do_not_overlap_at_other_resolutions(dpi):
    check_texts(draw_top_nine(random_top_nine((4, 3), zero=(2,), note="silent")), dpi)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_long_names_stay_inside_the_figure(layout):
    spec = random_top_nine(4, layout=layout)
    blocks = [
        replace(block, name="a very long channel " * 9, caption=("$\\alpha_1^2$ 猫 " * 9, "x" * 200))
        for block in spec.panels[0].blocks
    ]
    panel = LayerPanel(("conv " * 90, "explained " * 90), tuple(blocks))
    figure = draw_top_nine(replace(spec, panels=(panel,), title=("long " * 90,), footer="note " * 90))
    check_texts(figure)
    assert "…" in text_of(figure, "caption-0-0-0")


def test_type_is_at_least_six_points():
    for channels in (1, 16):
        assert min(text.get_fontsize() for text in texts(draw_top_nine(random_top_nine(channels)))) >= 6


def test_each_crop_has_a_projection_and_a_patch():
    figure = draw_top_nine(random_top_nine((2, 3), k=4))
    names = [f"{panel}-{block}-{crop}" for panel in (0, 1) for block in range(2 + panel) for crop in range(4)]
    assert list(images(figure, "projection")) == [f"projection-{name}" for name in names]
    assert list(images(figure, "patch")) == [f"patch-{name}" for name in names]


def test_captions_of_layout_panels():
    spec = random_top_nine((1, 2))
    figure = draw_top_nine(spec)
    assert [text_of(figure, f"panel-{n}") for n in (0, 1)] == [
        f"conv{n}_1 · receptive field 9 px" for n in (1, 2)
    ]
    for number, panel in enumerate(spec.panels):
        assert text_of(figure, f"head-{number}-") == "projections patches"
        for index, block in enumerate(panel.blocks):
            assert text_of(figure, f"caption-{number}-{index}-") == block.name
            assert text_of(figure, f"patch-caption-{number}-{index}-") == f"{block.name} {block.caption[0]}"


def test_captions_of_layout_pairs():
    spec = random_top_nine(2, layout="pairs")
    figure = draw_top_nine(spec)
    assert text_of(figure, "head-0-") == "projections patches projections patches"
    for index, block in enumerate(spec.panels[0].blocks):
        assert text_of(figure, f"caption-0-{index}-") == f"{block.name} {block.caption[0]}"
    assert not texts(figure, "patch-caption")


def test_activations_in_captions_are_not_shortened():
    blocks = [
        ChannelBlock("channel 3", ("123456.7 … 112233.4",), random_top_nine(1).panels[0].blocks[0].crops)
    ] * 4
    figure = draw_top_nine(
        TopNineFigure(("net",), (LayerPanel(("conv",), tuple(blocks)),), TopNineStyle(columns=4))
    )
    assert text_of(figure, "patch-caption-0-0") == "channel 3 123456.7 … 112233.4"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_projections_of_a_channel_share_one_scale_with_zero_at_mid_grey(layout):
    spec = random_top_nine((2, 2), zero=(4,), layout=layout, percentile=97)
    shown = images(draw_top_nine(spec), "projection")
    for number, panel in enumerate(spec.panels):
        for index, block in enumerate(panel.blocks):
            limit = limit_of([crop.projection for crop in block.crops], percentile=97).value
            for which, crop in enumerate(block.crops):
                colours = shown[f"projection-{number}-{index}-{which}"].get_array() / 255
                expected = 0.5 + np.clip(crop.projection / limit, -1, 1) / 2
                np.testing.assert_allclose(colours, expected, atol=HALF_A_STEP)


def test_patches_are_drawn_with_their_colours():
    spec = random_top_nine(1)
    for which, crop in enumerate(spec.panels[0].blocks[0].crops):
        shown = images(draw_top_nine(spec), "patch")[f"patch-0-0-{which}"].get_array() / 255
        np.testing.assert_allclose(shown, crop.patch, atol=HALF_A_STEP)


def test_scale_is_described_and_its_limits_are_in_the_manifest():
    spec = random_top_nine(4, units="in pixel values (white = 1)", crop_text="cut somewhere")
    figure = draw_top_nine(spec, width=7)
    assert text_of(figure, "scale") == (
        "each channel has its own colour scale; grey is zero · clipped at the 99.5th percentile · "
        "cut somewhere · light grey: outside the image"
    )
    limits = [block.limit(99.5) for block in spec.panels[0].blocks]
    assert figure.colour_scale == {
        "units": "in pixel values (white = 1)",
        "limits": [limit.value for limit in limits],
        "clipped": [limit.clipped for limit in limits],
    }
    pairs = draw_top_nine(replace(spec, style=TopNineStyle("pairs", 100)))
    assert "clipped" not in text_of(pairs, "scale")


@pytest.mark.parametrize(("layout", "where"), [("panels", "caption-0-0-1"), ("pairs", "caption-0-0-1")])
def test_crop_size_is_in_the_caption_of_the_projections(layout, where):
    spec = random_top_nine(2, layout=layout)
    blocks = [replace(block, size="35 px") for block in spec.panels[0].blocks]
    figure = draw_top_nine(replace(spec, panels=(LayerPanel(("conv",), blocks),)))
    assert text_of(figure, where).endswith("35 px")
    check_texts(figure)


def test_zoom_each_gives_each_channel_its_own_zoom():
    def block(side: int) -> ChannelBlock:
        return ChannelBlock("channel 3", (), (Crop(np.ones((side, side)), np.full((side, side), 0.5)),) * 9)

    panel = LayerPanel(("conv",), (block(20), block(5)))
    for zoom_each, ratio in ((False, 4), (True, 1)):
        figure = draw_top_nine(TopNineFigure(("net",), (panel,), zoom_each=zoom_each))
        wide = [extent(figure, f"patch-0-{n}-0")[1] - extent(figure, f"patch-0-{n}-0")[0] for n in (0, 1)]
        assert wide[0] == pytest.approx(ratio * wide[1])
        assert ("light grey" in text_of(figure, "scale")) == (not zoom_each)


def test_light_grey_is_mentioned_only_if_there_is_some():
    whole = Crop(np.ones((5, 5)), np.full((5, 5), 0.5))
    spec = TopNineFigure(
        ("net",), (LayerPanel(("conv",), (ChannelBlock("channel 3", (), (whole,) * 3),)),), top=9
    )
    figure = draw_top_nine(spec)
    assert "light grey" not in text_of(figure, "scale") + text_of(figure, "foot")
    assert "clipped" not in text_of(figure, "scale")


def test_figure_of_zeros_is_described():
    figure = draw_top_nine(random_top_nine(2, zero=range(9)))
    assert "all projections are zero" in text_of(figure, "scale")
    assert text_of(figure, "caption-0-1-") == "channel 7 all zero"
    for image in images(figure, "projection").values():
        assert set(np.unique(image.get_array())) == {128}


def test_notes_that_fit_are_written_in_their_crops():
    figure = draw_top_nine(random_top_nine(1, zero=(3, 5), note="silent"))
    assert gids(figure, "note") == ["note-0-0-3-0", "note-0-0-5-0"]
    assert text_of(figure, "note-0-0-3") == "silent"
    left, right, bottom, top = extent(figure, "projection-0-0-3")
    (note,) = texts(figure, "note-0-0-3")
    assert left < note.get_position()[0] < right and top < note.get_position()[1] < bottom
    assert "silent" not in text_of(figure, "foot")


def test_notes_are_replaced_by_letters_if_one_does_not_fit():
    crops = list(random_top_nine(1, zero=range(9)).panels[0].blocks[0].crops)
    crops[2] = replace(crops[2], note="silent")
    crops[4] = replace(crops[4], note="no signal reaches the pixels from this unit")
    crops[7] = replace(crops[7], note="silent")
    blocks = (ChannelBlock("channel 3", (), crops),) * 16
    figure = draw_top_nine(TopNineFigure(("net",), (LayerPanel(("conv",), blocks),)))
    assert [text_of(figure, f"note-0-15-{n}") for n in (2, 4, 7)] == ["a", "b", "a"]
    footer = text_of(figure, "scale") + text_of(figure, "foot")
    assert "a: silent · b: no signal reaches the pixels from this unit" in footer
    check_texts(figure)


def test_note_with_a_word_that_does_not_fit_is_replaced_by_a_letter():
    figure = draw_top_nine(random_top_nine(16, zero=(1,), note="motionless"))
    assert text_of(figure, "note-0-0-1") == "a"
    assert "a: motionless" in text_of(figure, "scale") + text_of(figure, "foot")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_projection_and_patch_have_the_same_position_in_their_blocks(layout):
    spec = random_top_nine((4, 2), (30, 12), layout=layout)
    figure = draw_top_nine(spec)
    shown = {gid: image.get_extent() for gid, image in images(figure, "").items()}
    for number, panel in enumerate(spec.panels):
        for index in range(len(panel.blocks)):
            shifts = []
            for which in range(9):
                projection = np.array(shown[f"projection-{number}-{index}-{which}"])
                patch = np.array(shown[f"patch-{number}-{index}-{which}"])
                shifts.append(patch - projection)
            np.testing.assert_allclose(shifts, [[shifts[0][0], shifts[0][0], 0, 0]] * 9, atol=1e-9)
            assert shifts[0][0] > 0


def test_cut_crops_share_the_zoom_and_are_aligned_with_the_uncut_side():
    def crop(height: int, width: int, **cuts: bool) -> Crop:
        return Crop(np.ones((height, width)), np.full((height, width), 0.5), **cuts)

    crops = [
        crop(20, 20),
        crop(20, 12, cut_left=True),
        crop(20, 12, cut_right=True),
        crop(14, 20, cut_top=True),
        crop(14, 20, cut_bottom=True),
        crop(10, 10, cut_left=True, cut_bottom=True),
        crop(20, 10, cut_left=True, cut_right=True),
    ]
    other = ChannelBlock("channel 4", (), [crop(20, 20)] * 7)  # these crops fill their frames, one row below
    panel = LayerPanel(("conv",), (ChannelBlock("channel 3", (), crops), other))
    figure = draw_top_nine(TopNineFigure(("net",), (panel,), TopNineStyle(columns=1)))
    down = extent(figure, "projection-0-1-0")[3] - extent(figure, "projection-0-0-0")[3]
    for side in ("projection", "patch"):
        frames = [np.array(extent(figure, f"{side}-0-1-{n}")) - [0, 0, down, down] for n in range(7)]
        places = [np.array(extent(figure, f"{side}-0-0-{n}")) for n in range(7)]
        zoom = (frames[0][1] - frames[0][0]) / 20
        free = [  # free pixels at the left, right, bottom and top
            np.array([place[0] - frame[0], frame[1] - place[1], frame[2] - place[2], place[3] - frame[3]])
            / zoom
            for place, frame in zip(places, frames, strict=True)
        ]
        np.testing.assert_allclose(
            free,
            [
                [0, 0, 0, 0],
                [8, 0, 0, 0],
                [0, 8, 0, 0],
                [0, 0, 0, 6],
                [0, 0, 6, 0],
                [10, 0, 10, 0],
                [5, 5, 0, 0],
            ],
            atol=1e-6,
        )


def test_pixels_are_square():
    figure = draw_top_nine(random_top_nine((3, 3), (5, 40)))
    for gid, image in images(figure, "p").items():
        rows, columns = image.get_array().shape[:2]
        left, right, bottom, top = image.get_extent()
        assert (right - left) / columns == pytest.approx((bottom - top) / rows), gid


def test_enlarged_pixels_are_squares_of_one_colour():
    """Check that a crop of 3x3 pixels is drawn with exactly nine colours, without interpolation."""
    random = np.random.default_rng(3)
    crop = Crop(random.standard_normal((3, 3, 3)), random.random((3, 3, 3)))
    figure = draw_top_nine(
        TopNineFigure(("net",), (LayerPanel(("conv1_1",), (ChannelBlock("channel 3", (), (crop,)),)),))
    )
    figure.savefig(buffer := io.BytesIO(), format="raw", dpi=200)
    page = np.frombuffer(buffer.getvalue(), np.uint8).reshape(
        round(figure.get_figheight() * 200 - 0.5), round(figure.get_figwidth() * 200 - 0.5), -1
    )
    left, right, bottom, top = (round(200 * edge) for edge in extent(figure, "patch-0-0-0"))
    inside = page[top + 3 : bottom - 3, left + 3 : right - 3, :3]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) == 9


def test_missing_crops_leave_white_space():
    spec = random_top_nine(2, k=9)
    first, second = spec.panels[0].blocks
    short = replace(spec, panels=(LayerPanel(("conv",), (first, replace(second, crops=second.crops[:2]))),))
    full, figure = draw_top_nine(spec), draw_top_nine(short)
    assert [gid for gid in images(figure, "patch") if gid.startswith("patch-0-1")] == [
        "patch-0-1-0",
        "patch-0-1-1",
    ]
    grounds = [artist for artist in figure.axes[0].patches if artist.get_facecolor() != (1, 1, 1, 1)]
    cut = [crop for block in short.panels[0].blocks for crop in block.crops if crop.size != (9, 9)]
    assert len(grounds) == 2 * len(cut)
    assert extent(figure, "patch-0-1-1") == extent(full, "patch-0-1-1")


def test_block_with_nine_frames_shows_three_crops():
    figure = draw_top_nine(random_top_nine(1, field=1, k=3, top=9))
    sides = [extent(figure, f"patch-0-0-{n}") for n in range(3)]
    assert sides[0][0] < sides[1][0] < sides[2][0]  # the first row of three frames
    assert [side[1] - side[0] for side in sides] == pytest.approx([0.532] * 3, abs=1e-3)
    caption = texts(figure, "caption-0-0-0")[0]
    assert caption.get_position()[1] - sides[0][3] > 3 * 0.53  # with room for two more rows


@pytest.mark.parametrize("width", [0, -1, float("nan"), 1000])
def test_width_out_of_range_raises(width):
    with pytest.raises(FigureError, match="from 1 to 300 inches"):
        draw_top_nine(random_top_nine(1), width=width)


def test_figures_are_not_too_wide_or_high():
    for channels, widest, tallest in ((1, 3.6, 4), (4, 7.01, 5.5), (9, 7.01, 6), (16, 7.01, 6)):
        figure = draw_top_nine(random_top_nine(channels))
        assert 3.45 <= figure.get_figwidth() <= widest, channels
        assert figure.get_figheight() <= tallest, channels


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_same_spec_gives_the_same_file(tmp_path, suffix):
    first = save(draw_top_nine(random_top_nine(2)), tmp_path / f"first.{suffix}").read_bytes()
    again = save(draw_top_nine(random_top_nine(2)), tmp_path / f"again.{suffix}").read_bytes()
    assert first == again
    assert not re.search(rb"CreationDate|<dc:date>|tIME", first)


def test_svg_contains_the_ids(tmp_path):
    root = ElementTree.parse(save(draw_top_nine(random_top_nine(2)), tmp_path / "top_nine.svg"))
    ids = {element.get("id") for element in root.iter()}
    assert {"projection-0-1-8", "patch-0-0-0", "caption-0-1-0", "panel-0-0", "key"} <= ids


def test_drawing_ignores_and_restores_the_users_settings():
    spec = random_top_nine(2)
    plain = draw_top_nine(spec)
    user_settings = {
        "text.usetex": True, "font.family": "serif", "font.weight": "bold", "figure.facecolor": "black",
        "text.color": "red", "image.origin": "lower", "figure.autolayout": True,
        "image.interpolation": "bilinear", "lines.linewidth": 9, "path.sketch": (5, 5, 5),
    }  # fmt: skip
    with matplotlib.rc_context(user_settings):
        before = dict(matplotlib.rcParams)
        figure = draw_top_nine(spec)
        assert dict(matplotlib.rcParams) == before
    assert [text.get_position() for text in texts(figure)] == [text.get_position() for text in texts(plain)]
    assert not any(text.get_usetex() for text in texts(figure))
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert {image.origin for image in images(figure, "").values()} == {"upper"}


def test_drawing_does_not_modify_the_spec():
    spec = random_top_nine(2)
    for block in spec.panels[0].blocks:
        for crop in block.crops:
            crop.projection.flags.writeable = False
            crop.patch.flags.writeable = False
    draw_top_nine(spec)


@pytest.mark.slow
def test_drawing_imports_neither_torch_nor_pyplot():
    code = (
        "import sys, deconvviz.figures.top_nine.draw;"
        "print([m for m in ('torch', 'matplotlib.pyplot', 'deconvviz.engine') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
