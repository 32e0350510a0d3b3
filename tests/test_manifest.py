"""Manifest of a figure: its contents, and the projection that `remake` makes from it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, ManifestError, WeightsError
from deconvviz.projection import FORMAT, Style
from deconvviz.scenes import scene


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "scene.png"
    path.parent.mkdir()
    Image.fromarray(scene(6).image).save(path)
    return path


def _saved(image: Path, layer: str = "conv2_1", units: Any = None, **options: Any) -> dv.Projection:
    proj = dv.load("minivgg", weights="random", seed=3).record(image, layer).project(layer, units)
    proj.save(image.parents[1] / "out" / "sheet.png", dpi=50, **options)
    return proj


@pytest.fixture
def manifest(image: Path) -> Path:
    (image.parents[1] / "out").mkdir()
    return image.parents[1] / "out" / "sheet.json"


def _digest_of(module: nn.Module) -> str:
    """Return the digest of a module's weights, computed independently from names, types, shapes and bytes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        whole.update(hashlib.sha256(tensor.numpy().tobytes()).digest())
    return f"sha256:{whole.hexdigest()}"


def test_manifest_describes_the_network_at_the_time_of_the_recording(image: Path, manifest: Path) -> None:
    net = dv.load("minivgg", weights="random", seed=3)
    recorded = _digest_of(net.module)
    proj = net.record(image, "conv2_1").project("conv2_1")
    with torch.no_grad():
        net.module.features[0].weight.mul_(2)  # type: ignore[index, union-attr, operator]
    proj.save(manifest.with_suffix(".png"), dpi=50, scale="row", percentile=98, columns=2)
    assert _digest_of(net.module) != recorded
    stored = json.loads(manifest.read_text())
    assert stored["format"] == FORMAT and stored["figure"] == "sheet.png"
    assert stored["network"] | {"name": "minivgg", "weights": "random", "seed": 3} == stored["network"]
    assert stored["network"]["digest"] == recorded and stored["network"]["dtype"] == "float32"
    assert stored["layer"] == {"name": "conv2_1", "module": "features.5"}
    assert stored["pictures"][0]["beside"] == "../images/scene.png"
    assert [dv.Unit(**unit) for unit in stored["units"]] == list(proj.units)
    assert [tuple(box) for box in stored["boxes"]] == list(proj.boxes)
    assert stored["by_analogy"] == []
    assert stored["style"] == {
        "scale": "row", "percentile": 98, "columns": 2, "projection_only": False, "dpi": 50,
        "crop": "effective", "medium": "screen", "bands": None,
    }  # fmt: skip
    assert set(stored["versions"]) == {"deconvviz", "torch", "torchvision", "numpy", "python"}


@pytest.mark.parametrize(
    ("layer", "units"),
    [
        ("conv2_1", None),
        ("conv2_1", [dv.Unit(0, 4), dv.Unit(0, 2, 0, 47)]),
        ("fc5", [dv.Unit(0, 9)]),
        ("output", [dv.Unit(0, 3)]),
    ],
)
def test_remake_returns_the_same_arrays(image: Path, manifest: Path, layer: str, units: Any) -> None:
    proj = _saved(image, layer, units, projection_only=True)
    again = dv.remake(manifest)
    assert again.projection.units == proj.units and again.projection.boxes == proj.boxes
    assert torch.equal(again.projection.pixels, proj.pixels)
    assert again.style == Style(projection_only=True) and again.dpi == 50


def test_remake_of_a_manifest_without_crop_uses_the_receptive_field(image: Path, manifest: Path) -> None:
    proj = _saved(image)
    for name in ("crop", "medium"):
        _edited(manifest, lambda stored, name=name: stored["style"].pop(name))
    _edited(manifest, lambda stored: stored.pop("colour_scale"))
    again = dv.remake(manifest)
    assert again.style == Style(crop="field", medium="screen")
    for number, tile in enumerate(again.projection.spec(again.style).tiles):
        assert tile.projection.tobytes() == proj.crop(number).tobytes()
        assert tile.patch is not None and tile.patch.tobytes() == proj.patch(number).tobytes()
        assert tile.box == proj.boxes[number] and tile.crop_box is None


@pytest.mark.parametrize("crop", ["effective", "field"])
def test_figure_of_a_remade_projection_is_the_same_file(image: Path, manifest: Path, crop: str) -> None:
    _saved(image, crop=crop)
    again = dv.remake(manifest)
    files = again.projection.save(manifest.with_name("again.png"), again.style, dpi=again.dpi)
    assert files.figure.read_bytes() == manifest.with_suffix(".png").read_bytes()


def test_remake_finds_images_that_were_moved_with_the_manifest(image: Path, manifest: Path) -> None:
    proj = _saved(image)
    moved = image.parents[1] / "elsewhere"
    moved.mkdir()
    for folder in ("images", "out"):
        shutil.move(image.parents[1] / folder, moved / folder)
    assert torch.equal(dv.remake(moved / "out" / "sheet.json").projection.pixels, proj.pixels)


