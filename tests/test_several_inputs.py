"""Networks with several inputs: recordings, projections to each input, figures and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import difference
from helpers.parts import Parts
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import FigureError, ImageError, NetworkError
from deconvviz.figures.spec import Sheet, Sheets
from deconvviz.scenes import scene


def trunk() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3, padding=1)
    )


class Siamese(nn.Module):
    """Network that calls one trunk with each of two pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.join = trunk(), nn.Conv2d(12, 5, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        maps = torch.cat([self.trunk(left), self.trunk(right)], dim=1)
        return torch.relu(self.join(maps)).mean((2, 3))


class TwoStreams(nn.Module):
    """Network with a trunk for each picture, which are subtracted; the second one is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.flow, self.head = trunk(), trunk(), nn.Conv2d(6, 4, 1)

    def forward(self, picture: Tensor, motion: Tensor) -> Tensor:
        motion.mul_(0.5)
        result: Tensor = self.head(torch.relu(self.rgb(picture) - self.flow(motion)))
        return result


class WithText(nn.Module):
    """Network with a picture and the embedding of a text; the text comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.text, self.head = trunk(), nn.Linear(7, 6), nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, words: Tensor, image: Tensor) -> Tensor:
        maps = self.trunk(image) + torch.relu(self.text(words))[:, :, None, None]
        result: Tensor = self.head(torch.relu(maps))
        return result


