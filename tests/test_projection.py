"""`Projection`: its arrays, its figure and the files it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import FigureError, OutputError
from deconvviz.scenes import scene


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg", weights="random")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "bus.png"
    Image.fromarray(scene(4).image).save(path)
    return path


@pytest.fixture(scope="module")
def rec(mini: dv.Network, path: Path) -> dv.Recording:
    return mini.record(path, ["conv3_1", "fc5", "output"])


@pytest.fixture(scope="module")
def proj(rec: dv.Recording) -> dv.Projection:
    return rec.project("conv3_1", rec.strongest("conv3_1", 5))


def test_shapes_and_repr_of_a_projection(proj: dv.Projection) -> None:
    assert proj.pixels.shape == (5, 3, 96, 96) and len(proj) == len(proj.units) == len(proj.boxes) == 5
    high = float(proj.pixels.abs().max())
    assert repr(proj) == (
        f"<Projection of 5 units of conv3_1 in minivgg: (5, 3, 96, 96), largest value {high:.3g}>"
    )
    assert repr(proj[:1]).startswith("<Projection of 1 unit of conv3_1")


def test_projection_is_zero_outside_its_boxes_and_has_both_signs(proj: dv.Projection) -> None:
    for one, (x0, y0, x1, y1) in zip(proj.pixels, proj.boxes, strict=True):
        inside = one[:, y0:y1, x0:x1]
        assert float(inside.square().sum()) == pytest.approx(float(one.square().sum()), rel=1e-6)
        assert inside.any() and 0 < x1 - x0 <= 24 and 0 < y1 - y0 <= 24
    assert float(proj.pixels.min()) < 0 < float(proj.pixels.max())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_process_does_not_change_a_projection(rec: dv.Recording) -> None:
    pixels = rec.project("conv3_1", rec.strongest("conv3_1", 2)).pixels
    before, written = pixels.clone(), pixels.numpy()
    if (child := os.fork()) == 0:
        written[:] = 7
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(pixels, before)


def test_indexing_selects_units(proj: dv.Projection) -> None:
    for which, numbers in ((2, [2]), (-1, [4]), (slice(1, 4), [1, 2, 3]), ([4, 0], [4, 0])):
        part = proj[which]  # type: ignore[index]
        assert part.units == tuple(proj.units[n] for n in numbers)
        assert part.boxes == tuple(proj.boxes[n] for n in numbers)
        assert torch.equal(part.pixels, proj.pixels[numbers])
    with pytest.raises(IndexError):
        proj[5]


def test_patch_and_crop_are_image_and_projection_inside_the_box(proj: dv.Projection) -> None:
    image = scene(4).image / 255  # 96 px: neither resized nor cut
    for number, (x0, y0, x1, y1) in enumerate(proj.boxes):
        np.testing.assert_allclose(proj.patch(number), image[y0:y1, x0:x1], atol=1e-6)
        std = np.array(proj.network.preprocessing.std)
        want = proj.pixels[number].permute(1, 2, 0).numpy()[y0:y1, x0:x1] * std
        np.testing.assert_allclose(proj.crop(number), want, rtol=1e-6)


def test_arrays_of_a_projection(proj: dv.Projection, rec: dv.Recording) -> None:
    arrays = proj.arrays()
    assert set(arrays) == {"pixels", "input", "boxes", "image", "channel", "y", "x", "activation"}
    np.testing.assert_array_equal(arrays["pixels"], proj.pixels.numpy())
    np.testing.assert_array_equal(arrays["input"], rec.inputs.numpy())
    assert [tuple(box) for box in arrays["boxes"]] == list(proj.boxes)
    activations = rec.activations("conv3_1").numpy()
    places = tuple(arrays[name] for name in ("image", "channel", "y", "x"))
    np.testing.assert_array_equal(activations[places], arrays["activation"])
    channel = rec.project("conv3_1", dv.Unit(0, 3)).arrays()
    assert channel["y"] == channel["x"] == -1 and channel["activation"] == activations[0, 3].max()


def test_titles_captions_and_boxes_of_a_sheet(
    proj: dv.Projection, rec: dv.Recording, mini: dv.Network
) -> None:
    sheet = proj.spec()
    assert sheet.title[0] == "minivgg · conv3_1 · bus.png"
    assert sheet.title[1].startswith("weights: random") and sheet.title[1].endswith(
        "receptive field 24 px, stride 4 px"
    )
    unit = proj.units[0]
    assert sheet.tiles[0].caption == (
        f"conv3_1 · channel {unit.channel}", f"at ({unit.y}, {unit.x}) · activation {unit.activation:.4g}",
    )  # fmt: skip
    assert [tile.number for tile in sheet.tiles] == [1, 2, 3, 4, 5]
    assert [tile.box for tile in sheet.tiles] == list(proj.boxes)
    assert sheet.image is not None and sheet.image.shape == (96, 96, 3)

    (whole,) = rec.project("conv3_1", dv.Unit(0, 3)).spec().tiles
    assert whole.caption[0] == "conv3_1 · channel 3" and whole.caption[1].startswith("whole channel · peak ")
    (score,) = rec.project("output", rec.class_unit(7)).spec().tiles
    assert score.caption[0] == f"output · {mini.classes[7]} (7)"
    assert score.box == (0, 0, 96, 96)
    (hidden,) = rec.project("fc5", dv.Unit(0, 9)).spec().tiles
    assert hidden.caption[0] == "fc5 · unit 9"
    (tensor,) = rec.project("fc5", torch.ones(1, 64)).spec().tiles
    assert tensor.caption == ("fc5 · tensor 0",)


def test_centre_is_that_of_the_field_without_borders(rec: dv.Recording) -> None:
    """The field of a corner unit is cut by the border; its centre is still that of the whole field."""
    corner, middle = dv.Unit(0, 0, 0, 0), dv.Unit(0, 0, 10, 12)
    proj = rec.project("conv3_1", [corner, middle])
    assert proj.boxes == ((0, 0, 14, 14), (38, 30, 62, 54))
    tiles = proj.spec().tiles
    assert tiles[0].centre == (2, 2) and tiles[1].centre == (50, 42)


def test_zero_projections_have_a_note_with_the_reason() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)), size=8)
    with torch.no_grad():
        net.module[0].bias.fill_(-1e6)  # type: ignore[union-attr, operator]
        net.module[2].weight.fill_(-1)  # type: ignore[union-attr, operator]
        net.module[2].bias.fill_(3)  # type: ignore[union-attr, operator]
    rec = net.record(torch.randn(1, 3, 8, 8), ["1", "2"])
    dead, blind = rec.project("1", dv.Unit(0, 0, 2, 2)), rec.project("2", dv.Unit(0, 0, 2, 2))
    assert not dead.pixels.any() and not blind.pixels.any()
    assert dead.spec().tiles[0].note == "zero: this unit is silent"
    assert blind.spec().tiles[0].note == "zero: no signal reaches the pixels"


def test_captions_of_several_images_have_file_names_instead_of_boxes(mini: dv.Network, path: Path) -> None:
    rec = mini.record([path, scene(5).image], "conv3_1")
    proj = rec.project("conv3_1", [dv.Unit(0, 1, 3, 3), dv.Unit(1, 1, 3, 3)])
    sheet = proj.spec()
    assert sheet.image is None and sheet.title[0] == "minivgg · conv3_1 · 2 images"
    assert [tile.box for tile in sheet.tiles] == [None, None]
    assert [tile.caption[-1] for tile in sheet.tiles] == ["bus.png", "image 1"]
    x0, y0, x1, y1 = proj.boxes[1]
    np.testing.assert_allclose(proj.patch(1), scene(5).image[y0:y1, x0:x1] / 255, atol=1e-6)


def test_figure_without_units_raises(proj: dv.Projection) -> None:
    with pytest.raises(FigureError, match=r"^there is no unit to draw$"):
        proj[[]].figure()


def test_projection_of_a_network_with_one_input_channel(tmp_path: Path) -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(1, 2, 3)), size=8, mean=(0.5,), std=(0.5,))
    rec = net.record(torch.randn(1, 1, 8, 8), "0")
    proj = rec.project("0", rec.strongest("0", 2))
    assert proj.crop(0).shape == proj.patch(0).shape == (3, 3, 3)
    assert proj.save(tmp_path / "grey.png").figure.is_file()


def test_jupyter_shows_a_png(proj: dv.Projection) -> None:
    assert (proj._repr_png_() or b"").startswith(b"\x89PNG\r\n\x1a\n")


def test_figure_draws_all_projections_at_one_scale(proj: dv.Projection) -> None:
    """Read from the figure's artists: zero is mid-grey, and grey levels are linear in the projection."""
    figure = proj.figure(scale="sheet", percentile=100, crop="field")
    crops = [proj.crop(number) for number in range(len(proj))]
    limit = max(np.abs(crop).max() for crop in crops)
    images = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]
    for crop in crops:
        want = 0.5 + crop / (2 * limit)
        assert any(image.shape == want.shape and np.allclose(image, want, atol=1 / 255) for image in images)


