"""Saving figures: complete files, no overwriting without `force`, and reproducible bytes."""

from __future__ import annotations

import errno
import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from deconvviz.errors import OutputError
from deconvviz.figures.page.save import render_png, save
from deconvviz.figures.sheet.draw import draw_sheet
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import SheetStyle

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def figure(make_sheet) -> Figure:
    return draw_sheet(make_sheet(3, zero=(2,)))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_suffix_selects_the_format(figure, tmp_path, suffix, magic):
    path = save(figure, tmp_path / f"grid{suffix}")
    assert path.read_bytes().startswith(magic)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"grid{suffix}"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_same_sheet_gives_the_same_file(make_sheet, tmp_path, suffix):
    first = save(draw_sheet(make_sheet(3)), tmp_path / f"first.{suffix}").read_bytes()
    figure = draw_sheet(make_sheet(3))
    again = save(figure, tmp_path / f"again.{suffix}").read_bytes()
    third = save(figure, tmp_path / f"third.{suffix}").read_bytes()
    assert first == again == third
    assert not re.search(rb"CreationDate|<dc:date>|tIME", first)


@pytest.mark.parametrize(
    ("name", "problem"), [("grid.jpg", "'.jpg' is not a figure format"), ("grid", "the name has no suffix")]
)
def test_unsupported_formats_raise_before_drawing(tmp_path, name, problem):
    with pytest.raises(OutputError) as caught:
        save(Figure(), tmp_path / "new" / name)
    assert str(caught.value) == (f"cannot write {tmp_path / 'new' / name}: {problem}. Use .png, .svg or .pdf")
    assert not (tmp_path / "new").exists()


def test_save_overwrites_only_with_force(figure, tmp_path):
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="force=True"):
        save(figure, target)
    assert target.read_bytes() == b"old"
    save(figure, target, force=True)
    assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_failed_save_keeps_the_old_file(figure, tmp_path, monkeypatch, suffix, problem):
    target = tmp_path / f"grid.{suffix}"
    target.write_bytes(b"old")
    real = Figure.savefig

    def failing(self: Figure, stream: io.BufferedWriter, **options: object) -> None:
        real(self, stream, **options)
        stream.flush()
        raise problem

    monkeypatch.setattr(Figure, "savefig", failing)
    with pytest.raises(OutputError if isinstance(problem, OSError) else KeyboardInterrupt):
        save(figure, target, force=True)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [target.name]


def test_dpi_sets_the_size_in_pixels(figure, tmp_path):
    wide, high = figure.get_size_inches()
    for dpi in (50, 200):
        with Image.open(save(figure, tmp_path / f"{dpi}.png", dpi=dpi)) as image:
            assert image.size == pytest.approx((wide * dpi, high * dpi), abs=1)
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
    assert figure.dpi == 100


@pytest.mark.parametrize(
    ("size", "dpi", "message"),
    [
        ((5, 5), 0, "dpi 0: it must be from 10 to 4800"),
        ((5, 5), float("nan"), "dpi nan"),
        (
            (5, 100),
            1000,
            "dpi 1000 makes this figure 100000 px long: the limit is 65535 px. Use a dpi of at most 655",
        ),
    ],
)
def test_dpi_out_of_range_raises(size, dpi, message):
    with pytest.raises(OutputError, match=message):
        render_png(Figure(figsize=size), dpi)


def test_render_png_returns_the_bytes_that_save_writes(figure, tmp_path):
    assert render_png(figure, 120) == save(figure, tmp_path / "grid.png", dpi=120).read_bytes()


def test_svg_contains_text_and_ids(figure, tmp_path):
    root = ElementTree.parse(save(figure, tmp_path / "grid.svg")).getroot()
    written = " ".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))
    assert "conv3_4 · channel 7" in written and "zero: this unit" in written
    identities = [element.get("id") for element in root.iter() if element.get("id")]
    assert {"patch-1", "projection-3", "box-2", "caption-1-0"} <= set(identities)
    assert (
        len(list(root.iter(f"{SVG}image"))) == 1 + 2 * 3 + 1
    )  # image, pairs and colour bar are separate images


def test_pdf_fonts_are_truetype(figure, tmp_path):
    content = save(figure, tmp_path / "grid.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content


def test_png_metadata_contains_the_title(figure, tmp_path):
    with Image.open(save(figure, tmp_path / "grid.png")) as image:
        assert image.info["Title"].startswith("vgg19 · conv3_4 · cat.jpg – weights")


def test_zero_is_one_shade_of_mid_grey_in_the_png(tmp_path):
    tile = Tile(1, ("conv1_1",), np.zeros((9, 9)), np.ones((9, 9)))
    sheet = draw_sheet(Sheet(("net",), (tile,), style=SheetStyle(projection_only=True)))
    with Image.open(io.BytesIO(render_png(sheet))) as image:
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 20)}
    greys = [colour for colour in ((127,) * 3, (128,) * 3) if colours.get(colour, 0) > 10_000]
    assert len(greys) == 1  # one shade, not two that alternate


def test_save_ignores_and_restores_the_users_settings(make_sheet, tmp_path):
    sheet = make_sheet(2)
    plain = save(draw_sheet(sheet), tmp_path / "plain.svg").read_bytes()
    user_settings = {
        "text.usetex": True, "svg.fonttype": "path", "savefig.bbox": "tight", "savefig.facecolor": "black",
        "savefig.transparent": True, "image.composite_image": True, "path.sketch": (5, 5, 5),
        "svg.hashsalt": "theirs", "savefig.dpi": 30,
    }  # fmt: skip
    with matplotlib.rc_context(user_settings):
        before = dict(matplotlib.rcParams)
        assert save(draw_sheet(sheet), tmp_path / "theirs.svg").read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_unusual_characters_in_names_are_saved(make_sheet, tmp_path, suffix):
    name = "猫 $x_1^2$ \\alpha %d {} <&> \ud800\x00\x1b \u202e \U0001f600.jpg"
    sheet = make_sheet(1, title=(name, name), footer=name)
    content = save(draw_sheet(sheet), tmp_path / f"grid.{suffix}").read_bytes()
    if suffix == "svg":
        ElementTree.fromstring(content)