class WithMask(nn.Module):
    """Network with an optional mask of integers, which is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        maps: Tensor = self.trunk(x)
        return maps if mask is None else maps * mask[:, None]


def made(kind: type[nn.Module], **options: Any) -> dv.Network:
    torch.manual_seed(6)
    return dv.Network(kind().double().eval(), **{"size": 16, "name": "own", **options})


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(count: int = 2) -> tuple[Tensor, Tensor]:
    return random(count, 3, 16, 16, seed=1), random(count, 3, 16, 16, seed=2)


@pytest.mark.parametrize("kind", [Siamese, TwoStreams])
def test_projections_to_both_pictures_equal_the_reference(kind: type[nn.Module]) -> None:
    net = made(kind)
    reference = Parts(net.module, *pair())
    names = list(dict.fromkeys([name for name in net.layers.names if not net.layers[name].same_as]))
    rec = net.record(pair(), names)
    assert rec.input_names == net.inputs and len(net.inputs) == 2
    some = False
    for name in names:
        module = net.layers[name].module
        values = rec.activations(name)
        for place in ((0, 2, 3, 4), (1, 3, 0, 7)):
            unit = dv.Unit(*place) if values.dim() == 4 else dv.Unit(*place[:2])
            proj = rec.project(name, unit)
            theirs = reference.unit(module, *place[: values.dim()])
            for found, expected in zip((proj, *proj.further), theirs, strict=True):
                assert difference(found.pixels[0], expected[unit.image]) < 1e-12
            assert proj.of_input(net.inputs[1]) is proj.further[0]
            some = some or (bool(proj.pixels.any()) and bool(proj.further[0].pixels.any()))
    assert some


def test_layers_of_a_shared_trunk_name_their_input_and_their_field() -> None:
    layers = made(Siamese).layers
    assert layers["trunk.3"].inputs == ("left",) and layers["trunk.3:2"].inputs == ("right",)
    assert layers["join"].inputs == ("left", "right")
    for name, field in {"trunk.0": (3, 3), "trunk.3:2": (8, 8), "join": (12, 12)}.items():
        assert layers[name].field == field, name
    assert layers["trunk.3:2"].field_text == "receptive field 8 px, stride 2 px · depends on right"


def test_receptive_fields_are_those_in_each_input() -> None:
    net = made(Siamese)
    rec = net.record(pair(), ["trunk.3:2", "join"])
    unit = dv.Unit(1, 2, 3, 4)
    proj = rec.project("trunk.3:2", unit)
    assert proj.boxes == ((0, 0, 0, 0),) and proj.of_input("right").boxes == ((5, 3, 13, 11),)
    assert rec.boxes("trunk.3:2", [unit], input="right") == [(5, 3, 13, 11)]
    both = rec.project("join", unit)
    assert both.boxes == both.of_input("right").boxes == ((3, 1, 15, 13),)
    with pytest.raises(NetworkError, match=r"^no input 'up' in own: there are left, right$"):
        rec.boxes("join", [unit], input="up")
    with pytest.raises(NetworkError, match=r"^no input 'up' in own: there are left, right$"):
        both.of_input("up")
    alone = dv.Network(trunk(), size=16, name="one")
    with pytest.raises(NetworkError, match=r"^no input 'up' in one: it has one input, without a name$"):
        dv.project(alone, random(1, 3, 16, 16), "0", k=1).of_input("up")


@pytest.mark.parametrize("method", ["gradient", "guided", "input_x_gradient"])
def test_gradients_reach_every_input(method: str) -> None:
    net = made(TwoStreams)
    unit = dv.Unit(1, 2, 3, 4)
    proj = net.record(pair(), "head", methods=method).project("head", unit, method=method)
    leaves = [one.clone().requires_grad_(True) for one in pair()]
    kept: list[Tensor] = []
    handle = net.module.head.register_forward_hook(lambda *given: kept.append(given[2]))  # type: ignore[union-attr]
    net.module(*(leaf.clone() for leaf in leaves))
    handle.remove()
    value = kept[0][1, 2, 3, 4]
    gradients = torch.autograd.grad(value**2 / 2, leaves)
    for found, gradient, leaf in zip((proj, *proj.further), gradients, leaves, strict=True):
        expected = gradient * leaf.detach() if method == "input_x_gradient" else gradient
        if method != "guided":
            assert difference(found.pixels[0], expected[1]) < 1e-12
        else:
            assert bool(found.pixels.any()) and difference(found.pixels[0], expected[1]) > 1e-3


def test_input_that_is_not_a_picture_has_an_array_and_no_row() -> None:
    net = made(WithText, inputs={"words": (7,), "image": None})
    words, image = random(2, 7), random(2, 3, 16, 16)
    rec = net.record({"words": words, "image": image}, ["head", "text"])
    reference = Parts(net.module, words, image)
    unit = dv.Unit(1, 2, 3, 4)
    proj = rec.project("head", unit)
    text, picture = reference.unit("head", 1, 2, 3, 4)
    assert proj.input_name == "image" and difference(proj.pixels[0], picture[1]) < 1e-12
    assert difference(proj.of_input("words").pixels[0], text[1]) < 1e-12
    assert proj.boxes == ((3, 1, 15, 13),) and net.layers["head"].field == (12, 12)
    (of_text, none) = reference.unit("text", 0, 3)
    alone = rec.project("text", dv.Unit(0, 3))
    assert not none.any() and not alone.pixels.any()
    assert difference(alone.of_input("words").pixels[0], of_text[0]) < 1e-12
    assert net.layers["text"].inputs == ("words",) and net.layers["text"].field is None
    arrays = proj.arrays()
    assert arrays["pixels_words"].shape == (1, 7) and "boxes_words" not in arrays
    assert np.array_equal(arrays["input_words"], words.numpy())
    assert isinstance(proj.spec(), Sheet)
    with pytest.raises(FigureError, match=r"^the input words of own is not a picture"):
        proj.of_input("words").figure()
    same = net.record((words, image), "head").project("head", unit)
    assert torch.equal(same.pixels, proj.pixels)


def test_optional_input_is_recorded_by_its_name_and_integers_are_constants() -> None:
    net = made(WithMask)
    assert net.inputs == ()
    image, mask = random(2, 3, 16, 16), (random(2, 8, 8) > 0).long()
    rec = net.record({"x": image, "mask": mask}, "output")
    (theirs,) = Parts(net.module, image, mask=mask).unit("", 1, 2, 3, 5)
    proj = rec.project("output", dv.Unit(1, 2, 3, 5))
    assert difference(proj.pixels[0], theirs[1]) < 1e-12 and proj.further == ()
    assert proj.input_names == ("x",)
    plain = net.record(image, "output")
    assert not torch.equal(plain.activations("output"), rec.activations("output"))


def test_a_new_recording_after_another_pair_is_not_mixed_up_with_it() -> None:
    net = made(Siamese)
    first = net.record(pair(), "join").project("join", dv.Unit(0, 1, 2, 2))
    swapped = net.record(pair()[::-1], "join").project("join", dv.Unit(0, 1, 2, 2))
    again = net.record(pair(), "join").project("join", dv.Unit(0, 1, 2, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.of_input("right").pixels, again.of_input("right").pixels)
    assert difference(first.pixels, swapped.pixels) > 1e-3


def test_figure_has_one_row_for_each_picture() -> None:
    net = made(Siamese)
    left, right = scene(3).image, scene(4).image
    rec = net.record((left, right), "join")
    proj = rec.project("join", rec.strongest("join", 3))
    spec = proj.spec()
    assert isinstance(spec, Sheets)
    assert [row.name for row in spec.rows] == ["left: image 0", "right: image 0"]
    for row, name in zip(spec.rows, ("left", "right"), strict=True):
        one = proj.of_input(name)
        assert [tile.number for tile in row.sheet.tiles] == [1, 2, 3]
        assert np.allclose(row.sheet.image, net.preprocessing.view(one.inputs[0]))
        assert np.allclose(row.sheet.tiles[1].projection, one.crop_at(1, one.effective_boxes()[1]))
    figure = proj.figure()
    names = {str(artist.get_gid()) for artist in figure.findobj() if artist.get_gid()}
    assert {f"{row}: image 0-projection-{n}" for row in ("left", "right") for n in (1, 2, 3)} <= names
    for medium in ("paper", "slide"):
        assert proj.figure(medium=medium) is not None
    limit = figure.colour_scale["limits"]  # type: ignore[attr-defined]
    assert len(limit) == 1  # one scale for both rows


def test_figure_leaves_out_pictures_that_a_layer_does_not_depend_on() -> None:
    net = made(Siamese)
    rec = net.record((scene(3).image, scene(4).image), ["trunk.3", "trunk.3:2"])
    for layer, name in (("trunk.3", "left"), ("trunk.3:2", "right")):
        proj = rec.project(layer, rec.strongest(layer, 2))
        spec = proj.spec()
        assert isinstance(spec, Sheet) and spec.image is not None
        assert np.allclose(spec.image, net.preprocessing.view(proj.of_input(name).inputs[0]))
        assert f"depends on {name}" in spec.title[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            scene(1).image,
            r"^own has 2 inputs \(left, right\), but one was given\. Give a tuple, or a dictionary",
        ),
        ((scene(1).image,) * 3, r"^own has 2 inputs \(left, right\), but 3 were given\."),
        ({"left": scene(1).image}, r"^own has 2 inputs \(left, right\): right is missing$"),
        (
            (random(1, 3, 16, 16), random(2, 3, 16, 16)),
            r"different numbers of images: left has 1, right has 2$",
        ),
        (
            (random(1, 3, 16, 16), random(1, 2, 16, 16)),
            r"^a prepared tensor for right has shape \(B, 3, H, W\)",
        ),
        ((random(1, 3, 16, 16), random(1, 3, 16, 16) / 0), r"^the input right holds NaN or infinity$"),
    ],
)
def test_wrong_inputs_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        made(Siamese).record(given, "join")


def test_wrong_names_and_shapes_of_inputs_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"^forward\(\) has no argument 'up': there are left, right$"):
        made(Siamese, inputs=("left", "up"))
    with pytest.raises(NetworkError, match=r"^forward\(\) has no argument 'up': there are left, right$"):
        made(Siamese).record({"left": scene(1).image, "up": scene(1).image}, "join")
    with pytest.raises(NetworkError, match=r"inputs='left': give the names"):
        made(Siamese, inputs="left")
    with pytest.raises(NetworkError, match=r"own does not run on an input of 3 x 16 x 16 and 3 x 16 x 16: .*"
                       r"all its inputs were taken for pictures: .*inputs="):  # fmt: skip
        _ = made(WithText).layers
    text = made(WithText, inputs={"words": (7,), "image": None})
    with pytest.raises(ImageError, match=r"^the input words of own has shape \(B, 7\), not \(1, 5\)$"):
        text.record((random(1, 5), random(1, 3, 16, 16)), "head")


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient", "input_x_gradient"])
@pytest.mark.parametrize("kind", [Siamese, TwoStreams, WithText])
def test_projections_to_every_input_are_verified(kind: type[nn.Module], method: str) -> None:
    net, given = made(kind, inputs={"words": (7,), "image": None} if kind is WithText else None), pair()
    if kind is WithText:
        given = (random(2, 7), given[1])
    layer = "join" if kind is Siamese else "head"
    rec = net.record(given, layer, methods=method if method != "deconvnet" else ())
    proj = rec.project(layer, [dv.Unit(0, 2, 3, 4), dv.Unit(1, 1, 0, 7), dv.Unit(1, 3)], method=method)
    found = dv.verify(net, proj)
    assert found.route == "autograd" and found.units == 3 and found.largest_difference < 1e-12
    (other,) = proj.further
    assert bool(other.pixels.any())
    broken = replace(proj, further=(replace(other, pixels=other.pixels * 1.001),))
    assert dv.verify(net, broken).differences == pytest.approx([1e-3] * 3, rel=1e-3)


def test_constants_take_part_in_the_second_computation() -> None:
    net, mask = made(WithMask), (random(2, 8, 8) > 0).long()
    rec = net.record({"x": random(2, 3, 16, 16), "mask": mask}, "output")
    assert dv.verify(net, rec.project("output", dv.Unit(1, 2))).largest_difference < 1e-12


def test_uses_on_one_picture_refuse_several_inputs(tmp_path: Path) -> None:
    Image.fromarray(scene(1).image).save(tmp_path / "one.png")
    net = made(Siamese)
    message = r"^own has 2 inputs \(left, right\)"
    with pytest.raises(NetworkError, match=message):
        dv.search(net, tmp_path, ["join"], out=tmp_path / "found")
    with pytest.raises(ImageError, match=message):
        dv.compare(net, tmp_path / "one.png", "join")
    with pytest.raises(ImageError, match=message):
        dv.occlusion(net, tmp_path / "one.png", "join")


def test_slices_of_a_projection_keep_every_input() -> None:
    net = made(Siamese)
    proj = dv.project(net, pair(), "join", k=3)
    assert torch.equal(proj[1].of_input("right").pixels[0], proj.of_input("right").pixels[1])
    assert proj[[2, 0]].input_names == ("left", "right")


FILE = """
import deconvviz as dv
import torch
from torch import nn

