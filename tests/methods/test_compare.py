"""Comparison of methods: `dv.compare`, its arrays, figure and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.artists import check_texts, images, text_of
from helpers.snapshots import left_as_it_was, pictures, wrapped
from PIL import Image
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import FigureError, ImageError, LayerError, MethodError, OutputError, UnitError
from deconvviz.methods.method import METHODS
from deconvviz.results import Result
from deconvviz.scenes import scene

OWN = ["deconvnet", "guided", "gradient", "input_x_gradient"]
UNIT_ARRAYS = ["boxes", "image", "channel", "y", "x", "activation"]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))))


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return scene(3).image


@pytest.fixture(scope="module")
def found(net: dv.Network, image: np.ndarray) -> dv.Comparison:
    return dv.compare(net, image, "conv3_2", 2, methods=[*OWN, "gradcam", "lrp"], class_name=4)


def test_comparison_is_a_result(found: dv.Comparison) -> None:
    result: Result[object] = found
    assert result is found and len(found) == 2
    text = "<Comparison of 6 methods for 2 units of conv3_2 in minivgg: deconvnet, guided"
    assert repr(found).startswith(text)


def test_units_are_the_strongest_of_each_channel_by_default(net: dv.Network, image: np.ndarray) -> None:
    recording = net.record(image, "conv3_2")
    found = dv.compare(net, image, "conv3_2", methods=["deconvnet"])
    assert list(found.units) == recording.strongest("conv3_2", 3)
    assert list(found.boxes) == recording.boxes("conv3_2", found.units)
    of_channel = dv.compare(net, image, "conv3_2", 4, methods=["deconvnet"], channel=7)
    assert list(of_channel.units) == recording.strongest("conv3_2", 4, 7)
    unit = dv.Unit(0, 7, 3, 4)
    assert dv.compare(net, image, "conv3_2", methods=["deconvnet"], units=unit).units[0].channel == 7
    several = dv.compare(net, image, "conv3_2", methods=["deconvnet"], units=[unit, dv.Unit(0, 2, 1, 1)])
    assert [one.channel for one in several.units] == [7, 2]


def test_maps_are_those_of_the_engine_with_the_activation_as_the_signal(
    found: dv.Comparison, net: dv.Network, image: np.ndarray
) -> None:
    recording = net.record(image, "conv3_2", methods=OWN[1:])
    assert list(found.maps) == [*OWN, "gradcam", "lrp"]
    for name in OWN:
        expected = recording.project("conv3_2", found.units, method=name).pixels
        assert torch.equal(found.maps[name], expected), name
        assert found.maps[name].any()
    assert torch.equal(found.maps["gradcam"][0], found.maps["gradcam"][1])


def test_arrays_have_one_entry_for_each_method_and_the_units_as_project(
    found: dv.Comparison, net: dv.Network, image: np.ndarray
) -> None:
    arrays = found.arrays()
    assert list(arrays) == [*OWN, "gradcam", "lrp", *UNIT_ARRAYS]
    for name in found.maps:
        assert arrays[name].shape == (2, 3, 96, 96) and arrays[name].dtype == np.float32
    projected = dv.project(net, image, "conv3_2", 2).arrays()
    np.testing.assert_array_equal(arrays["deconvnet"], projected["pixels"])
    for name in UNIT_ARRAYS:
        np.testing.assert_array_equal(arrays[name], projected[name])
        assert arrays[name].dtype == projected[name].dtype


def test_figure_has_a_row_for_each_unit_and_a_column_for_each_method(found: dv.Comparison) -> None:
    spec = found.spec()
    assert spec.shape == (2, 7)
    titles = ("patch", "deconvnet", "guided backprop", "gradient", "input × gradient", "Grad-CAM", "LRP")
    assert spec.column_labels == titles
    first = found.units[0]
    assert spec.row_labels[0] == (
        f"channel {first.channel}\nat ({first.y}, {first.x})\nactivation {first.activation:.4g}"
    )
    figure = found.figure()
    check_texts(figure)
    assert set(images(figure, "tile-")) == {f"tile-{row}-{column}" for row in range(2) for column in range(7)}
    text = text_of(figure, "scale") + text_of(figure, "foot")
    assert "each tile has its own colour scale; grey is zero" in text
    assert "cropped to 98 % of the energy of the deconvnet projections" in text
    assert f"Grad-CAM: of the class {found.network.classes[4]}" in text


def test_tiles_of_a_row_show_the_same_crop(found: dv.Comparison) -> None:
    x0, y0, x1, y1 = found.projection.effective_boxes()[1]
    patch, deconvnet, *others = found.spec().tiles[1]
    assert patch is not None and deconvnet is not None
    np.testing.assert_array_equal(patch.values, found.projection.patch_at(1, (x0, y0, x1, y1)))
    cut = np.moveaxis(found.arrays()["deconvnet"][1, :, y0:y1, x0:x1], 0, -1)
    np.testing.assert_array_equal(deconvnet.values, cut)
    assert {tile.size for tile in others if tile is not None} == {(y1 - y0, x1 - x0)}
    gradcam = others[3]
    assert gradcam is not None
    np.testing.assert_allclose(
        gradcam.values, found.arrays()["gradcam"][1, :, y0:y1, x0:x1].sum(axis=0), rtol=1e-6
    )
    box = found.boxes[1]
    of_field = found.spec(crop="field").tiles[1][0]
    assert of_field is not None and of_field.size == (box[3] - box[1], box[2] - box[0])


@pytest.mark.parametrize("medium", ["screen", "paper", "slide"])
def test_texts_do_not_overlap_for_each_medium(found: dv.Comparison, medium: str) -> None:
    figure = found.figure(medium=medium)
    check_texts(figure)
    width = {"screen": 7.2, "paper": 86 / 25.4, "slide": 40 / 3}[medium]
    assert figure.get_figwidth() == pytest.approx(width, abs=0.2 if medium == "screen" else 1e-6)
    assert "…" not in text_of(figure, "column-label") + text_of(figure, "row-label")


def test_methods_that_cannot_be_used_are_left_out_with_the_reason() -> None:
    functional = wrapped(Functional(), 12)
    found = dv.compare(functional, pictures(1, 12), "output", 1, methods=["gradient", "gradcam", "lrp"])
    assert list(found.maps) == ["gradient"]
    assert found.left_out == {
        "gradcam": "it explains a class: name one",
        "lrp": "the network calls relu itself, not in a module, so captum gives it no rule",
    }
    assert found.spec().footer.endswith(
        "left out: gradcam (it explains a class: name one) · "
        "left out: lrp (the network calls relu itself, not in a module, so captum gives it no rule)"
    )
    assert found.describe()["left_out"][1]["name"] == "lrp"
    with pytest.raises(MethodError, match=r"^none of the methods can be used\. lrp: the network calls relu"):
        dv.compare(functional, pictures(1, 12), "output", 1, methods=["lrp"])


def test_description_states_source_meaning_and_cost_of_each_method(found: dv.Comparison) -> None:
    described = found.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["format"] == "deconvviz comparison 1" and "method" not in described
    assert described["class"] == found.network.classes[4]
    names = [one["name"] for one in described["methods"]]
    assert names == list(found.maps) and all(one["cost"] and one["source"] for one in described["methods"])
    assert "captum" in described["versions"]
    assert described["units"][0]["channel"] == found.units[0].channel


def test_save_writes_figure_manifest_and_arrays(found: dv.Comparison, tmp_path: Path) -> None:
    files = found.save(tmp_path / "methods.png", arrays=True, crop="field")
    assert [path.name for path in files] == ["methods.png", "methods.json", "methods.npz"]
    with Image.open(files.figure) as drawn:
        assert drawn.width > 1000
    manifest = json.loads(files.manifest.read_text())
    assert manifest["style"]["crop"] == "field" and manifest["style"]["dpi"] == 200
    assert len(manifest["colour_scale"]["limits"]) == 12
    assert files.arrays is not None
    with np.load(files.arrays) as stored:
        assert sorted(stored) == sorted([*found.maps, *UNIT_ARRAYS])
        np.testing.assert_array_equal(stored["guided"], found.arrays()["guided"])
    with pytest.raises(OutputError, match="already exist"):
        found.save(tmp_path / "methods.png")


def test_notebook_shows_the_figure(found: dv.Comparison) -> None:
    shown = found._repr_png_()
    assert shown is not None and shown.startswith(b"\x89PNG")


def test_silent_units_are_noted(net: dv.Network, image: np.ndarray) -> None:
    zero = (net.record(image, "relu3_2").activations("relu3_2")[0] == 0).nonzero()[0].tolist()
    found = dv.compare(net, image, "relu3_2", methods=["deconvnet", "gradient"], units=dv.Unit(0, *zero))
    assert [tile.note for tile in found.spec().tiles[0] if tile is not None] == [None, "zero", "zero"]
    check_texts(found.figure())


def test_inputs_that_are_not_images_have_numbers_but_no_figure() -> None:
    torch.manual_seed(2)
    net = dv.Network(nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU()), size=8, mean=[0] * 5, std=[1] * 5)
    found = dv.compare(net, torch.rand(1, 5, 8, 8), "1", 2, methods=["deconvnet", "gradient"])
    assert found.arrays()["gradient"].shape == (2, 5, 8, 8)
    assert found._repr_png_() is None
    with pytest.raises(FigureError, match="is not an image, so there is no figure"):
        found.figure()


def test_a_method_given_twice_is_used_once(net: dv.Network, image: np.ndarray) -> None:
    assert list(dv.compare(net, image, "conv2_1", 1, methods=["guided", "guided"]).maps) == ["guided"]
    assert list(dv.compare(net, image, "conv2_1", 1, methods="guided").maps) == ["guided"]


def test_progress_names_the_method(net: dv.Network, image: np.ndarray) -> None:
    reports: list[tuple[str, int, int]] = []
    dv.compare(
        net, image, "conv2_1", 1, methods=["guided", "smoothgrad"], report=lambda *one: reports.append(one)
    )
    assert [name for name, *_ in reports] == ["guided", *["smoothgrad"] * 3]
    assert reports[-1] == ("smoothgrad", 25, 25)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": ["gradients"]}, MethodError, f"no method 'gradients': there are {', '.join(METHODS)}"),
        ({"methods": []}, MethodError, "no method was given: name one or more"),
        ({"layer": "conv9_1"}, LayerError, "no layer 'conv9_1'"),
        ({"units": [dv.Unit(0, 400, 1, 1)]}, UnitError, "no channel 400 in conv3_2"),
        ({"units": []}, UnitError, "no unit of conv3_2 was given"),
        ({"k": 1000}, UnitError, "1000 units were requested, but conv3_2 has"),
        ({"class_name": "unheard of"}, UnitError, "unheard of"),
        ({"image": [scene(1).image, scene(2).image]}, ImageError, "one image at a time, but 2 were given"),
    ],
)
def test_mistakes_are_errors(
    net: dv.Network, image: np.ndarray, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    given = {"image": image, "layer": "conv3_2", "methods": ["deconvnet"], **arguments}
    with left_as_it_was(net.module), pytest.raises(error) as caught:
        dv.compare(net, **given)
    assert message in str(caught.value)
