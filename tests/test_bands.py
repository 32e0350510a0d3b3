"""Pictures of several bands as inputs of 2-D networks, and which bands a figure shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from helpers.asking import seeded
from helpers.oracles import Autograd, difference
from torch import nn
from typer.testing import CliRunner, Result

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import FigureError, ImageError
from deconvviz.figures.spec.sheet import Sheet
from deconvviz.images.input_array import read_array

pytestmark = pytest.mark.slow

MEAN, STD = (1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 2.0, 4.0, 8.0, 16.0)
PICTURE = np.random.default_rng(0).normal(3, 5, (5, 24, 30)).astype(np.float32)


def network(count: int = 5) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(count, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3))
    )


def net(**given: Any) -> dv.Network:
    return dv.Network(network(), size=(24, 30), mean=MEAN, std=STD, name="five", **given)


def column(numbers: tuple[float, ...]) -> npt.NDArray[Any]:
    return np.array(numbers)[:, None, None]


def sheet(found: dv.Projection, **style: Any) -> Sheet:
    spec = found.spec(**style)
    assert isinstance(spec, Sheet)
    return spec


@pytest.mark.parametrize("size", [{"size": (24, 30)}, {"shape": (5, 24, 30)}])
def test_projection_to_bands_equals_autograd(tmp_path: Path, size: dict[str, Any]) -> None:
    np.save(tmp_path / "five.npy", PICTURE)
    five = dv.Network(network(), mean=MEAN, std=STD, **size)
    recording = five.record(tmp_path / "five.npy", "3")
    inputs = (PICTURE.astype(np.float64) - column(MEAN)) / column(STD)
    assert np.allclose(recording.inputs[0], inputs, atol=1e-6)
    units = recording.strongest("3", 2)
    oracle = Autograd(five.module, recording.inputs)
    for pixels, unit in zip(recording.project("3", units).pixels, units, strict=True):
        signal = torch.zeros_like(oracle.outputs["3"])
        signal[unit.place] = oracle.outputs["3"].detach()[unit.place]
        assert difference(pixels, oracle.project("3", signal)[0]) < 1e-10


@pytest.mark.parametrize("planes", ["separate", "contig"])
def test_bands_of_a_tif_come_first(tmp_path: Path, planes: str) -> None:
    values = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    stored = values if planes == "separate" else values.transpose(1, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planes)
    assert np.array_equal(read_array(tmp_path / "a.tif", (5, 6, 7)).values, values)


def test_pages_of_a_tif_are_bands(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6, 7)).astype(np.float32)
    with tifffile.TiffWriter(tmp_path / "pages.tiff") as writer:
        for page in values:
            writer.write(page, contiguous=False)
    found = read_array(tmp_path / "pages.tiff", (4, 6, 9))
    assert np.array_equal(found.values, np.pad(values, [(0, 0), (0, 0), (1, 1)]))
    assert found.notes == ("padded with zeros from 6 x 7 to 6 x 9",)


def test_pages_of_one_series_are_bands(tmp_path: Path) -> None:
    values = np.arange(3 * 6 * 7, dtype=np.uint8).reshape(3, 6, 7)
    tifffile.imwrite(tmp_path / "pages.tif", values, photometric="minisblack")
    assert np.array_equal(read_array(tmp_path / "pages.tif", (3, 6, 7)).values, values)


def test_other_pictures_of_a_tif_are_noted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(np.ones((6, 7), np.uint8))
        writer.write(np.ones((3, 2), np.uint8))
    found = read_array(tmp_path / "two.tif", (1, 6, 7))
    assert (found.values.shape, found.notes) == ((1, 6, 7), ("first of 2 pictures",))


def test_file_with_other_bands_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "four.npy", PICTURE[:4])
    (tmp_path / "bad.tif").write_bytes(b"not a picture" * 9)
    with pytest.raises(
        ImageError, match=r"four\.npy has shape \(4, 24, 30\): the network reads \(5, 24, 30\)"
    ):
        net().record(tmp_path / "four.npy", "3")
    with pytest.raises(ImageError, match=r"bad\.tif cannot be read: "):
        net().record(tmp_path / "bad.tif", "3")
    with pytest.raises(ImageError, match=r"five reads 5 channels, but an image has 3"):
        net().record("cat.jpg", "3")


def test_figure_shows_the_chosen_bands() -> None:
    recording = net().record(PICTURE, "3")
    found = recording.project("3", recording.choose("3", 2))
    spec = sheet(found, crop="field", bands=(4, 3, 2))
    want = []
    for number in (4, 3, 2):
        low, high = np.percentile(PICTURE[number - 1], (2, 98))
        want.append(np.clip((PICTURE[number - 1] - low) / (high - low), 0, 1))
    picture = np.stack(want, axis=-1)
    assert spec.image is not None and np.allclose(spec.image, picture, atol=1e-5)
    for tile, (x0, y0, x1, y1), pixels in zip(spec.tiles, found.boxes, found.pixels.numpy(), strict=True):
        assert tile.patch is not None and np.allclose(tile.patch, picture[y0:y1, x0:x1], atol=1e-5)
        signed = pixels[[3, 2, 1], y0:y1, x0:x1] * np.array([8.0, 4, 2])[:, None, None]
        assert np.allclose(tile.projection, signed.transpose(1, 2, 0), atol=1e-5)
    energy = found.pixels.square().sum((0, 2, 3))
    share = float(energy[1:4].sum() / energy.sum())
    assert spec.footer.startswith(
        f"bands 4, 3, 2 of 5 as red, green and blue, with {100 * share:.0f} % of the energy · "
        "black and white in the picture: percentiles 2 and 98 of each of them"
    )
    assert spec.units == "in the units of the bands"


def test_first_three_bands_are_shown_by_default() -> None:
    found = net().record(PICTURE, "3").project("3", dv.Unit(0, 1, 2, 3))
    default, chosen = sheet(found), sheet(found, bands=[1, 2, 3])
    assert np.array_equal(np.asarray(default.image), np.asarray(chosen.image))
    assert default.footer == chosen.footer and default.footer.startswith("bands 1, 2, 3 of 5")


def test_one_band_and_two_bands_are_shown_in_grey() -> None:
    two = dv.Network(network(2), shape=(2, 24, 30))
    found = two.record(PICTURE[:2], "3").project("3", dv.Unit(0, 1, 2, 3))
    assert sheet(found).footer.startswith("band 1 of 2 in grey, with ")
    tile = sheet(found, crop="field", bands=(2,)).tiles[0]
    (x0, y0, x1, y1) = found.boxes[0]
    assert np.allclose(tile.projection, found.pixels[0, 1, y0:y1, x0:x1].numpy(), atol=1e-6)
    found.figure()


def test_patch_and_crop_of_bands_are_arrays() -> None:
    found = net().record(PICTURE, "3").project("3", dv.Unit(0, 1, 2, 3))
    (x0, y0, x1, y1) = found.boxes[0]
    assert np.allclose(found.patch(0), PICTURE[:, y0:y1, x0:x1], atol=1e-5)
    assert np.allclose(found.crop(0), found.pixels[0, :, y0:y1, x0:x1].numpy() * column(STD))


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((6, 1, 2), "no band 6: there are 1 to 5"),
        ((1, 2), r"bands \(1, 2\): give three numbers, or one; the first band is 1"),
        ((0, 1, 2), "the first band is 1"),
        ("432", "give three numbers"),
    ],
)
def test_bands_that_do_not_exist_raise(bands: Any, message: str) -> None:
    found = net().record(PICTURE, "3").project("3", dv.Unit(0, 1, 2, 3))
    with pytest.raises(FigureError, match=message):
        found.spec(bands=bands)


def test_bands_of_an_image_raise() -> None:
    found = dv.Network(network(3), size=24).record(np.zeros((24, 24, 3), np.uint8), "3")
    with pytest.raises(FigureError, match="has no bands to choose from"):
        found.project("3", dv.Unit(0, 1, 2, 3)).spec(bands=(3, 2, 1))


FACTORY = """
import torch
from torch import nn
import deconvviz as dv