def test_effective_boxes_are_the_smallest_squares_with_98_percent_of_the_energy(proj: dv.Projection) -> None:
    """Compared with an exhaustive search over all squares that are one pixel smaller."""
    energies = proj.pixels.double().square().sum(1).numpy()  # (K, C, H, W) -> (K, H, W)
    boxes = proj.effective_boxes()
    (side,) = {x1 - x0 for x0, _, x1, _ in boxes} | {y1 - y0 for _, y0, _, y1 in boxes}
    for energy, (x0, y0, x1, y1) in zip(energies, boxes, strict=True):
        assert energy[y0:y1, x0:x1].sum() >= 0.98 * energy.sum()
    most = [
        max(
            energy[y : y + side - 1, x : x + side - 1].sum() / energy.sum()
            for y in range(97 - side)
            for x in range(97 - side)
        )
        for energy in energies
    ]
    assert min(most) < 0.98, "a smaller square would be enough for all units"
    assert proj.effective_boxes(1.0) != boxes and len(proj.effective_boxes(0.5)) == 5
    with pytest.raises(FigureError, match="energy 0"):
        proj.effective_boxes(0)


def test_effective_crop_of_a_sheet(proj: dv.Projection) -> None:
    sheet = proj.spec()
    assert sheet.crop_text == "cropped to 98 % of the projection's energy"
    assert [tile.crop_box for tile in sheet.tiles] == list(proj.effective_boxes())
    assert [tile.box for tile in sheet.tiles] == list(proj.boxes)
    for number, tile in enumerate(sheet.tiles):
        np.testing.assert_array_equal(tile.patch, proj.patch_at(number, proj.effective_boxes()[number]))
        np.testing.assert_array_equal(tile.projection, proj.crop_at(number, proj.effective_boxes()[number]))


