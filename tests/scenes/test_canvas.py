import numpy as np
import pytest
from PIL import Image

from deconvviz.scenes.canvas import SUPERSAMPLING, Canvas, Pen
from deconvviz.scenes.shapes import Pose

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (128, 128, 128)


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(Image.new("RGB", (20, 20), GREY))


def pixel_pen(canvas: Canvas, distractor: bool = False) -> Pen:
    """Return a pen whose unit is one pixel of the final image."""
    return Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), distractor=distractor)


def test_mask_of_a_box_has_the_pixels_whose_centres_it_covers(canvas: Canvas) -> None:
    pixel_pen(canvas).box("wall", 4, 6, 10, 9, RED)
    _, part_map = canvas.render()
    expected = np.zeros((20, 20), bool)
    expected[6:9, 4:10] = True
    assert np.array_equal(canvas.masks(part_map, distractor=False)["wall"], expected)


def test_later_part_replaces_the_earlier_part_in_mask_and_image(canvas: Canvas) -> None:
    pen = pixel_pen(canvas)
    pen.box("wall", 2, 2, 12, 12, RED)
    pen.box("door", 5, 5, 8, 12, BLUE)
    image, part_map = canvas.render()
    masks = canvas.masks(part_map, distractor=False)
    assert masks["wall"].sum() == 100 - 21
    assert masks["door"].sum() == 21
    assert image.getpixel((6, 8)) == BLUE
    assert image.getpixel((3, 8)) == RED


def test_completely_hidden_part_has_no_mask(canvas: Canvas) -> None:
    pen = pixel_pen(canvas)
    pen.box("eye", 5, 5, 8, 8, RED)
    pen.box(None, 2, 2, 12, 12, BLUE)
    _, part_map = canvas.render()
    assert canvas.masks(part_map, distractor=False) == {}


def test_distractor_and_object_part_of_one_name_have_separate_masks(canvas: Canvas) -> None:
    pixel_pen(canvas, distractor=True).box("wheel", 0, 0, 3, 3, RED)
    pixel_pen(canvas).box("wheel", 10, 10, 15, 15, RED)
    _, part_map = canvas.render()
    assert canvas.masks(part_map, distractor=True)["wheel"].sum() == 9
    assert canvas.masks(part_map, distractor=False)["wheel"].sum() == 25


def test_label_area_sets_the_mask_without_painting(canvas: Canvas) -> None:
    pixel_pen(canvas).label_area("wheel", [(4, 4), (8, 4), (8, 8), (4, 8)])
    image, part_map = canvas.render()
    assert canvas.masks(part_map, distractor=False)["wheel"].sum() == 16
    assert image.getcolors() == [(400, GREY)]


def test_outline_is_in_the_mask_of_its_part(canvas: Canvas) -> None:
    pen = Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), outline=BLUE, outline_width=2.0)
    pen.box("roof", 6, 6, 12, 12, RED)
    image, part_map = canvas.render()
    assert canvas.masks(part_map, distractor=False)["roof"].sum() > 36
    assert image.getpixel((6, 9)) == BLUE
    assert image.getpixel((9, 9)) == RED


def test_pattern_is_painted_inside_the_shape_only(canvas: Canvas) -> None:
    left_half = Image.new("L", canvas.image.size, 0)
    left_half.paste(255, (0, 0, 30, 60))
    pen = Pen(canvas, Pose.at(0, 0, SUPERSAMPLING), pattern=left_half)
    pen.box("sail", 4, 4, 16, 16, RED, over=BLUE)
    image, _ = canvas.render()
    assert [image.getpixel((x, 8)) for x in (2, 6, 14)] == [GREY, BLUE, RED]
    pen.plain().box("flag", 4, 4, 16, 16, RED, over=BLUE)
    assert canvas.render()[0].getpixel((6, 8)) == RED


def test_edges_are_antialiased(canvas: Canvas) -> None:
    pixel_pen(canvas).fill("sail", [(2, 2), (18, 18), (2, 18)], RED)
    image, _ = canvas.render()
    assert len(image.getcolors() or []) > 2
