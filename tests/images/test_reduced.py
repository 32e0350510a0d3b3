"""JPEGs that are decoded at a fraction of their size: geometry by hand, and the checks of whole JPEGs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from deconvviz.errors import ImageError
from deconvviz.images.image import InputImage, read_image
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.images.reduced import Reduced

BACK = {  # turns an upright picture into the pixels of a file with this orientation
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
FILTERS = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # inputs in grey levels


def encoded(picture: Image.Image, orientation: int = 1, kind: str = "JPEG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn, stream = BACK[orientation], io.BytesIO()
    options = {"quality": 100, "subsampling": 0, **options} if kind == "JPEG" else options
    (picture if turn is None else picture.transpose(turn)).save(stream, kind, exif=exif, **options)
    return stream.getvalue()


def ramps(width: int, height: int) -> Image.Image:
    """Return a picture whose red rises from left to right and whose green rises from top to bottom."""
    x, y = np.arange(width) * 255 / (width - 1), np.arange(height) * 255 / (height - 1)
    red, green = np.meshgrid(x, y)
    return Image.fromarray(np.rint(np.stack([red, green, 0 * red], -1)).astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def always(by: int) -> Any:
    return lambda size: by


def expected_ramp(length: int, resized: int, kept: int) -> npt.NDArray[np.float64]:
    """Return a ramp of 0 to 255 over `length` pixels, resized, and cut to its centre of `kept` pixels."""
    centres = (round((resized - kept) / 2) + np.arange(kept) + 0.5) * length / resized - 0.5
    ramp: npt.NDArray[np.float64] = centres * 255 / (length - 1)
    return ramp


@pytest.mark.parametrize("orientation", BACK)
@pytest.mark.parametrize(("side", "by"), [(150, 2), (80, 4), (41, 8)])
@pytest.mark.parametrize(("width", "height"), [(1001, 667), (661, 1003)])
def test_every_place_stays_where_it_is(width: int, height: int, side: int, by: int, orientation: int) -> None:
    """The lengths are not divisible by 2, 4 or 8: the last reduced pixel lies only partly in the picture."""
    prepare = Preprocessing(side, side - 8, **FILTERS)
    data = encoded(ramps(width, height), orientation)
    image = read_image(data, "a.jpg", reduction=prepare.reduction)
    assert image.reduced is not None
    assert (image.reduced.by, image.size) == (by, (width, height))
    assert image.rgb.shape == (-(-height // by), -(-width // by), 3)
    assert image.notes[0] == f"decoded at 1/{by} of its size"
    found = prepare.apply(image.rgb, image.reduced).numpy()
    assert found.shape == (3, side - 8, side - 8)
    columns, rows = (int(side * length / min(width, height)) for length in (width, height))
    across, down = expected_ramp(width, columns, side - 8), expected_ramp(height, rows, side - 8)
    # a pixel of the whole picture is up to 0.4 grey levels; the file and its reduced pixels are rounded
    np.testing.assert_allclose(found[0].mean(0), across, atol=0.7)
    np.testing.assert_allclose(found[1].mean(1), down, atol=0.7)


def test_wrong_geometry_would_be_noticed() -> None:
    """Without the size of the whole picture, the last place is more than a grey level off."""
    prepare = Preprocessing(41, 41, **FILTERS, crop_mode="squash")
    image = read_image(encoded(ramps(1001, 667)), "a.jpg", reduction=prepare.reduction)
    right, wrong = prepare.apply(image.rgb, image.reduced), prepare.apply(image.rgb)
    last = expected_ramp(1001, 41, 41)[-1]
    assert abs(float(right[0, :, -1].mean()) - last) < 0.7 < 1 < abs(float(wrong[0, :, -1].mean()) - last)


@pytest.mark.parametrize(
    ("changes", "size", "by"),
    [
        ({}, (1023, 5000), 1),  # the shorter side is less than 2 x 2 x 256
        ({}, (1024, 5000), 2),
        ({}, (2047, 2047), 2),
        ({}, (2048, 2048), 4),
        ({}, (3000, 4000), 4),
        ({}, (9000, 4096), 8),
        ({}, (60_000, 60_000), 8),
        ({"resize": (256, 512)}, (2047, 1024), 1),  # columns are 512
        ({"resize": (256, 512)}, (2048, 1024), 2),
        ({"crop_mode": "squash"}, (9000, 1024), 2),
        ({"crop_mode": "border"}, (1024, 100), 2),  # the longer side becomes 256
        ({"crop_mode": "own"}, (9000, 9000), 1),
        ({"interpolation": "nearest"}, (9000, 9000), 1),
        ({"interpolation": "nearest-exact"}, (9000, 9000), 1),
        ({"interpolation": "bicubic"}, (4096, 4096), 8),
    ],
)
def test_picture_stays_twice_as_large_as_it_is_resized_to(
    changes: dict[str, Any], size: tuple[int, int], by: int
) -> None:
    prepare = Preprocessing(**{"resize": 256, "crop": 224, **FILTERS, **changes})
    assert prepare.reduction(size) == by


def test_arrays_are_never_reduced() -> None:
    assert Preprocessing.of_array((3, 40, 40)).reduction((9000, 9000)) == 1


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(640, 400), (401, 639), (8003, 403), (405, 8109)])
@pytest.mark.parametrize("resize", [20, (20, 30)])
def test_reduced_pixels_give_nearly_the_same_input(mode: str, size: tuple[int, int], resize: Any) -> None:
    """Also for very long images, of which only the part that is kept is resized."""
    prepare = Preprocessing(resize, (16, 18), **FILTERS, crop_mode=mode)
    data = encoded(ramps(*size))
    image, whole = (read_image(data, "a", reduction=one) for one in (prepare.reduction, None))
    assert image.reduced is not None and whole.reduced is None
    difference = prepare.apply(image.rgb, image.reduced) - prepare.apply(whole.rgb)
    assert float(difference.abs().max()) < 2.5
    canvas, corner = prepare.canvas(image.rgb, image.reduced)
    other, other_corner = prepare.canvas(whole.rgb)
    assert corner == other_corner and canvas.shape == other.shape
    assert abs(canvas.astype(int) - other).max() <= 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_reduced_too(mode: str) -> None:
    stream = io.BytesIO()
    ramps(400, 320).convert(mode).save(stream, "JPEG", quality=100, subsampling=0)
    image, whole = (read_image(stream.getvalue(), "a", reduction=one) for one in (always(4), None))
    assert image.rgb.shape == (80, 100, 3)
    means = whole.rgb.reshape(80, 4, 100, 4, 3).astype(float).mean((1, 3))
    assert abs(image.rgb - means).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    stream = io.BytesIO()
    noise(400, 320).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    image = read_image(stream.getvalue(), "a", reduction=always(8))
    assert image.reduced is None and image.notes == ()
    np.testing.assert_array_equal(image.rgb, np.asarray(noise(400, 320)))


def test_small_jpeg_is_decoded_as_without_reduction() -> None:
    prepare = Preprocessing(64, 64, **FILTERS)
    data = encoded(noise(400, 255), quality=80)
    image, whole = (read_image(data, "a", reduction=one) for one in (prepare.reduction, None))
    assert image.reduced is None and image.notes == ()
    np.testing.assert_array_equal(image.rgb, whole.rgb)
    np.testing.assert_array_equal(image.rgb, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("ending", [b"\xff\xd9", b"\0" * 4000, b""])
def test_truncated_jpeg_is_rejected_with_any_ending(by: int, mode: str, ending: bytes) -> None:
    stream = io.BytesIO()
    noise(160, 160).convert(mode).save(stream, "JPEG")
    data = stream.getvalue()
    for kept in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError, match="is truncated"):
            read_image(data[:kept] + ending, "a", reduction=always(by))


@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("size", [(64, 64), (61, 53)])
def test_complete_jpeg_that_ends_grey_is_accepted(size: tuple[int, int], by: int) -> None:
    picture = Image.new("RGB", size, (128, 128, 128))
    picture.paste((255, 0, 0), (0, 0, 16, 16))
    image = read_image(encoded(picture, subsampling=2), "a", reduction=always(by))
    assert image.reduced is not None and image.rgb[-1, -1].tolist() == [128] * 3


def test_limit_applies_to_the_whole_picture() -> None:
    with pytest.raises(ImageError, match="has 400 x 300 pixels"):
        read_image(encoded(noise(400, 300)), "a", max_pixels=100_000, reduction=always(8))


def test_picture_that_is_too_small_for_another_network_is_rejected() -> None:
    """It was decoded for a network with a smaller input."""
    small, large = (Preprocessing(side, side, **FILTERS) for side in (50, 100))
    image = read_image(encoded(noise(400, 400)), "a", reduction=small.reduction)
    assert image.reduced == Reduced(4, (400, 400), (0, 0, 100, 100))
    assert small.apply(image.rgb, image.reduced).shape == (3, 50, 50)
    with pytest.raises(ImageError, match="decoded at 1/4 of its size, too small for this network"):
        large.apply(image.rgb, image.reduced)


def test_repr_has_the_size_of_the_whole_picture(tmp_path: Path) -> None:
    image = read_image(encoded(noise(401, 300)), "a", reduction=always(2))
    assert repr(image) == "InputImage(in memory, 401 x 300, decoded at 1/2 of its size)"
    assert InputImage(np.zeros((3, 5, 3), np.uint8)).size == (5, 3)
