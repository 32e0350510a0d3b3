"""`load` and `sketch` for networks from torchvision, timm and a user's file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, NetworkError, WeightsError
from deconvviz.loading import sketch
from deconvviz.scenes import scene

CODE = """
import torch
from torch import nn
import deconvviz as dv

def make(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

def wrapped(width=4):
    module = make(width)
    return dv.Network(module, size=(32, 24), mean=(0.5,) * 3, std=(0.2,) * 3, classes=["a", "b"], name="mine")

def configured(key="pretrained_cfg", **config):
    net = make()
    setattr(net, key, {"input_size": (3, 40, 40), "mean": (0.1, 0.2, 0.3), **config})
    return net

def generator():
    net = nn.Sequential(nn.ConvTranspose2d(100, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1))
    return dv.Network(net, size=1, mean=(0,) * 100, std=(1,) * 100, name="generator")

def nothing():
    return None

class Printing(nn.Conv2d):
    def forward(self, images):
        print("running")
        if images.max() > 2:
            raise ValueError("too bright")
        return super().forward(images)

def printing():
    return dv.Network(Printing(3, 2, 3), size=8, mean=(0,) * 3, std=(0.25,) * 3)

def without_matrices():
    return nn.BatchNorm2d(3)

def of_another_size():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(10, 3))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(CODE)
    return path


# --- from a user's file


def test_load_from_a_file_uses_the_returned_module(own: Path) -> None:
    net = dv.load(f"{own}:make", arguments={"width": 5})
    assert net.name == "own.py:make" and net.layers["0"].shape == (5, 224, 224)
    assert net.origin.source == "created by own.py:make"
    assert net.origin.notes == (
        "224 px and ImageNet's mean and deviation are assumed; return deconvviz.Network(module, size=..., "
        "mean=..., std=...) to change them",
    )
    assert net.preprocessing == dv.Network(nn.ReLU()).preprocessing
    proj = net.record(scene(1).image, "2").project("2")
    assert proj.pixels.shape == (5, 3, 224, 224) and bool(proj.pixels.any())


def test_load_from_a_file_uses_the_preprocessing_of_a_returned_network(own: Path) -> None:
    net = dv.load(f"{own}:wrapped", arguments={"width": 2})
    assert (net.name, net.classes, net.origin.notes) == ("mine", ("a", "b"), ())
    assert net.preprocessing.shape == (3, 32, 24) and net.preprocessing.std == (0.2,) * 3
    assert net.record(scene(1).image, "0").inputs.shape == (1, 3, 32, 24)
    assert repr(net).startswith("<Network mine: 32 x 24 px, ")


@pytest.mark.parametrize("key", ["pretrained_cfg", "default_cfg"])
def test_load_from_a_file_uses_the_pretrained_configuration(own: Path, key: str) -> None:
    net = dv.load(f"{own}:configured", arguments={"key": key, "crop_pct": 0.5, "interpolation": "bilinear"})
    assert net.origin.notes == () and net.preprocessing.shape == (3, 40, 40)
    assert (net.preprocessing.resize, net.preprocessing.mean) == (80, (0.1, 0.2, 0.3))
    assert net.preprocessing.interpolation == "bilinear"


@pytest.mark.parametrize(
    "config", [{"input_size": 224}, {"mean": "grey"}, {"crop_pct": "all"}, {"interpolation": "cubist"}]
)
def test_invalid_pretrained_configuration_raises(own: Path, config: dict[str, Any]) -> None:
    with pytest.raises(NetworkError):
        dv.load(f"{own}:configured", arguments=config)


def test_weights_of_a_network_from_a_file(own: Path, tmp_path: Path) -> None:
    name = f"{own}:make"
    default, other, same = (dv.load(name, seed=seed) for seed in (0, 1, 0))
    assert default.digest == same.digest != other.digest
    random = dv.load(name, "random", seed=1)
    assert random.digest == other.digest and random.origin.source == "created by own.py:make, seed 1"
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        state = other.module.state_dict()
        torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
        loaded = dv.load(name, path)
        assert loaded.digest == other.digest and loaded.origin.source == loaded.origin.spec == str(path)
    with pytest.raises(WeightsError, match=r"does not fit own\.py:make: 2 tensors with a different shape"):
        dv.load(name, tmp_path / "a.pth", arguments={"width": 5})
    with pytest.raises(
        WeightsError, match=r"no weights file 'b\.pth': .*named weights of own\.py:make: default, ra"
    ):
        dv.load(name, "b.pth")


def test_factory_that_returns_no_network_raises(own: Path) -> None:
    with pytest.raises(NetworkError) as wrong:
        dv.load(f"{own}:nothing")
    assert str(wrong.value) == (
        f"{own}:nothing did not return a network: "
        "a network must be a torch.nn.Module or a deconvviz.Network, not NoneType"
    )