class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU())
        self.join = nn.Conv2d(12, 5, 3)

    def forward(self, left, right):
        return torch.relu(self.join(torch.cat([self.trunk(left), self.trunk(right)], dim=1)))

class WithText(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.text = nn.Conv2d(3, 8, 5), nn.Linear(7, 8)

    def forward(self, image, words):
        return torch.relu(self.conv(image) + self.text(words)[:, :, None, None])

def make():
    torch.manual_seed(1)
    return dv.Network(Siamese(), size=48, name="twins")

def text():
    torch.manual_seed(1)
    return dv.Network(WithText(), size=48, name="text", inputs={"image": None, "words": (7,)})

class WithMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5)

    def forward(self, image, mask):
        return torch.relu(self.conv(image * mask[:, None]))

def masked():
    torch.manual_seed(1)
    return dv.Network(WithMask(), size=48, name="masked", inputs={"image": None, "mask": (48, 48)})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    for number, name in enumerate(("before", "after")):
        Image.fromarray(scene(7 + number).image).save(tmp_path / f"{name}.png")
    np.save("words.npy", np.arange(7.0))
    np.save("mask.npy", np.arange(48 * 48).reshape(48, 48) % 3)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["project", *arguments])


CASES = {
    "twins": (("before.png", "after.png", "--model", "own.py:make", "--layer", "join", "--top", "3",
               "--inputs", "left,right"), "before-after-join"),
    "text": (("before.png", "words.npy", "--model", "own.py:text", "--layer", "output", "--top", "3",
              "--inputs", "image,words"), "before-words-output"),
    "mask": (("before.png", "mask.npy", "--model", "own.py:masked", "--layer", "output", "--top", "3",
              "--inputs", "image,mask"), "before-mask-output"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_project_command_with_several_inputs_is_made_again(case: str, folder: Path) -> None:
    arguments, stem = CASES[case]
    result = run(*arguments, "--out", "out", "--arrays", "--verify")
    assert result.exit_code == 0, result.output
    assert "verified 3 projections by autograd" in result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        f"{stem}.json", f"{stem}.npz", f"{stem}.png",
    ]  # fmt: skip
    stored = json.loads((folder / "out" / f"{stem}.json").read_text())
    names = arguments[-1].split(",")
    assert [one["name"] for one in stored["inputs"]] == names
    paths = [(one.get("pictures") or [one.get("array")])[0]["path"] for one in stored["inputs"]]
    assert [Path(path).name for path in paths] == list(arguments[:2])
    assert all((one.get("pictures") or [one["array"]])[0] for one in stored["inputs"])
    again = run("--from", f"out/{stem}.json", "--allow-code", "--out", "again", "--arrays")
    assert again.exit_code == 0, again.output
    with np.load(f"out/{stem}.npz") as one, np.load(f"again/{stem}.npz") as other:
        assert set(one) == set(other)
        assert case == "mask" or {f"pixels_{names[1]}", f"input_{names[1]}"} <= set(one)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_changed_input_is_noticed(folder: Path) -> None:
    assert run(*CASES["twins"][0], "--out", "out").exit_code == 0
    Image.fromarray(scene(1).image).save("after.png")
    again = run("--from", "out/before-after-join.json", "--allow-code", "--out", "again")
    assert again.exit_code == 2 and "after.png" in again.output
    assert run(*CASES["text"][0], "--out", "out").exit_code == 0
    np.save("words.npy", np.arange(7.0) + 1)
    again = run("--from", "out/before-words-output.json", "--allow-code", "--out", "again")
    assert again.exit_code == 2 and "words.npy" in again.output
    assert run(*CASES["mask"][0], "--out", "out").exit_code == 0
    np.save("mask.npy", np.zeros((48, 48), dtype=int))
    again = run("--from", "out/before-mask-output.json", "--allow-code", "--out", "again")
    assert again.exit_code == 2 and "mask.npy" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("before.png", "after.png"),
            "twins has 2 inputs (left, right): name them in the order of the files",
        ),
        (("before.png", "--inputs", "left,right"), "2 names, but 1 file"),
        (("before.png", "after.png", "--inputs", "left,up"), "forward() has no argument 'up'"),
        (("before.png", "lost.png", "--inputs", "left,right"), "lost.png"),
    ],
)
def test_project_command_refuses_wrong_inputs(arguments: Any, message: str, folder: Path) -> None:
    result = run(*arguments, "--model", "own.py:make", "--layer", "join", "--out", "out")
    assert result.exit_code == 2 and not (folder / "out").exists()
    assert message in " ".join(result.output.replace("│", " ").split())
