import numpy as np
import pytest
from PIL import Image

from deconvviz.scenes.canvas import SUPERSAMPLING, Canvas, Pen
from deconvviz.scenes.shapes import Pose

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (128, 128, 128)


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(Image.new("RGB", (20, 20), GREY))


def pixels(canvas: Canvas, stray: bool = False) -> Pen:
    """A pen whose unit is one final pixel."""
    return Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), stray=stray)


def test_a_box_owns_the_pixels_whose_centres_it_covers(canvas: Canvas) -> None:
    pixels(canvas).box("wall", 4, 6, 10, 9, RED)
    _, owners = canvas.developed()
    expected = np.zeros((20, 20), bool)
    expected[6:9, 4:10] = True
    assert np.array_equal(canvas.masks(owners, stray=False)["wall"], expected)


def test_a_later_part_takes_the_pixels_it_hides(canvas: Canvas) -> None:
    pen = pixels(canvas)
    pen.box("wall", 2, 2, 12, 12, RED)
    pen.box("door", 5, 5, 8, 12, BLUE)
    picture, owners = canvas.developed()
    masks = canvas.masks(owners, stray=False)
    assert masks["wall"].sum() == 100 - 21
    assert masks["door"].sum() == 21
    assert picture.getpixel((6, 8)) == BLUE
    assert picture.getpixel((3, 8)) == RED


def test_a_hidden_part_has_no_mask(canvas: Canvas) -> None:
    pen = pixels(canvas)
    pen.box("eye", 5, 5, 8, 8, RED)
    pen.box(None, 2, 2, 12, 12, BLUE)
    _, owners = canvas.developed()
    assert canvas.masks(owners, stray=False) == {}


def test_strays_of_one_name_are_kept_apart_from_the_objects_part(canvas: Canvas) -> None:
    pixels(canvas, stray=True).box("wheel", 0, 0, 3, 3, RED)
    pixels(canvas).box("wheel", 10, 10, 15, 15, RED)
    _, owners = canvas.developed()
    assert canvas.masks(owners, stray=True)["wheel"].sum() == 9
    assert canvas.masks(owners, stray=False)["wheel"].sum() == 25


def test_a_claim_owns_without_painting(canvas: Canvas) -> None:
    pixels(canvas).claim("wheel", [(4, 4), (8, 4), (8, 8), (4, 8)])
    picture, owners = canvas.developed()
    assert canvas.masks(owners, stray=False)["wheel"].sum() == 16
    assert picture.getcolors() == [(400, GREY)]


def test_an_outline_belongs_to_its_part(canvas: Canvas) -> None:
    pen = Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), outline=BLUE, outline_width=2.0)
    pen.box("roof", 6, 6, 12, 12, RED)
    picture, owners = canvas.developed()
    assert canvas.masks(owners, stray=False)["roof"].sum() > 36
    assert picture.getpixel((6, 9)) == BLUE
    assert picture.getpixel((9, 9)) == RED


def test_a_pattern_shows_on_the_shape_and_nowhere_else(canvas: Canvas) -> None:
    left_half = Image.new("L", canvas.picture.size, 0)
    left_half.paste(255, (0, 0, 30, 60))
    pen = Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), pattern=left_half)
    pen.box("sail", 4, 4, 16, 16, RED, over=BLUE)
    picture, _ = canvas.developed()
    assert [picture.getpixel((x, 8)) for x in (2, 6, 14)] == [GREY, BLUE, RED]
    pen.plain().box("flag", 4, 4, 16, 16, RED, over=BLUE)
    assert canvas.developed()[0].getpixel((6, 8)) == RED


def test_edges_are_antialiased(canvas: Canvas) -> None:
    pixels(canvas).fill("sail", [(2, 2), (18, 18), (2, 18)], RED)
    picture, _ = canvas.developed()
    assert len(picture.getcolors() or []) > 2
