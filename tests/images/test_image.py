"""Images of every kind, generated here; the expected pixels are computed with NumPy."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin, features

from deconvviz.errors import ImageError
from deconvviz.images.decoding import DECODER_ERRORS
from deconvviz.images.image import InputImage, as_image, open_image, read_image

pillow_13 = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 cannot read the TIFF file that it writes here"
)
U8 = npt.NDArray[np.uint8]
Y, X = np.mgrid[0:24, 0:40]
RGB: U8 = np.stack([X * 6, Y * 10, (X + Y) * 4], axis=-1).astype(np.uint8)
GREY: U8 = (X * 6).astype(np.uint8)
ALPHA: U8 = (Y * 11).astype(np.uint8)


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def blended(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any], background: tuple[int, int, int]) -> U8:
    weight = alpha[..., None].astype(float) / 255
    return np.rint(rgb * weight + np.array(background) * (1 - weight)).astype(np.uint8)


def grey3(values: npt.NDArray[Any]) -> U8:
    return np.stack([values] * 3, axis=-1).astype(np.uint8)


def png(
    path: Path, depth: int, colour: int, rows: bytes, size: tuple[int, int], *extra: tuple[bytes, bytes]
) -> Path:
    """Write a PNG of any bit depth, which Pillow itself cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts))
    return path


# --- colour modes and orientation


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_rgb_file_is_read_unchanged(tmp_path: Path, suffix: str) -> None:
    image = open_image(saved(Image.fromarray(RGB), tmp_path / f"a.{suffix}"))
    assert image.rgb.dtype == np.uint8
    np.testing.assert_array_equal(image.rgb, RGB)
    assert image.notes == ()


def test_pixel_array_is_writable(tmp_path: Path) -> None:
    image = open_image(saved(Image.fromarray(RGB), tmp_path / "a.bmp"))  # Pillow maps bitmaps into memory
    image.rgb[:] = 0
    np.testing.assert_array_equal(open_image(tmp_path / "a.bmp").rgb, RGB)


def test_jpeg_equals_pillows_result(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(open_image(path).rgb, np.asarray(Image.open(path)))
    assert abs(open_image(path).rgb.astype(int) - RGB).mean() < 3


def test_grey_image_has_three_equal_channels(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        open_image(saved(Image.fromarray(GREY), tmp_path / "a.png")).rgb, grey3(GREY)
    )


def test_one_bit_image_becomes_black_and_white(tmp_path: Path) -> None:
    path = saved(Image.fromarray(GREY > 100), tmp_path / "a.png")
    np.testing.assert_array_equal(open_image(path).rgb, grey3((GREY > 100) * 255))


def test_palette_image_has_the_colours_of_its_palette(tmp_path: Path) -> None:
    image = Image.fromarray((X % 4).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]])
    opened = open_image(saved(image, tmp_path / "a.png"))
    np.testing.assert_array_equal(opened.rgb, colours[X % 4])
    assert opened.notes == ()

    clear = open_image(saved(image, tmp_path / "b.png", transparency=2), background=(1, 2, 3))
    colours[2] = (1, 2, 3)
    np.testing.assert_array_equal(clear.rgb, colours[X % 4])
    assert clear.notes == ("transparency blended with (1, 2, 3)",)

    graded = open_image(saved(image, tmp_path / "c.png", transparency=bytes([0, 51, 255, 255])))
    shown = blended(np.array([[255, 0, 0], [0, 255, 0]]), np.array([0, 51]), (255, 255, 255))
    np.testing.assert_array_equal(graded.rgb[0, :2], shown)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 30)])
def test_transparency_is_blended_with_the_background(
    tmp_path: Path, background: tuple[int, int, int]
) -> None:
    path = saved(Image.fromarray(np.dstack([RGB, ALPHA])), tmp_path / "a.png")
    image = open_image(path, background=background)
    np.testing.assert_array_equal(image.rgb, blended(RGB, ALPHA, background))
    named = {(255, 255, 255): "white", (0, 0, 0): "black"}
    assert image.notes == (f"transparency blended with {named.get(background, background)}",)


def test_grey_with_alpha_is_blended_with_white(tmp_path: Path) -> None:
    path = saved(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]), tmp_path / "a.png")
    np.testing.assert_array_equal(open_image(path).rgb, blended(grey3(GREY), ALPHA, (255, 255, 255)))


