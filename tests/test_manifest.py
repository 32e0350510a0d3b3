"""A figure's manifest: what it names, and the projection that is made of it again."""

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
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "scene.png"
    path.parent.mkdir()
    Image.fromarray(scene(6).image).save(path)
    return path


def _saved(picture: Path, layer: str = "conv2_1", units: Any = None, **options: Any) -> dv.Projection:
    proj = dv.load("minivgg", weights="random", seed=3).record(picture, layer).project(layer, units)
    proj.save(picture.parents[1] / "out" / "sheet.png", dpi=50, **options)
    return proj


@pytest.fixture
def manifest(picture: Path) -> Path:
    (picture.parents[1] / "out").mkdir()
    return picture.parents[1] / "out" / "sheet.json"


def _digest_of(module: nn.Module) -> str:
    """The digest of a module's weights, computed here from names, types, shapes and bytes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        whole.update(hashlib.sha256(tensor.numpy().tobytes()).digest())
    return f"sha256:{whole.hexdigest()}"


def test_manifest_names_what_was_recorded(picture: Path, manifest: Path) -> None:
    net = dv.load("minivgg", weights="random", seed=3)
    recorded = _digest_of(net.module)
    proj = net.record(picture, "conv2_1").project("conv2_1")
    with torch.no_grad():
        net.module.features[0].weight.mul_(2)  # type: ignore[index, union-attr, operator]
    proj.save(manifest.with_suffix(".png"), dpi=50, scale="row", percentile=98, columns=2)
    assert _digest_of(net.module) != recorded
    told = json.loads(manifest.read_text())
    assert told["format"] == FORMAT and told["figure"] == "sheet.png"
    assert told["network"] | {"name": "minivgg", "weights": "random", "seed": 3} == told["network"]
    assert told["network"]["digest"] == recorded and told["network"]["dtype"] == "float32"
    assert told["layer"] == {"name": "conv2_1", "module": "features.5"}
    assert told["pictures"][0]["beside"] == "../pictures/scene.png"
    assert [dv.Unit(**unit) for unit in told["units"]] == list(proj.units)
    assert [tuple(box) for box in told["boxes"]] == list(proj.boxes)
    assert told["by_analogy"] == []
    assert told["style"] == {
        "scale": "row", "percentile": 98, "columns": 2, "projection_only": False, "dpi": 50,
        "crop": "effective", "medium": "screen",
    }  # fmt: skip
    assert set(told["versions"]) == {"deconvviz", "torch", "torchvision", "numpy", "python"}


@pytest.mark.parametrize(
    ("layer", "units"),
    [
        ("conv2_1", None),
        ("conv2_1", [dv.Unit(0, 4), dv.Unit(0, 2, 0, 47)]),
        ("fc5", [dv.Unit(0, 9)]),
        ("output", [dv.Unit(0, 3)]),
    ],
)
def test_the_same_arrays_again(picture: Path, manifest: Path, layer: str, units: Any) -> None:
    proj = _saved(picture, layer, units, projection_only=True)
    again = dv.remake(manifest)
    assert again.projection.units == proj.units and again.projection.boxes == proj.boxes
    assert torch.equal(again.projection.pixels, proj.pixels)
    assert again.style == Style(projection_only=True) and again.dpi == 50


def test_a_manifest_of_before_there_were_crops_is_made_again_as_the_field(
    picture: Path, manifest: Path
) -> None:
    proj = _saved(picture)
    for name in ("crop", "medium"):
        _edited(manifest, lambda told, name=name: told["style"].pop(name))
    _edited(manifest, lambda told: told.pop("colour_scale"))
    again = dv.remake(manifest)
    assert again.style == Style(crop="field", medium="screen")
    for number, tile in enumerate(again.projection.spec(again.style).tiles):
        assert tile.projection.tobytes() == proj.crop(number).tobytes()
        assert tile.patch is not None and tile.patch.tobytes() == proj.patch(number).tobytes()
        assert tile.box == proj.boxes[number] and tile.crop_box is None


@pytest.mark.parametrize("crop", ["effective", "field"])
def test_a_figure_made_again_is_the_same_file(picture: Path, manifest: Path, crop: str) -> None:
    _saved(picture, crop=crop)
    again = dv.remake(manifest)
    files = again.projection.save(manifest.with_name("again.png"), again.style, dpi=again.dpi)
    assert files.figure.read_bytes() == manifest.with_suffix(".png").read_bytes()


def test_all_was_moved_together(picture: Path, manifest: Path) -> None:
    proj = _saved(picture)
    moved = picture.parents[1] / "elsewhere"
    moved.mkdir()
    for folder in ("pictures", "out"):
        shutil.move(picture.parents[1] / folder, moved / folder)
    assert torch.equal(dv.remake(moved / "out" / "sheet.json").projection.pixels, proj.pixels)


def test_another_preprocessing_and_type(picture: Path, manifest: Path) -> None:
    net = dv.load("minivgg", weights="random")
    module = net.module.double()
    changed = dv.Network(module, name="minivgg", size=96, mean=(0.1, 0.2, 0.3), origin=net.origin)
    proj = changed.record(picture, "conv2_1").project("conv2_1")
    proj.save(manifest.with_suffix(".png"))
    with pytest.raises(ManifestError, match="the weights of minivgg are not those of"):
        dv.remake(manifest)  # float64 has another digest than the float32 that `random` gives


def _edited(manifest: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    told = json.loads(manifest.read_text())
    change(told)
    manifest.write_text(json.dumps(told))
    return manifest


def _refusal(manifest: Path, error: type[Exception] = ManifestError) -> str:
    with pytest.raises(error) as refused:
        dv.remake(manifest)
    return str(refused.value)


def test_other_weights(picture: Path, manifest: Path) -> None:
    _saved(picture)
    digest = json.loads(manifest.read_text())["network"]["digest"]
    told = _refusal(_edited(manifest, lambda told: told["network"].update(seed=4)))
    assert told.startswith(f"the weights of minivgg are not those of {manifest}: sha256:")
    assert told.endswith(f"instead of {digest}; give the right file with weights=FILE")


def test_another_picture(picture: Path, manifest: Path) -> None:
    _saved(picture)
    Image.fromarray(scene(7).image).save(picture)
    assert _refusal(manifest) == (
        f"the pixels of {picture} are not those of {manifest}: the file has changed, "
        "or is decoded otherwise on this machine"
    )
    picture.unlink()
    assert _refusal(manifest) == f"the picture of {manifest} is gone: it was {picture}"


def test_other_activations(picture: Path, manifest: Path) -> None:
    _saved(picture)
    unit = json.loads(manifest.read_text())["units"][0]
    _edited(manifest, lambda told: told["units"][0].update(activation=unit["activation"] * 1.1))
    told = _refusal(manifest)
    assert told.startswith(f"something has changed since {manifest} was written: at image 0, ")


def test_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    assert _refusal(path) == f"no manifest {path}: it is next to a figure, with the same name and .json"
    path.write_text("{")
    assert _refusal(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_bytes(b"\xff\xfe\x00")
    assert _refusal(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_text('{"format": "something else"}')
    assert _refusal(path) == f"{path} is not a manifest of this version: its format is not {FORMAT!r}"
    path.write_text("[]")
    assert _refusal(path) == f"{path} is not a manifest of this version: its format is not {FORMAT!r}"
    assert _refusal(tmp_path).startswith(f"{tmp_path} cannot be read as a manifest: ")


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no network": lambda told: told.pop("network"),
    "a network that is a number": lambda told: told.update(network=3),
    "no dpi": lambda told: told["style"].pop("dpi"),
    "an unknown style": lambda told: told["style"].update(colour="red"),
    "a unit without channel": lambda told: told["units"][0].pop("channel"),
    "an unknown type": lambda told: told["network"].update(dtype="float17"),
    "a picture that is a list": lambda told: told.update(pictures=[[]]),
    "arguments that are code": lambda told: told["network"]["model"].update(arguments={"a": "print()"}),
    "an unknown registry": lambda told: told["network"]["model"].update(registry="elsewhere"),
    "a model that is text": lambda told: told["network"].update(model="minivgg"),
    "an activation that is text": lambda told: told["units"][0].update(activation="high"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_manifest(picture: Path, manifest: Path, damage: Callable[[dict[str, Any]], Any]) -> None:
    _saved(picture)
    assert _refusal(_edited(manifest, damage)).startswith(f"{manifest} is not a complete manifest: ")


def test_an_unknown_layer_and_missing_weights(picture: Path, manifest: Path) -> None:
    _saved(picture)
    _edited(manifest, lambda told: told["layer"].update(name="conv9_9"))
    assert "no layer 'conv9_9' in minivgg" in _refusal(manifest, LayerError)
    _edited(manifest, lambda told: told["network"].update(weights="gone.pth"))
    assert "gone.pth" in _refusal(manifest, WeightsError)


def test_what_only_the_users_own_program_can_make_again(picture: Path, manifest: Path) -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3)), size=8)
    net.record(picture, "0").project("0", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"))
    again = "of the user's own; only that program can make it again"
    assert _refusal(manifest) == f"{manifest} was made in Python from a module {again}"
    mini = dv.load("minivgg", weights="random")
    rec = mini.record(picture, "conv1_1")
    rec.project("conv1_1", torch.ones(1, 16, 96, 96)).save(manifest.with_suffix(".png"), force=True)
    assert _refusal(manifest) == f"{manifest} was made in Python from a tensor {again}"
    memory = mini.record(scene(1).image, "conv1_1")
    memory.project("conv1_1", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"), force=True)
    assert _refusal(manifest) == (
        f"{manifest} was made from an image in memory: only the program that made it can make it again"
    )


# --- networks that torchvision does not have

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


def _saved_of(net: dv.Network, picture: Path, manifest: Path, layer: str) -> dv.Projection:
    proj = net.record(picture, layer).project(layer, [dv.Unit(0, 1, 5, 5)])
    proj.save(manifest.with_suffix(".png"), dpi=50)
    return proj


def test_a_network_that_a_file_makes(own: Path, picture: Path, manifest: Path) -> None:
    net = dv.load(f"{own}:make", "random", arguments={"width": 6}, seed=3)
    proj = _saved_of(net, picture, manifest, "2")
    told = json.loads(manifest.read_text())["network"]
    digest = "sha256:" + hashlib.sha256(own.read_bytes()).hexdigest()
    assert told["model"] == {
        "registry": "file", "name": "make", "arguments": {"width": "6"},
        "file": {"path": str(own), "beside": "../nets/own.py", "digest": digest},
    }  # fmt: skip
    again = dv.remake(manifest, allow_code=True)
    assert torch.equal(again.projection.pixels, proj.pixels)
    assert again.projection.network.origin.seed == 3


def test_a_file_is_run_only_if_that_was_allowed(own: Path, picture: Path, manifest: Path) -> None:
    _saved_of(dv.load(f"{own}:make"), picture, manifest, "2")
    trace = own.parent / "it ran"
    own.write_text(CODE + f"open({str(trace)!r}, 'w').close()\n")
    own_digest = "sha256:" + hashlib.sha256(own.read_bytes()).hexdigest()
    _edited(manifest, lambda told: told["network"]["model"]["file"].update(digest=own_digest))
    assert _refusal(manifest) == (
        f"{manifest} was made with a network that {own} makes: to make it again, that file is run. "
        "If you trust it, allow it with allow_code=True"
    )
    assert not trace.exists()
    dv.remake(manifest, allow_code=True)
    assert trace.exists()


def test_a_file_that_has_changed_or_gone(own: Path, picture: Path, manifest: Path) -> None:
    _saved_of(dv.load(f"{own}:make"), picture, manifest, "2")
    trace = own.parent / "it ran"
    own.write_text(CODE + f"open({str(trace)!r}, 'w').close()\n")
    with pytest.raises(
        ManifestError, match=r"own\.py has changed: its contents are sha256:\w+ instead of sha256:"
    ):
        dv.remake(manifest, allow_code=True)
    assert not trace.exists()
    own.unlink()
    assert _refusal(manifest) == f"the file that makes the network of {manifest} is gone: it was {own}"


def test_a_file_that_was_moved_with_the_rest(own: Path, picture: Path, manifest: Path) -> None:
    proj = _saved_of(dv.load(f"{own}:make"), picture, manifest, "2")
    moved = picture.parents[1] / "elsewhere"
    moved.mkdir()
    for folder in ("pictures", "out", "nets"):
        shutil.move(picture.parents[1] / folder, moved / folder)
    again = dv.remake(moved / "out" / "sheet.json", allow_code=True)
    assert torch.equal(again.projection.pixels, proj.pixels)


def test_the_file_that_was_run_is_the_one_that_is_named(own: Path, picture: Path, manifest: Path) -> None:
    """And not what it has become between loading and saving."""
    net = dv.load(f"{own}:make")
    own.write_text(CODE + "\n")
    _saved_of(net, picture, manifest, "2")
    with pytest.raises(ManifestError, match="has changed"):
        dv.remake(manifest, allow_code=True)


def test_arguments_that_cannot_be_written_down(own: Path, picture: Path, manifest: Path) -> None:
    own.write_text(CODE.replace("width=4", "width=4, kind=None"))
    _saved_of(dv.load(f"{own}:make", arguments={"kind": nn.ReLU}), picture, manifest, "2")
    assert json.loads(manifest.read_text())["network"]["model"] is None
    assert _refusal(manifest).endswith("only that program can make it again")


def test_a_network_of_timms(picture: Path, manifest: Path) -> None:
    timm = pytest.importorskip("timm")
    net = dv.load("timm:test_resnet", "random", arguments={"num_classes": 3}, seed=2)
    proj = _saved_of(net, picture, manifest, "layer1")
    told = json.loads(manifest.read_text())
    assert told["network"]["model"] == {
        "registry": "timm", "name": "test_resnet", "arguments": {"num_classes": "3"},
    }  # fmt: skip
    assert told["versions"]["timm"] == timm.__version__
    assert torch.equal(dv.remake(manifest).projection.pixels, proj.pixels)


def test_manifests_from_before_there_were_such_networks(picture: Path, manifest: Path) -> None:
    proj = _saved(picture)
    _edited(manifest, lambda told: told["network"].pop("model"))
    _edited(manifest, lambda told: told["network"]["preprocessing"].pop("crop_mode"))
    assert torch.equal(dv.remake(manifest).projection.pixels, proj.pixels)
