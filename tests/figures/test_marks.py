"""Boxes and numbers of units are distinguishable, even in grey and with colour-vision deficiencies."""

from __future__ import annotations

import itertools

import pytest
from conftest import build
from helpers.artists import gids, texts
from helpers.colour_vision import DEFICIENCIES, VIEWS, contrast, difference
from matplotlib.colors import to_hex

from deconvviz.figures.page.style import MARK_COLOURS, mark_of
from deconvviz.figures.sheet.draw import draw_sheet

HEX = {"white": "#ffffff", "black": "#000000"}


def hex_of(colour: str) -> str:
    return HEX.get(colour, colour)


def test_simulation_of_colour_vision():
    assert difference("#ff0000", "#00a000", "normal") > 100
    assert difference("#b35a00", "#6e7a00", "deuteranopia") < 20  # an orange and a green of one lightness
    assert difference("#c06060", "#60a0a0", "protanopia") < difference("#c06060", "#60a0a0", "normal") / 2
    assert difference("#767676", "#767676", "grey") == 0
    assert contrast("#ffffff", "#000000", "normal") == pytest.approx(21)


@pytest.mark.parametrize(("view", "least"), [("normal", 40), ("grey", 9), *((d, 25) for d in DEFICIENCIES)])
def test_eight_colours_differ_in_every_view(view, least):
    for one, other in itertools.combinations(MARK_COLOURS, 2):
        assert difference(one, other, view) >= least, (one, other)


def test_24_units_have_different_marks():
    marks = [mark_of(number) for number in range(1, 25)]
    assert len(set(marks)) == 24
    assert mark_of(1).colour == mark_of(9).colour == mark_of(17).colour
    assert [mark_of(number).core for number in (1, 9, 17)] == [None, "white", "black"]


@pytest.mark.parametrize("view", VIEWS)
def test_units_of_one_colour_differ_in_core_and_number_background(view):
    """Both backgrounds and cores of two units of one colour differ in every view."""
    for first in range(1, 9):
        for one, other in itertools.combinations(
            (mark_of(first), mark_of(first + 8), mark_of(first + 16)), 2
        ):
            grounds = difference(hex_of(one.ground), hex_of(other.ground), view)
            cores = difference(hex_of(one.core or one.colour), hex_of(other.core or other.colour), view)
            assert min(grounds, cores) >= 9, (one, other)


@pytest.mark.parametrize("view", VIEWS)
def test_numbers_contrast_with_their_background(view):
    for number in range(1, 25):
        mark = mark_of(number)
        least = 4.5 if view in ("normal", "grey") else 3.5
        assert contrast(hex_of(mark.ground), hex_of(mark.ink), view) >= least, number


def test_lines_contrast_with_their_edge():
    for number in range(1, 25):
        mark = mark_of(number)
        assert contrast(mark.colour, hex_of(mark.halo), "grey") > 3, number


def test_box_of_each_unit_has_its_number_in_the_image_and_below_its_tile():
    figure = draw_sheet(build(16))
    for number in range(1, 17):
        (box,) = [artist for artist in figure.findobj() if artist.get_gid() == f"box-{number}"]
        assert to_hex(box.get_edgecolor()) == mark_of(number).colour
        for where in ("label", "number"):
            (text,) = texts(figure, f"{where}-{number}")[:1]
            assert text.get_text() == str(number)
            (ground,) = [a for a in figure.findobj() if a.get_gid() == f"ground-{where}-{number}"]
            assert to_hex(ground.get_facecolor()) == hex_of(mark_of(number).ground)
    assert len(gids(figure, "label")) == 16