def test_network_that_does_not_run_on_the_default_size_raises(own: Path) -> None:
    with pytest.raises(NetworkError) as wrong:
        _ = sketch(f"{own}:of_another_size").layers
    message = str(wrong.value)
    assert message.startswith(
        "own.py:of_another_size does not run on an input of 3 x 224 x 224: RuntimeError: "
    )
    assert message.endswith("expected input with deconvviz.Network(module, size=..., mean=..., std=...))")


def test_output_printed_by_a_network_goes_to_stderr(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = dv.load(f"{own}:printing")
    net.record(np.zeros((8, 8, 3), np.uint8), "output")
    assert capsys.readouterr() == ("", "running\nrunning\n")  # once for the layers, once for the image
    with pytest.raises(NetworkError, match=r"^own\.py:printing does not run on an input of 3 x 8 x 8: Value"):
        net.record(np.full((8, 8, 3), 255, np.uint8), "output")
    assert capsys.readouterr().out == ""


def test_weights_that_do_not_fit_a_network_without_matrices_raise(own: Path, tmp_path: Path) -> None:
    torch.save(nn.BatchNorm2d(5).state_dict(), tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit own\.py:without_matrices: 4 tensors with a different shape"
    ):
        dv.load(f"{own}:without_matrices", tmp_path / "a.pth")


def test_sketch_of_a_file_has_the_layers_of_the_network(own: Path) -> None:
    table = sketch(f"{own}:make", {"width": 6}).layers
    assert table.to_json() == dv.load(f"{own}:make", arguments={"width": 6}).layers.to_json()
    with pytest.raises(LayerError) as wrong:
        table.find("conv9")
    assert str(wrong.value).endswith(f"(see: deconvviz layers --model {own}:make --model-arg width=6)")


def test_network_whose_input_is_not_an_image_can_be_projected(own: Path) -> None:
    net = dv.load(f"{own}:generator")
    assert net.layers["0"].shape == (8, 4, 4) and net.layers.last.shape == (3, 8, 8)
    proj = net.record(torch.randn(2, 100, 1, 1), "output").project("output", dv.Unit(1, 2, 3, 3))
    assert proj.pixels.shape == (1, 100, 1, 1)


# --- from timm

TIMM = "timm:test_resnet"


@pytest.fixture
def with_timm() -> None:
    pytest.importorskip("timm")


@pytest.mark.usefixtures("with_timm")
class TestTimm:
    def test_load_from_timm(self) -> None:
        net = dv.load(TIMM, "random", seed=3)
        assert net.name == TIMM and net.preprocessing.shape == (3, 160, 160)
        assert (net.origin.spec, net.origin.seed) == ("random", 3)
        assert net.class_index("tench") == 0
        proj = net.record(scene(1).image, "layer2").project("layer2")
        assert proj.pixels.shape == (9, 3, 160, 160) and bool(proj.pixels.any())

    def test_sketch_has_the_layers_of_the_network(self) -> None:
        arguments = {"num_classes": 3}
        table = sketch(TIMM, arguments).layers
        assert table.to_json() == dv.load(TIMM, "random", arguments=arguments).layers.to_json()
        assert table.last.shape == (3,)

    def test_sketch_downloads_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import socket

        def no_connection(*_: object) -> None:
            raise AssertionError("a connection was opened")

        monkeypatch.setattr(socket.socket, "connect", no_connection)
        assert sketch("timm:resnet26d").layers.last.shape == (1000,)
        assert sketch("timm:resnet26d.bt_in1k").preprocessing.shape == (3, 288, 288)

    def test_unknown_layer_names_the_command_that_lists_layers(self) -> None:
        with pytest.raises(LayerError, match=r"\(see: deconvviz layers --model timm:test_resnet\)$"):
            sketch(TIMM).layers.find("conv9")

    def test_weights_file_with_fewer_classes_is_loaded(self, tmp_path: Path) -> None:
        few = dv.load(TIMM, "random", arguments={"num_classes": 3})
        torch.save(few.module.state_dict(), tmp_path / "few.pth")
        net = dv.load(TIMM, tmp_path / "few.pth")
        assert net.digest == few.digest and net.layers.last.shape == (3,)


# --- errors for all networks


@pytest.mark.parametrize("make", [sketch, dv.load])
def test_unknown_network_raises(make: Callable[[str], dv.Network]) -> None:
    for name, message in (
        ("vgg91", "no network 'vgg91'; nearest: vgg19"),
        ("own:make", "no network 'own:make': give "),
    ):
        with pytest.raises(NetworkError, match=message):
            make(name)


def test_arguments_for_a_network_without_arguments_raise() -> None:
    with pytest.raises(NetworkError, match=r"^minivgg takes no arguments \(width\): "):
        dv.load("minivgg", arguments={"width": 3})