def test_opaque_alpha_channel_adds_no_note(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])), tmp_path / "a.png")
    image = open_image(path)
    np.testing.assert_array_equal(image.rgb, RGB)
    assert image.notes == ()


WIDE = np.array([[0, 128, 257, 32768, 65280, 65535]], dtype=np.uint16)


def test_16_bit_grey_is_scaled_to_8_bits(tmp_path: Path) -> None:
    for suffix in ("png", "tif"):
        image = open_image(saved(Image.fromarray(WIDE), tmp_path / f"a.{suffix}"))
        np.testing.assert_array_equal(image.rgb, grey3(np.rint(WIDE / 257)))
        assert image.notes == ("16-bit scaled to 8",)


def test_16_bit_pgm_is_scaled_to_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 6 1 65535\n" + WIDE.astype(">u2").tobytes())
    np.testing.assert_array_equal(open_image(path).rgb, grey3(np.rint(WIDE / 257)))


def test_16_bit_colour_is_scaled_to_8_bits(tmp_path: Path) -> None:
    values = np.array([[0x0000, 0x80FF, 0xFFFF, 0x1234, 0xABCD, 0x00FF]], dtype=">u2")
    image = open_image(png(tmp_path / "a.png", 16, 2, b"\0" + values.tobytes(), (2, 1)))
    assert abs(image.rgb.reshape(-1).astype(int) - values.astype(float).ravel() / 257).max() <= 1
    assert image.notes == ("16-bit scaled to 8",)


def test_16_bit_grey_with_alpha_is_scaled_and_blended(tmp_path: Path) -> None:
    values = np.array([0x8000, 0xFFFF, 0x4000, 0x0000], dtype=">u2")  # grey, alpha; grey, alpha
    image = open_image(png(tmp_path / "a.png", 16, 4, b"\0" + values.tobytes(), (2, 1)))
    np.testing.assert_array_equal(image.rgb[0], [[128] * 3, [255] * 3])
    assert image.notes == ("16-bit scaled to 8", "transparency blended with white")


@pytest.mark.parametrize(
    ("depth", "row", "clear", "values"),
    [(1, 0b01000000, 1, [0, 7]), (2, 0b01100000, 2, [85, 7]), (4, 0x3F, 15, [51, 7])],
)
def test_transparent_grey_of_few_bits_becomes_background(
    tmp_path: Path, depth: int, row: int, clear: int, values: list[int]
) -> None:
    path = png(tmp_path / "a.png", depth, 0, bytes([0, row]), (2, 1), (b"tRNS", struct.pack(">H", clear)))
    image = open_image(path, background=(7, 7, 7))
    np.testing.assert_array_equal(image.rgb[0, :, 0], values)


def test_transparent_16_bit_colour_becomes_background(tmp_path: Path) -> None:
    row = b"\0" + np.array([0x1234, 0x5678, 0x9ABC, 1, 2, 3], dtype=">u2").tobytes()
    path = png(tmp_path / "a.png", 16, 2, row, (2, 1), (b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC)))
    np.testing.assert_array_equal(open_image(path).rgb[0], [[255] * 3, [0] * 3])


def test_transparent_16_bit_grey_becomes_background(tmp_path: Path) -> None:
    row = b"\0" + np.array([0x1234, 0x8000], dtype=">u2").tobytes()
    path = png(tmp_path / "a.png", 16, 0, row, (2, 1), (b"tRNS", struct.pack(">H", 0x1234)))
    np.testing.assert_array_equal(open_image(path, background=(0, 0, 0)).rgb[0, :, 0], [0, 128])