def test_field_crop_of_a_sheet(proj: dv.Projection) -> None:
    sheet = proj.spec(crop="field")
    assert sheet.crop_text == "cropped to the receptive field"
    for number, tile in enumerate(sheet.tiles):
        assert tile.crop_box is None and tile.box == proj.boxes[number]
        np.testing.assert_array_equal(tile.patch, proj.patch(number))
        np.testing.assert_array_equal(tile.projection, proj.crop(number))


def test_field_that_is_the_whole_image_is_cropped_too(rec: dv.Recording) -> None:
    tile = rec.project("output", rec.class_unit(7)).spec().tiles[0]
    assert tile.box == (0, 0, 96, 96) and tile.crop_box is not None
    assert tile.crop_box != tile.box and tile.size[0] == tile.size[1] < 96


def test_silent_units_are_drawn_at_the_size_of_the_others(mini: dv.Network, rec: dv.Recording) -> None:
    proj = rec.project("conv3_1", rec.strongest("conv3_1", 3))
    proj.pixels[1] = 0
    tiles = proj.spec().tiles
    assert len({tile.size for tile in tiles}) == 1 and tiles[1].note is not None
    proj.pixels[:] = 0
    assert [tile.crop_box for tile in proj.spec().tiles] == list(proj.boxes)


def test_captions_for_paper_and_slides_do_not_repeat_the_layer(proj: dv.Projection) -> None:
    for medium, first in (("screen", "conv3_1 · channel"), ("paper", "channel"), ("slide", "channel")):
        assert proj.spec(medium=medium).tiles[0].caption[0].startswith(first)


@pytest.mark.parametrize(
    ("medium", "dpi", "size"), [("screen", 200, None), ("paper", 300, 1015), ("slide", 200, 2666)]
)
def test_resolution_of_each_medium(
    proj: dv.Projection, tmp_path: Path, medium: str, dpi: int, size: int | None
) -> None:
    files = proj.save(tmp_path / "one.png", medium=medium)
    manifest = json.loads(files.manifest.read_text())
    assert manifest["style"]["dpi"] == dpi and manifest["style"]["medium"] == medium
    with Image.open(files.figure) as image:
        assert size is None or image.width == pytest.approx(size, abs=1)


