"""Figures for a column of a paper and for a slide."""

from __future__ import annotations

import pytest
from conftest import build
from helpers.artists import check_texts, extent, texts
from helpers.top_nine_figures import random_top_nine
from matplotlib.figure import Figure

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.spec.style import LAYOUTS, MEDIA

COLUMN = 86 / 25.4


def smallest_type(figure: Figure) -> float:
    return min(text.get_fontsize() for text in texts(figure))


@pytest.mark.slow
@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("count", [1, 2, 9, 16, 25])
def test_sheet_texts_do_not_overlap_for_each_medium(count, medium):
    check_texts(draw(build(count, medium=medium, percentile=98, crop_text="cut somewhere " * 3)))


@pytest.mark.parametrize("medium", ["paper", "slide"])
@pytest.mark.parametrize("size", [(30, 150), (150, 30)])
def test_sheet_texts_do_not_overlap_with_tall_and_wide_images(size, medium):
    check_texts(draw(build(5, size, medium=medium, scale="row", zero=(2,))))


@pytest.mark.parametrize("medium", ["paper", "slide"])
def test_sheet_texts_do_not_overlap_without_patches_or_image(medium):
    check_texts(draw(build(6, medium=medium, projection_only=True)))
    check_texts(draw(build(6, medium=medium, image=None)))


@pytest.mark.slow
@pytest.mark.parametrize("medium", ["paper", "slide"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, (4, 3), 16])
def test_top_nine_texts_do_not_overlap_for_each_medium(channels, layout, medium):
    check_texts(draw(random_top_nine(channels, layout=layout, medium=medium, zero=(2,), note="silent")))


@pytest.mark.parametrize("make", [build, random_top_nine])
def test_paper_figure_is_one_column_wide_with_type_of_at_least_six_points(make):
    figure = draw(make(9, medium="paper"))
    assert figure.get_figwidth() == pytest.approx(COLUMN)
    assert smallest_type(figure) >= 6 and figure.get_figheight() <= 9.4


@pytest.mark.slow
@pytest.mark.parametrize("make", [build, random_top_nine])
@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_slide_has_aspect_ratio_16_to_9(make, count):
    figure = draw(make(count, medium="slide"))
    assert figure.get_size_inches() == pytest.approx((40 / 3, 7.5))


@pytest.mark.parametrize(("count", "least"), [(1, 13), (4, 12), (9, 10.5)])
def test_slide_has_large_type(count, least):
    assert smallest_type(draw(build(count, medium="slide"))) >= least
    assert min(text.get_fontsize() for text in texts(draw(build(count, medium="slide")), "title-0")) >= 15


def test_line_width_scales_with_the_slide():
    def line_width(medium: str) -> float:
        figure = draw(build(4, medium=medium))
        (box,) = [artist for artist in figure.findobj() if artist.get_gid() == "box-1"]
        return box.get_linewidth()

    assert line_width("slide") > 1.8 * line_width("screen") == 1.8 * line_width("paper")


def test_slide_images_are_inside_the_page():
    for spec in (build(9, medium="slide"), random_top_nine(9, medium="slide")):
        figure = draw(spec)
        width, height = figure.axes[0].get_xlim()[1], figure.axes[0].get_ylim()[0]
        for gid in [image.get_gid() for image in figure.axes[0].get_images()]:
            left, right, bottom, top = extent(figure, gid)
            assert 0 <= left < right <= width and 0 <= top < bottom <= height, gid


def test_slide_pixels_are_square():
    figure = draw(build(9, (50, 90), field=21, medium="slide"))
    for image in figure.axes[0].get_images():
        if image.get_gid() != "key":
            rows, columns = image.get_array().shape[:2]
            left, right, bottom, top = image.get_extent()
            assert (right - left) / columns == pytest.approx((bottom - top) / rows)


@pytest.mark.parametrize("width", [5.0, 10.0])
def test_given_width_replaces_the_width_of_the_medium(width):
    assert draw(build(4, medium="paper"), width=width).get_figwidth() == pytest.approx(width)
    slide = draw(build(4, medium="slide"), width=width)
    assert slide.get_size_inches() == pytest.approx((width, width * 9 / 16))
    check_texts(slide)


def test_slide_uses_the_given_number_of_columns():
    figure = draw(build(6, medium="slide", columns=6))
    assert len({round(extent(figure, f"patch-{n}")[3], 4) for n in range(1, 7)}) == 1


@pytest.mark.slow
def test_too_many_tiles_for_a_slide_raise():
    with pytest.raises(FigureError, match=r"does not fit on a slide: it has too many tiles\. Show fewer"):
        draw(build(200, medium="slide", columns=1))