@pytest.mark.parametrize(
    ("values", "shown", "note"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255], "floats in 0 .. 1 scaled to 8-bit"),
        ([0.0, 99.6, 255.0], [0, 100, 255], "floats in 0 .. 255 rounded to 8-bit"),
    ],
)
def test_floats_are_converted_with_a_note(
    tmp_path: Path, values: list[float], shown: list[int], note: str
) -> None:
    image = open_image(saved(Image.fromarray(np.array([values], np.float32)), tmp_path / "a.tif"))
    np.testing.assert_array_equal(image.rgb[0], grey3(np.array(shown)))
    assert image.notes == (note,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-1.0, 2.0]], np.float32), "floats from -1 to 2"),
        (np.array([[0.0, 3000.0]], np.float32), "floats from 0 to 3000"),
        (np.array([[0.0, np.nan]], np.float32), "NaN or infinity"),
        (np.array([[0, 70000]], np.int32), "integers from 0 to 70000"),
        (np.array([[-5, 7]], np.int32), "integers from -5 to 7"),
    ],
)
def test_values_of_undefined_brightness_are_rejected(
    tmp_path: Path, values: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(saved(Image.fromarray(values), tmp_path / "a.tif"))


def test_32_bit_integers_are_converted_with_a_note(tmp_path: Path) -> None:
    dark = open_image(saved(Image.fromarray(np.array([[0, 200]], np.int32)), tmp_path / "a.tif"))
    assert (dark.rgb[0, 1].tolist(), dark.notes) == (
        [200] * 3,
        ("32-bit integers up to 255 read as 8-bit",),
    )
    wide = open_image(saved(Image.fromarray(np.array([[0, 65535]], np.int32)), tmp_path / "b.tif"))
    assert (wide.rgb[0, 1].tolist(), wide.notes) == ([255] * 3, ("16-bit scaled to 8",))


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_is_converted_even_if_inverted_in_jpeg(tmp_path: Path, suffix: str) -> None:
    ink = np.array([0, 255, 255, 0]), np.array([60, 10, 200, 40])  # red; an arbitrary colour
    for values in ink:
        cmyk = np.broadcast_to(values, (16, 16, 4)).astype(np.uint8)
        options = {"quality": 100} if suffix == "jpg" else {}
        image = open_image(saved(Image.fromarray(cmyk, "CMYK"), tmp_path / f"a.{suffix}", **options))
        expected = (255 - values[:3]) * (255 - values[3]) / 255
        assert abs(image.rgb[8, 8] - expected).max() <= (2 if suffix == "jpg" else 1)
        assert image.notes == ("CMYK converted",)


@pillow_13
def test_ycbcr_is_converted_to_rgb(tmp_path: Path) -> None:
    image = open_image(saved(Image.fromarray(RGB).convert("YCbCr"), tmp_path / "a.tif"))
    assert abs(image.rgb.astype(int) - RGB).max() <= 3
    assert image.notes == ("YCbCr converted",)


def test_lab_is_rejected_without_colour_management(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.fromarray(RGB).convert("LAB"), tmp_path / "a.tif")
    image = open_image(path)
    assert abs(image.rgb.astype(int) - RGB).mean() < 3
    assert image.notes == ("LAB converted",)

    def absent(*_: object) -> None:
        raise ImportError("no littlecms")

    monkeypatch.setattr(ImageCms, "createProfile", absent)
    with pytest.raises(ImageError, match="has LAB colours, which are not supported: save it as RGB"):
        open_image(path)


ORIENTED = {
    1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1],
    5: RGB.transpose(1, 0, 2), 6: RGB.transpose(1, 0, 2)[:, ::-1],
    7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: RGB.transpose(1, 0, 2)[::-1],
}  # fmt: skip


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(RGB), tmp_path / f"a.{suffix}", exif=exif)
    image = open_image(path)
    np.testing.assert_array_equal(image.rgb, ORIENTED[orientation])
    assert image.notes == (("EXIF orientation applied",) if orientation != 1 else ())


def test_rotated_jpeg_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.fromarray(RGB), tmp_path / "a.jpg", exif=exif, quality=95)
    assert open_image(path).rgb.shape == (40, 24, 3)
    assert abs(open_image(path).rgb.astype(int) - ORIENTED[6]).mean() < 3


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert open_image(path).rgb.shape == RGB.shape


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_of_several_frames_is_read_with_a_note(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    if suffix == "webp":
        options["lossless"] = True
    image = open_image(saved(frames[0], tmp_path / f"a.{suffix}", **options))
    np.testing.assert_array_equal(image.rgb, np.broadcast_to([255, 0, 0], (10, 20, 3)))
    assert image.notes == (f"first of 3 {'pages' if suffix == 'tif' else 'frames'}",)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_images_one_pixel_wide_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    for suffix in ("png", "jpg", "gif"):
        image = open_image(saved(Image.new("RGB", size, "red"), tmp_path / f"a.{suffix}"))
        assert image.rgb.shape == (size[1], size[0], 3)


def test_icc_profile_is_ignored(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = open_image(saved(Image.fromarray(RGB), tmp_path / "a.png", icc_profile=profile))
    np.testing.assert_array_equal(image.rgb, RGB)
    assert image.notes == ()


# --- too large


def huge_png(path: Path, width: int, height: int) -> Path:
    """Write a PNG with a large size in its header but without pixels: decoding it raises another error."""
    return png(path, 8, 2, b"\0\0\0\0", (width, height))


def test_too_large_image_is_rejected_by_its_header(tmp_path: Path) -> None:
    path = huge_png(tmp_path / "a.png", 60_000, 50_000)
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value) == (
        f"{path} has 60000 x 50000 pixels, 3000 megapixels: the limit is 100. To open it, set "
        "max_pixels=3000000000 or the environment variable DECONVVIZ_MAX_PIXELS=3000000000"
    )


def test_pixel_limit_comes_from_argument_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.png")
    assert open_image(path, max_pixels=24 * 40).rgb.shape == RGB.shape
    with pytest.raises(ImageError, match="40 x 24 pixels"):
        open_image(path, max_pixels=24 * 40 - 1)
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "100")
    with pytest.raises(ImageError, match="40 x 24 pixels"):
        open_image(path)
    with pytest.raises(ImageError, match="40 x 24 pixels"):
        as_image(Image.fromarray(RGB))
    assert open_image(path, max_pixels=1000).rgb.shape == RGB.shape
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "lots")
    with pytest.raises(ImageError, match="DECONVVIZ_MAX_PIXELS='lots' is not a number"):
        open_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "jpg"])
