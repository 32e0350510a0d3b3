"""Validation of sheets and their tiles before they are drawn."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from deconvviz.errors import FigureError
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import SheetStyle

SETTINGS = {field.name for field in fields(SheetStyle)}
GREY = np.full((4, 6, 3), 0.5)


def tile(**changes: object) -> Tile:
    return Tile(
        **{"number": 1, "caption": ("conv1_1 · channel 3",), "projection": GREY, "patch": GREY, **changes}
    )


def sheet(*tiles: Tile, **changes: object) -> Sheet:
    style = SheetStyle(**{name: changes.pop(name) for name in SETTINGS if name in changes})
    return Sheet(**{"title": ("vgg19",), "tiles": tiles or (tile(),), "style": style, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": -1}, "tile number -1: it must be a whole number of at least 0"),
        ({"number": 1.5}, "tile number 1.5"),
        ({"number": True}, "tile number True"),
        ({"caption": ()}, "tile 1 has no caption. Give its layer, channel, position and activation"),
        ({"caption": (" ",)}, "tile 1 has no caption"),
        ({"caption": (3,)}, "tile 1: caption must be lines of text"),
        (
            {"patch": GREY[1:]},
            "tile 1: the patch has 6x3 px and the projection 6x4 px. Crop both to the same box",
        ),
        ({"patch": GREY * 255}, "tile 1: patch has values from 128 to 128: colours must be from 0 to 1"),
        ({"patch": GREY - 1}, "colours must be from 0 to 1"),
        ({"patch": np.full((4, 6, 3), np.nan)}, "tile 1: patch cannot be drawn: 72 of its values are NaN"),
        (
            {"projection": np.full((4, 6), np.inf)},
            "tile 1: projection cannot be drawn: 24 of its values are NaN",
        ),
        ({"projection": np.zeros((4, 6, 5))}, "choose one or three of them"),
        ({"box": (0, 0, 0, 4)}, "is empty or has negative coordinates"),
        ({"box": (-1, 0, 5, 4)}, "is empty or has negative coordinates"),
        ({"box": (0, 0, 4)}, "must be four whole numbers"),
        ({"box": (0, 0, 4.5, 4)}, "must be four whole numbers"),
        ({"crop_box": (2, 0, 2, 4)}, "is empty or has negative coordinates"),
    ],
)
def test_invalid_tiles_raise(changes, message):
    with pytest.raises(FigureError, match=message.replace("(", r"\(").replace(")", r"\)")):
        tile(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiles": ()}, "a sheet needs at least one tile"),
        ({"tiles": (tile(), tile())}, "two tiles have the number 1"),
        ({"scale": "column"}, "unknown scale 'column': choose from sheet, row, tile"),
        ({"crop": "middle"}, "unknown crop 'middle': choose from effective, field"),
        ({"medium": "poster"}, "unknown medium 'poster': choose from screen, paper, slide"),
        ({"columns": 0}, "columns 0: it must be a whole number of at least 1, or None"),
        ({"columns": 2.0}, "columns 2.0"),
        ({"percentile": 0}, "percentile 0"),
        ({"percentile": 101}, "percentile 101"),
        ({"percentile": float("nan")}, "percentile nan"),
        ({"tiles": (tile(patch=None),)}, "tile 1 has no patch. Give one, or set projection_only"),
        ({"image": GREY * 255}, "image has values from 128 to 128"),
        ({"image": GREY, "tiles": (tile(box=(0, 0, 6, 5)),)}, "is not inside the image of 6x4 px"),
        ({"image": GREY, "tiles": (tile(crop_box=(0, 0, 7, 4)),)}, "is not inside the image of 6x4 px"),
    ],
)
def test_invalid_sheets_raise(changes, message):
    with pytest.raises(FigureError, match=message):
        sheet(**changes)


def test_rounding_errors_in_patches_are_accepted():
    tile(patch=GREY + 0.5 + 1e-6)
    with pytest.raises(FigureError):
        tile(patch=GREY + 0.5 + 1e-2)


def test_projection_only_sheet_needs_no_patches():
    assert sheet(tile(patch=None), projection_only=True).tiles[0].patch is None


def test_tile_of_a_grey_network_has_one_channel():
    assert tile(projection=GREY[:, :, 0], patch=GREY[:, :, :1]).size == (4, 6)


def test_title_and_caption_may_be_a_single_string():
    assert replace(sheet(), title="vgg19").title == ("vgg19",)
    assert tile(caption="conv1_1").caption == ("conv1_1",)


def test_solid_and_dashed_boxes_of_tiles():
    crop = (1, 1, 3, 3)
    whole, part = tile(box=(0, 0, 6, 4)), tile(number=2, box=(0, 0, 6, 3))
    inside = tile(number=3, box=(0, 0, 6, 4), crop_box=crop)
    cropped = tile(number=4, box=(0, 0, 5, 4), crop_box=crop)
    same = tile(number=5, box=crop, crop_box=crop)
    made = sheet(whole, part, inside, cropped, same, image=GREY)
    assert [made.field_covers_image(each) for each in made.tiles] == [True, False, True, False, False]
    assert [made.outlined(each) for each in made.tiles] == [None, (0, 0, 6, 3), crop, crop, crop]
    assert [made.dashed(each) for each in made.tiles] == [None, None, None, (0, 0, 5, 4), None]
    assert not sheet(whole).field_covers_image(whole)


def test_reprs_are_short():
    assert repr(tile()) == "Tile(1: conv1_1 · channel 3; 6x4 px)"
    assert repr(sheet()) == "Sheet('vgg19': 1 tiles, scale sheet)"