def test_manifest_has_the_limits_of_the_colour_scale(proj: dv.Projection, tmp_path: Path) -> None:
    files = proj.save(tmp_path / "one.png", percentile=100)
    stored = json.loads(files.manifest.read_text())["colour_scale"]
    crops = [tile.projection for tile in proj.spec().tiles]
    limit = max(np.abs(crop).max() for crop in crops)
    assert stored == {"units": "in pixel values (white = 1)", "limits": [limit], "clipped": [0.0]}
    assert f"{limit:.3g}" not in proj.spec().crop_text


def test_save_writes_all_files_and_overwrites_only_with_force(proj: dv.Projection, tmp_path: Path) -> None:
    figure = proj.save(tmp_path / "out.png", arrays=True, dpi=80).figure
    assert figure == tmp_path / "out.png"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.npz", "out.png"]
    with np.load(tmp_path / "out.npz") as stored:
        for name, array in proj.arrays().items():
            np.testing.assert_array_equal(stored[name], array)
    before = figure.read_bytes()
    for there in ("out.png", "out.json", "out.npz"):
        others = [tmp_path / name for name in ("out.png", "out.json", "out.npz") if name != there]
        kept = {other: other.read_bytes() for other in others}
        for other in others:
            other.unlink()
        message = f"{there} already exists. Overwrite with force=True"
        with pytest.raises(OutputError, match=message):
            proj.save(tmp_path / "out.png", arrays=True)
        assert not any(other.exists() for other in others)
        for other, contents in kept.items():
            other.write_bytes(contents)
    proj[:2].save(tmp_path / "out.png", force=True)
    assert figure.read_bytes() != before
    assert len(json.loads((tmp_path / "out.json").read_text())["units"]) == 2


@pytest.mark.parametrize("name", ["out.gif", "out", "a file/out.png"])
def test_save_leaves_nothing_if_it_fails(proj: dv.Projection, tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(OutputError):
        proj.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_box_of_a_tensor_is_that_of_its_nonzero_positions(rec: dv.Recording) -> None:
    signal: Tensor = torch.zeros(2, 64, 24, 24)
    signal[0, 5, 10, 12] = signal[0, 9, 10, 13] = 1
    proj = rec.project("conv3_1", signal)
    assert proj.boxes == ((38, 30, 66, 54), (0, 0, 0, 0))
    assert bool(proj.pixels[0].any()) and not proj.pixels[1].any()


def test_figure_of_a_network_whose_input_is_not_an_image_raises(tmp_path: Path) -> None:
    """A generator is projected to its input, a vector."""
    module = nn.Sequential(nn.ConvTranspose2d(100, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1))
    net = dv.Network(module, size=1, mean=(0,) * 100, std=(1,) * 100, name="generator")
    proj = net.record(torch.randn(1, 100, 1, 1), "output").project("output", dv.Unit(0, 1, 4, 4))
    assert proj.pixels.shape == (1, 100, 1, 1) and bool(proj.pixels.any())
    assert proj.arrays()["pixels"].shape == (1, 100, 1, 1)
    message = (
        "the input of generator has 100 channels, so it is not an image (3, or 1 for grey) and there is no "
        "figure. Use the numbers: .pixels or .arrays()"
    )
    for method in (
        proj.figure,
        lambda: proj.patch(0),
        lambda: proj.crop(0),
        lambda: proj.save(tmp_path / "a.png"),
    ):
        with pytest.raises(FigureError) as wrong:
            method()
        assert str(wrong.value) == message
    assert proj._repr_png_() is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "layer", "unit", "why"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()),
            "1",
            dv.Unit(0, 2, 1, 1),
            "this layer is treated as a constant",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1, padding=2)),
            "0",
            dv.Unit(0, 2, 0, 1),
            "no signal reaches the pixels",
        ),
    ],
    ids=["constant", "in the padding"],
)
def test_units_without_receptive_field_are_drawn_grey_next_to_the_whole_image(
    module: nn.Module, layer: str, unit: dv.Unit, why: str
) -> None:
    proj = dv.Network(module, size=(12, 16)).record(scene(1).image, layer).project(layer, unit)
    assert proj.boxes == ((0, 0, 0, 0),) and not proj.pixels.any()
    assert proj.patch(0).shape == proj.crop(0).shape == (0, 0, 3)
    (tile,) = proj.spec().tiles
    assert tile.note == f"zero: {why}" and tile.box is None and tile.centre is None
    assert tile.projection.shape == (12, 16, 3) and not tile.projection.any()
    assert tile.patch is not None and np.array_equal(tile.patch, proj.spec().image)
    assert proj.figure() is not None