def test_pillows_pixel_limit_is_ignored_and_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / f"a.{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(path).rgb.shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 100


# --- truncated and damaged

MAKERS: dict[str, dict[str, Any]] = {
    "a.jpg": {"quality": 95}, "b.jpg": {"quality": 95, "progressive": True}, "a.png": {}, "a.bmp": {},
    "a.tif": {}, "b.tif": {"compression": "tiff_lzw"}, "a.webp": {}, "b.webp": {"lossless": True},
    "a.gif": {}, "a.ppm": {},
}  # fmt: skip


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_truncated_image_is_rejected_under_any_pillow_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lenient: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), tmp_path / name, **MAKERS[name]).read_bytes()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    for kept in (len(data) // 3, len(data) * 9 // 10, len(data) - 40):
        (tmp_path / name).write_bytes(data[:kept])
        with pytest.raises(ImageError):
            open_image(tmp_path / name)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize("name", ["a.jpg", "b.jpg", "a.png"])
def test_error_says_that_image_is_truncated(tmp_path: Path, name: str) -> None:
    data = saved(Image.fromarray(RGB), tmp_path / name, **MAKERS[name]).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ImageError, match="is truncated: the file ends before the image does"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("ending", [b"\xff\xd9", b"\0" * 4000, b""])
def test_truncated_jpeg_is_rejected_with_any_ending(tmp_path: Path, mode: str, ending: bytes) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise).convert(mode), tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + ending)
    with pytest.raises(ImageError, match="is truncated"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(64, 64), (61, 53)])
def test_complete_jpeg_that_ends_grey_is_accepted(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (128, 128, 128))
    image.putpixel((0, 0), (255, 0, 0))
    assert open_image(saved(image, tmp_path / "a.jpg")).rgb[-1, -1].tolist() == [128] * 3
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(saved(image, tmp_path / "b.jpg", exif=exif)).rgb.shape == (size[0], size[1], 3)


def test_bytes_after_a_jpeg_are_ignored(tmp_path: Path) -> None:
    data = saved(Image.fromarray(RGB), tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data + b"\0" * 5000 + b"a video, perhaps")
    np.testing.assert_array_equal(
        open_image(tmp_path / "a.jpg").rgb, np.asarray(Image.open(io.BytesIO(data)))
    )


def test_flipped_bit_in_a_png_is_detected(tmp_path: Path) -> None:
    data = bytearray(saved(Image.fromarray(RGB), tmp_path / "a.png").read_bytes())
    data[data.index(b"IDAT") + 30] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="the checksum of its IDAT chunk is wrong"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", [*MAKERS, "a.avif", "a.jp2"])
def test_damaged_file_is_read_or_raises_image_error(tmp_path: Path, name: str) -> None:
    if not features.check({"a.avif": "avif", "a.jp2": "jpg_2000"}.get(name, "jpg")):
        pytest.skip(f"this Pillow does not write {name}")
    data = saved(Image.fromarray(RGB), tmp_path / name, **MAKERS.get(name, {})).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(data)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            opened = open_image(tmp_path / "damaged", max_pixels=1_000_000)
        except ImageError:
            continue
        assert opened.rgb.ndim == 3