def test_remake_of_a_network_with_another_type_raises(image: Path, manifest: Path) -> None:
    net = dv.load("minivgg", weights="random")
    module = net.module.double()
    changed = dv.Network(module, name="minivgg", size=96, mean=(0.1, 0.2, 0.3), origin=net.origin)
    proj = changed.record(image, "conv2_1").project("conv2_1")
    proj.save(manifest.with_suffix(".png"))
    with pytest.raises(ManifestError, match="the weights of minivgg are not those of"):
        dv.remake(manifest)  # the digest is that of float64, but `random` makes float32


def _edited(manifest: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    stored = json.loads(manifest.read_text())
    change(stored)
    manifest.write_text(json.dumps(stored))
    return manifest


def _error_of(manifest: Path, error: type[Exception] = ManifestError) -> str:
    with pytest.raises(error) as raised:
        dv.remake(manifest)
    return str(raised.value)


def test_remake_with_other_weights_raises(image: Path, manifest: Path) -> None:
    _saved(image)
    digest = json.loads(manifest.read_text())["network"]["digest"]
    message = _error_of(_edited(manifest, lambda stored: stored["network"].update(seed=4)))
    assert message.startswith(f"the weights of minivgg are not those of {manifest}: sha256:")
    assert message.endswith(f"instead of {digest}. Give the right file with weights=FILE")


def test_remake_with_a_changed_or_missing_image_raises(image: Path, manifest: Path) -> None:
    _saved(image)
    Image.fromarray(scene(7).image).save(image)
    assert _error_of(manifest) == (
        f"the pixels of {image} are not those of {manifest}: the file has changed, "
        "or this machine decodes it differently"
    )
    image.unlink()
    assert _error_of(manifest) == f"the image of {manifest} no longer exists: it was {image}"


def test_remake_with_other_activations_raises(image: Path, manifest: Path) -> None:
    _saved(image)
    unit = json.loads(manifest.read_text())["units"][0]
    _edited(manifest, lambda stored: stored["units"][0].update(activation=unit["activation"] * 1.1))
    message = _error_of(manifest)
    assert message.startswith(f"an activation differs from {manifest}: image 0, ")


def test_remake_of_a_file_that_is_not_a_manifest_raises(tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    assert _error_of(path) == f"no manifest {path}: it is next to a figure, with the same name and .json"
    path.write_text("{")
    assert _error_of(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_bytes(b"\xff\xfe\x00")
    assert _error_of(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_text('{"format": "something else"}')
    unknown = f"{path} is not a manifest that can be made again: its format is {{}}. There are {FORMAT!r}, "
    assert _error_of(path).startswith(unknown.format("'something else'"))
    path.write_text("[]")
    assert _error_of(path).startswith(unknown.format(None))
    assert _error_of(tmp_path).startswith(f"{tmp_path} cannot be read as a manifest: ")


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no network": lambda stored: stored.pop("network"),
    "a network that is a number": lambda stored: stored.update(network=3),
    "no dpi": lambda stored: stored["style"].pop("dpi"),
    "an unknown style": lambda stored: stored["style"].update(colour="red"),
    "a unit without channel": lambda stored: stored["units"][0].pop("channel"),
    "an unknown type": lambda stored: stored["network"].update(dtype="float17"),
    "an image that is a list": lambda stored: stored.update(pictures=[[]]),
    "arguments that are code": lambda stored: stored["network"]["model"].update(arguments={"a": "print()"}),
    "an unknown registry": lambda stored: stored["network"]["model"].update(registry="elsewhere"),
    "a model that is text": lambda stored: stored["network"].update(model="minivgg"),
    "an activation that is text": lambda stored: stored["units"][0].update(activation="high"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_remake_of_a_damaged_manifest_raises(
    image: Path, manifest: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    _saved(image)
    assert _error_of(_edited(manifest, damage)).startswith(f"{manifest} is not a complete manifest: ")


def test_remake_with_an_unknown_layer_or_missing_weights_raises(image: Path, manifest: Path) -> None:
    _saved(image)
    _edited(manifest, lambda stored: stored["layer"].update(name="conv9_9"))
    assert "no layer 'conv9_9' in minivgg" in _error_of(manifest, LayerError)
    _edited(manifest, lambda stored: stored["network"].update(weights="gone.pth"))
    assert "gone.pth" in _error_of(manifest, WeightsError)


def test_remake_of_modules_tensors_and_images_in_memory_raises(image: Path, manifest: Path) -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3)), size=8)
    net.record(image, "0").project("0", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"))
    again = "only the program that made it can make it again"
    assert _error_of(manifest) == f"{manifest} was made in Python from a module, not by name: {again}"
    mini = dv.load("minivgg", weights="random")
    rec = mini.record(image, "conv1_1")
    rec.project("conv1_1", torch.ones(1, 16, 96, 96)).save(manifest.with_suffix(".png"), force=True)
    assert _error_of(manifest) == f"{manifest} was made in Python from a tensor: {again}"
    memory = mini.record(scene(1).image, "conv1_1")
    memory.project("conv1_1", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"), force=True)
    assert _error_of(manifest) == (
        f"{manifest} was made from an image in memory: only the program that made it can make it again"
    )


# --- networks from a user's file and from timm

CODE = """
from torch import nn
def make(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 5, 3))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "nets" / "own.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


def _saved_of(net: dv.Network, image: Path, manifest: Path, layer: str) -> dv.Projection:
    proj = net.record(image, layer).project(layer, [dv.Unit(0, 1, 5, 5)])
    proj.save(manifest.with_suffix(".png"), dpi=50)
    return proj


def test_remake_of_a_network_from_a_file(own: Path, image: Path, manifest: Path) -> None:
    net = dv.load(f"{own}:make", "random", arguments={"width": 6}, seed=3)
    proj = _saved_of(net, image, manifest, "2")
    stored = json.loads(manifest.read_text())["network"]
    digest = "sha256:" + hashlib.sha256(own.read_bytes()).hexdigest()
    assert stored["model"] == {
        "registry": "file", "name": "make", "arguments": {"width": "6"},
        "file": {"path": str(own), "beside": "../nets/own.py", "digest": digest},
    }  # fmt: skip
    again = dv.remake(manifest, allow_code=True)
    assert torch.equal(again.projection.pixels, proj.pixels)
    assert again.projection.network.origin.seed == 3


def test_code_in_a_file_runs_only_with_allow_code(own: Path, image: Path, manifest: Path) -> None:
    _saved_of(dv.load(f"{own}:make"), image, manifest, "2")
    trace = own.parent / "code ran"
    own.write_text(CODE + f"open({str(trace)!r}, 'w').close()\n")
    own_digest = "sha256:" + hashlib.sha256(own.read_bytes()).hexdigest()
    _edited(manifest, lambda stored: stored["network"]["model"]["file"].update(digest=own_digest))
    assert _error_of(manifest) == (
        f"the network of {manifest} is made by the code in {own}. "
        "If you trust that file, let it run with allow_code=True"
    )
    assert not trace.exists()
    dv.remake(manifest, allow_code=True)
    assert trace.exists()


def test_remake_with_a_changed_or_missing_file_raises(own: Path, image: Path, manifest: Path) -> None:
    _saved_of(dv.load(f"{own}:make"), image, manifest, "2")
    trace = own.parent / "code ran"
    own.write_text(CODE + f"open({str(trace)!r}, 'w').close()\n")
    with pytest.raises(ManifestError, match=r"own\.py has changed: its digest is sha256:\w+, not sha256:"):
        dv.remake(manifest, allow_code=True)
    assert not trace.exists()
    own.unlink()
    assert (
        _error_of(manifest) == f"the file that makes the network of {manifest} no longer exists: it was {own}"
    )


def test_remake_finds_a_file_that_was_moved_with_the_manifest(own: Path, image: Path, manifest: Path) -> None:
    proj = _saved_of(dv.load(f"{own}:make"), image, manifest, "2")
    moved = image.parents[1] / "elsewhere"
    moved.mkdir()
    for folder in ("images", "out", "nets"):
        shutil.move(image.parents[1] / folder, moved / folder)
    again = dv.remake(moved / "out" / "sheet.json", allow_code=True)
    assert torch.equal(again.projection.pixels, proj.pixels)


def test_manifest_has_the_digest_of_the_file_that_ran(own: Path, image: Path, manifest: Path) -> None:
    """The file may have changed between loading and saving."""
    net = dv.load(f"{own}:make")
    own.write_text(CODE + "\n")
    _saved_of(net, image, manifest, "2")
    with pytest.raises(ManifestError, match="has changed"):
        dv.remake(manifest, allow_code=True)


def test_remake_with_arguments_that_are_not_literals_raises(own: Path, image: Path, manifest: Path) -> None:
    own.write_text(CODE.replace("width=4", "width=4, kind=None"))
    _saved_of(dv.load(f"{own}:make", arguments={"kind": nn.ReLU}), image, manifest, "2")
    assert json.loads(manifest.read_text())["network"]["model"] is None
    assert _error_of(manifest).endswith("only the program that made it can make it again")


def test_remake_of_a_network_from_timm(image: Path, manifest: Path) -> None:
    timm = pytest.importorskip("timm")
    net = dv.load("timm:test_resnet", "random", arguments={"num_classes": 3}, seed=2)
    proj = _saved_of(net, image, manifest, "layer1")
    stored = json.loads(manifest.read_text())
    assert stored["network"]["model"] == {
        "registry": "timm", "name": "test_resnet", "arguments": {"num_classes": "3"},
    }  # fmt: skip
    assert stored["versions"]["timm"] == timm.__version__
    assert torch.equal(dv.remake(manifest).projection.pixels, proj.pixels)


def test_remake_of_a_manifest_without_model(image: Path, manifest: Path) -> None:
    proj = _saved(image)
    _edited(manifest, lambda stored: stored["network"].pop("model"))
    _edited(manifest, lambda stored: stored["network"]["preprocessing"].pop("crop_mode"))
    assert torch.equal(dv.remake(manifest).projection.pixels, proj.pixels)
