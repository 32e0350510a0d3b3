"""A figure's manifest: what it names, and the projection that is made of it again."""

from __future__ import annotations

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
from deconvviz.manifest import FORMAT
from deconvviz.projection import Style
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


def test_what_it_names(picture: Path, manifest: Path) -> None:
    proj = _saved(picture, scale="row", percentile=98, columns=2)
    told = json.loads(manifest.read_text())
    assert told["format"] == FORMAT and told["figure"] == "sheet.png"
    assert told["network"] | {"name": "minivgg", "weights": "random", "seed": 3} == told["network"]
    assert told["network"]["digest"] == proj.network.digest and told["network"]["dtype"] == "float32"
    assert told["layer"] == {"name": "conv2_1", "module": "features.5"}
    assert told["pictures"][0]["beside"] == "../pictures/scene.png"
    assert [dv.Unit(**unit) for unit in told["units"]] == list(proj.units)
    assert [tuple(box) for box in told["boxes"]] == list(proj.boxes)
    assert told["style"] == {
        "scale": "row", "percentile": 98, "columns": 2, "projection_only": False, "dpi": 50,
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
    assert told.endswith(f"instead of {digest}; give the right file with --weights")


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
    assert told.startswith(f"something has changed since {manifest} was written: at picture 0, ")


def test_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    assert _refusal(path) == f"no manifest {path}: it stands beside a figure, with the same name and .json"
    path.write_text("{")
    assert _refusal(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_bytes(b"\xff\xfe\x00")
    assert _refusal(path).startswith(f"{path} cannot be read as a manifest: ")
    path.write_text('{"format": "something else"}')
    assert _refusal(path) == f"{path} is no manifest of this version: its format is not {FORMAT!r}"
    path.write_text("[]")
    assert _refusal(path) == f"{path} is no manifest of this version: its format is not {FORMAT!r}"
    assert _refusal(tmp_path).startswith(f"{tmp_path} cannot be read as a manifest: ")


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no network": lambda told: told.pop("network"),
    "a network that is a number": lambda told: told.update(network=3),
    "no dpi": lambda told: told["style"].pop("dpi"),
    "an unknown style": lambda told: told["style"].update(colour="red"),
    "a unit without channel": lambda told: told["units"][0].pop("channel"),
    "an unknown type": lambda told: told["network"].update(dtype="float17"),
    "a picture that is a list": lambda told: told.update(pictures=[[]]),
    "an activation that is text": lambda told: told["units"][0].update(activation="high"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_manifest(picture: Path, manifest: Path, damage: Callable[[dict[str, Any]], Any]) -> None:
    _saved(picture)
    assert _refusal(_edited(manifest, damage)).startswith(f"{manifest} is no complete manifest: ")


def test_an_unknown_layer_and_missing_weights(picture: Path, manifest: Path) -> None:
    _saved(picture)
    _edited(manifest, lambda told: told["layer"].update(name="conv9_9"))
    assert "no layer 'conv9_9' in minivgg" in _refusal(manifest, LayerError)
    _edited(manifest, lambda told: told["network"].update(weights="gone.pth"))
    assert "gone.pth" in _refusal(manifest, WeightsError)


def test_what_only_the_users_own_program_can_make_again(picture: Path, manifest: Path) -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3)), size=8)
    net.record(picture, "0").project("0", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"))
    own = f"{manifest} was made in Python from a module, tensor or signal of the user's own; "
    assert _refusal(manifest) == own + "only that program can make it again"
    mini = dv.load("minivgg", weights="random")
    rec = mini.record(picture, "conv1_1")
    rec.project("conv1_1", torch.ones(1, 16, 96, 96)).save(manifest.with_suffix(".png"), force=True)
    assert _refusal(manifest) == own + "only that program can make it again"
    memory = mini.record(scene(1).image, "conv1_1")
    memory.project("conv1_1", dv.Unit(0, 1, 1, 1)).save(manifest.with_suffix(".png"), force=True)
    assert _refusal(manifest) == (
        f"{manifest} was made from a picture in memory; only that program can make it again"
    )