# --- not an image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"Dear Sir or Madam, \n", r"is not an image: it is text, 'Dear Sir or Madam"),
        (b"<!DOCTYPE html><html>404", "is not an image: it is a web page or XML"),
        (b"<?xml version='1.0'?><svg></svg>", "is not an image: it is an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "download the image with git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image"),
        (b"\x7fELF\x02\x01\x01" + bytes(50), "is not an image in a supported format: it begins with"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image: it is text"),
        (b"\x89PNG\r\n\x1a\n", "is damaged|is truncated"),
        (b"\xff\xd8\xff", "is damaged|is truncated"),
    ],
    ids=["empty", "text", "html", "svg", "lfs", "heic", "program", "eps", "png signature", "jpeg signature"],
)
def test_files_that_are_not_images_are_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.jpg")


def test_paths_without_an_image_file_are_rejected(tmp_path: Path) -> None:
    for name in ("cat.jpg", "cart.png", "dog.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "caat.jpg")
    assert str(caught.value).startswith(
        f"no image '{tmp_path}/caat.jpg': similar names in {tmp_path}: cat.jpg, "
    )
    with pytest.raises(ImageError, match="there is no folder"):
        open_image(tmp_path / "nowhere" / "cat.jpg")
    with pytest.raises(ImageError, match="is a folder, not an image"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="is a web address"):
        open_image("https://example.org/cat.jpg")
    for odd in ("a\0b", "x" * 5000):
        with pytest.raises(ImageError):
            open_image(odd)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipe_is_rejected_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is not a regular file"):
        open_image(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_read_permission_is_rejected(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.png")
    path.chmod(0)
    with pytest.raises(ImageError, match=r"cannot read .*: permission denied"):
        open_image(path)


# --- from bytes and streams


@pytest.mark.parametrize("name", MAKERS)
def test_bytes_and_streams_are_read_like_the_file(tmp_path: Path, name: str) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / name, **MAKERS[name])
    expected, data = open_image(path), path.read_bytes()
    with path.open("rb") as stream, path.open("rb", buffering=0) as raw:
        stream.seek(3)  # streams are read from their start
        for given in (data, io.BytesIO(data), stream, raw):
            image = read_image(given, f"shard.tar/{name}")
            np.testing.assert_array_equal(image.rgb, expected.rgb)
            assert (image.path, image.notes) == (None, expected.notes)


def test_bytes_get_the_same_conversions_and_notes_as_a_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(np.dstack([RGB, ALPHA])).transpose(Image.Transpose.ROTATE_90)] * 2
    path = saved(frames[0], tmp_path / "a.png", exif=exif, save_all=True, append_images=[RGB_IMAGE])
    expected = open_image(path, background=(9, 8, 7))
    image = read_image(path.read_bytes(), "a.png", background=(9, 8, 7))
    assert len(image.notes) == 3
    assert image.notes == expected.notes
    np.testing.assert_array_equal(image.rgb, expected.rgb)


def test_bitmap_bytes_are_not_read_from_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a name, Pillow would map the bitmap file with this name into memory."""
    saved(Image.fromarray(255 - GREY), tmp_path / "a.bmp")
    data = saved(Image.fromarray(GREY), tmp_path / "b.bmp").read_bytes()
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_image(data, "a.bmp").rgb, grey3(GREY))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^x/a.png is empty \(0 bytes\): download or save the image again$"),
        (b"Dear Sir", "^x/a.png is not an image: it is text, 'Dear Sir'"),
        (b"\x89PNG\r\n\x1a\n", r"^x/a.png is (damaged|truncated)"),
    ],
)
def test_errors_about_bytes_contain_their_name(data: bytes, message: str) -> None:
    for given in (data, io.BytesIO(data)):
        with pytest.raises(ImageError, match=message):
            read_image(given, "x/a.png")


def test_pixel_limits_apply_to_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = huge_png(tmp_path / "a.png", 60_000, 50_000).read_bytes()
    with pytest.raises(ImageError, match=r"^x has 60000 x 50000 pixels, 3000 megapixels"):
        read_image(bomb, "x")
    data = saved(Image.fromarray(RGB), tmp_path / "b.png").read_bytes()
    assert read_image(data, "x", max_pixels=24 * 40).rgb.shape == RGB.shape
    with pytest.raises(ImageError, match=r"^x has 40 x 24 pixels"):
        read_image(data, "x", max_pixels=24 * 40 - 1)
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "100")
    with pytest.raises(ImageError, match=r"^x has 40 x 24 pixels"):
        read_image(data, "x")


def test_stream_that_fails_midway_raises_image_error(tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 60:
                raise OSError(5, "Input/output error")
            return super().read(min(size or 0, 30) if size != -1 else 30)

    data = saved(Image.fromarray(RGB), tmp_path / "a.png").read_bytes()
    with pytest.raises(ImageError, match=r"^x/a.png is (damaged|truncated)"):
        read_image(Failing(data), "x/a.png")


# --- images in memory


def test_arrays_are_copied_as_rgb() -> None:
    np.testing.assert_array_equal(as_image(RGB).rgb, RGB)
    np.testing.assert_array_equal(as_image(GREY).rgb, grey3(GREY))
    flipped = as_image(RGB[::-1])
    np.testing.assert_array_equal(flipped.rgb, RGB[::-1])
    flipped.rgb[:] = 0
    assert RGB.any()  # a copy


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RGB.astype(np.float32) / 255, "give uint8 in 0 .. 255"),
        (RGB.transpose(2, 0, 1), "its channels come first"),
        (np.zeros((4, 4, 4), np.uint8), r"give \(H, W, 3\) or \(H, W\)"),
        (np.zeros(4, np.uint8), r"give \(H, W, 3\) or \(H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (Image.new("RGB", (0, 5)), "has no pixels"),
        (3, "an int is not an image"),
    ],
)
def test_unsuitable_objects_are_rejected(given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_image(given)


def test_pillow_images_and_paths_become_input_images(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    opened = as_image(image, background=(0, 0, 0))
    np.testing.assert_array_equal(opened.rgb, blended(RGB, ALPHA, (0, 0, 0)))
    assert (opened.path, image.mode) == (None, "RGBA")
    path = saved(image, tmp_path / "a.png")
    with Image.open(path) as lazy:
        assert as_image(lazy).path == path
    assert as_image(str(path)).path == path
    assert as_image(opened) is opened


def test_truncated_lazy_pillow_image_is_rejected(tmp_path: Path) -> None:
    data = saved(Image.fromarray(RGB), tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:-60])
    with Image.open(tmp_path / "a.png") as lazy, pytest.raises(ImageError, match="cannot be decoded"):
        as_image(lazy)


def test_repr_shows_name_size_and_notes(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.dstack([RGB, ALPHA])), tmp_path / "cat.png")
    assert repr(open_image(path)) == "InputImage(cat.png, 40 x 24, transparency blended with white)"
    assert repr(InputImage(RGB)) == "InputImage(in memory, 40 x 24)"


@pytest.mark.parametrize("background", [(1, 2), (0, 0, 256), ("a", "b", "c"), (0.5, 0.5, 0.5)])
def test_invalid_background_is_rejected(tmp_path: Path, background: Any) -> None:
    with pytest.raises(ImageError, match="invalid background"):
        as_image(RGB_IMAGE, background=background)


RGB_IMAGE = Image.fromarray(RGB)


# --- Pillow's global settings


def test_threads_leave_global_settings_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = saved(Image.fromarray(RGB), tmp_path / "a.jpg")
    broken = tmp_path / "b.jpg"
    broken.write_bytes(good.read_bytes()[:-300])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    filters, wrong = list(warnings.filters), []

    def work() -> None:
        for _ in range(10):
            if open_image(good).rgb.shape != RGB.shape:
                wrong.append("shape")
            try:
                open_image(broken)
                wrong.append("opened a truncated image")
            except ImageError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS) == (True, 50)
    assert list(warnings.filters) == filters


@pillow_13
def test_pillows_warnings_are_suppressed(tmp_path: Path) -> None:
    """Pillow warns about a truncated TIFF tag; warnings are errors in these tests, but the image is read."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "words"
    data = bytearray(saved(Image.fromarray(RGB), tmp_path / "a.tif", tiffinfo=tags).read_bytes())
    place = data.index(struct.pack("<HH", 270, 2))
    data[place + 4 : place + 12] = struct.pack("<II", 4000, len(data) - 3)  # longer than the file
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.warns(UserWarning), Image.open(tmp_path / "a.tif") as image:
        image.getexif()
    assert open_image(tmp_path / "a.tif").rgb.shape == RGB.shape


def test_image_error_is_not_a_decoder_error() -> None:
    assert not issubclass(ImageError, DECODER_ERRORS)