def make():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(5, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3))
    return dv.Network(module, size=(24, 30), mean=[0] * 5, std=[1] * 5, name="five")
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_command_line_shows_bands_and_makes_the_figure_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FACTORY)
    tifffile.imwrite("five.tif", PICTURE[:, :, :25], photometric="minisblack", planarconfig="separate")
    command = ["project", "five.tif", "--model", "own.py:make", "--layer", "3", "--top", "2"]
    done = run(*command, "--bands", "5,1,2", "--out", "a")
    assert done.exit_code == 0, done.stderr
    assert "five.tif: padded with zeros from 24 x 25 to 24 x 30" in done.stderr
    assert json.loads(Path("a/five-3.json").read_text())["style"]["bands"] == [5, 1, 2]
    done = run("project", "--from", "a/five-3.json", "--allow-code", "--out", "b")
    assert done.exit_code == 0, done.stderr
    assert Path("a/five-3.png").read_bytes() == Path("b/five-3.png").read_bytes()
    for bands, words in (("6,1,2", "no band 6: there are 1 to 5"), ("1,2", "are not three bands")):
        done = run(*command, "--bands", bands, "--out", "c")
        assert (done.exit_code, Path("c").exists()) == (2, False)
        assert words in " ".join(done.stderr.replace("│", " ").split())
