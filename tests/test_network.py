"""A network and what goes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import DeviceError, ImageError, LayerError, NetworkError, UnitError
from deconvviz.loading import pick_device, sketch
from deconvviz.scenes import scene


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 64, 3),
    )


@pytest.fixture
def net() -> dv.Network:
    classes = ["cat", "dog", "cow"]
    return dv.Network(tiny(), size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1), classes=classes)


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg", weights="random")


def test_one_readable_line(net: dv.Network, mini: dv.Network) -> None:
    assert repr(net) == "<Network Sequential: 16 px, 883 parameters, weights as given>"
    assert repr(mini).startswith("<Network minivgg: 96 px, 432,540 parameters, random")


def test_a_path_a_pillow_image_an_array_and_a_tensor_are_one_picture(net: dv.Network, tmp_path: Path) -> None:
    array = scene(1).image
    path = tmp_path / "scene.png"
    Image.fromarray(array).save(path)
    inputs = [
        net.record(given, "0").inputs
        for given in (str(path), path, [path], Image.open(path), array, (array,), [Image.fromarray(array)])
    ]
    prepared = net.preprocessing.apply(array)[None]
    assert prepared.shape == (1, 3, 16, 16)
    for found in (*inputs, net.record(prepared, "0").inputs):
        assert torch.equal(found, prepared)


def test_several_pictures_are_a_batch(net: dv.Network) -> None:
    both = net.record([scene(1).image, scene(2).image], "0")
    assert len(both) == 2 and both.inputs.shape == (2, 3, 16, 16)
    alone = net.record(scene(2).image, "0")
    assert torch.equal(both.inputs[1:], alone.inputs)
    torch.testing.assert_close(both.activations("0")[1:], alone.activations("0"))


def test_pictures_follow_the_type_of_the_network(net: dv.Network) -> None:
    net.module.double()
    rec = net.record(scene(1).image, "4")
    assert rec.inputs.dtype == rec.activations("4").dtype == torch.float64
    assert rec.project("4").pixels.dtype == torch.float64


def test_a_prepared_tensor_may_have_another_size() -> None:
    net = dv.Network(tiny()[:3], size=16)
    assert net.record(torch.randn(2, 3, 30, 18), "2").activations("2").shape == (2, 4, 15, 9)


WRONG_TENSORS = [
    (torch.zeros(3, 16, 16), "a prepared tensor has shape (B, 3, H, W), not (3, 16, 16)"),
    (torch.zeros(1, 1, 16, 16), "a prepared tensor has shape (B, 3, H, W), not (1, 1, 16, 16)"),
    (torch.zeros(0, 3, 16, 16), "a prepared tensor has shape (B, 3, H, W), not (0, 3, 16, 16)"),
    (
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        "a prepared tensor holds floating point numbers, not torch.uint8; "
        "give pixel values 0 to 255 as a uint8 array (H, W, 3)",
    ),
    (torch.full((1, 3, 16, 16), torch.nan), "the tensor holds NaN or infinity"),
    (torch.full((1, 3, 16, 16), torch.inf), "the tensor holds NaN or infinity"),
]


@pytest.mark.parametrize(("tensor", "message"), WRONG_TENSORS)
def test_wrong_tensors(net: dv.Network, tensor: Tensor, message: str) -> None:
    with pytest.raises(ImageError) as wrong:
        net.record(tensor, "0")
    assert str(wrong.value) == message


def test_wrong_pictures(net: dv.Network, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^no image was given$"):
        net.record([], "0")
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        net.record(tmp_path / "nowhere.jpg", "0")
    with pytest.raises(ImageError):
        net.record(np.zeros((4, 4, 3)), "0")


def test_wrong_layers(net: dv.Network) -> None:
    with pytest.raises(LayerError, match=r"^no layer was given: name one or more \(net\.layers lists"):
        net.record(scene(1).image, [])
    with pytest.raises(LayerError, match=r"no layer '7' in Sequential"):
        net.record(scene(1).image, ["0", "7"])


class Odd(nn.Module):
    """A branch that is not always taken, and one that does not look."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.blind, self.rare = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        blind = self.blind(torch.ones(len(x), 3, *x.shape[2:]))
        return self.look(x) + blind if x.max() > 1 else self.rare(x) + blind


def test_layers_that_are_not_reached_or_do_not_see() -> None:
    net = dv.Network(Odd(), size=8)
    assert net.layers.names == ["rare", "output"]
    with pytest.raises(LayerError) as wrong:
        net.record(torch.full((1, 3, 8, 8), 2.0), "rare")
    assert str(wrong.value) == "rare of Odd was not reached with these images"
    with pytest.raises(LayerError, match=r"^blind of Odd does not depend on the image$"):
        net.record(torch.zeros(1, 3, 8, 8), "blind")


def test_only_modules() -> None:
    message = r"^a network must be a torch\.nn\.Module or a deconvviz\.Network, not str$"
    with pytest.raises(NetworkError, match=message):
        dv.Network("vgg19")  # type: ignore[arg-type]


def test_classes_by_name_and_number(net: dv.Network) -> None:
    assert [net.class_index(asked) for asked in ("dog", 2, "2")] == [1, 2, 2]
    for asked in ("horse", 3, -1):
        with pytest.raises(UnitError):
            net.class_index(asked)


def test_the_digest_is_of_the_weights_as_they_are_now(net: dv.Network) -> None:
    first = net.digest
    assert first == net.digest == dv.Network(tiny()).digest
    with torch.no_grad():
        net.module[0].weight[0, 0, 0, 0] += 1  # type: ignore[index, operator]
    second = net.digest
    assert second != first and second == net.digest
    net.module.double()
    assert net.digest != second


def test_random_weights_come_from_the_seed() -> None:
    digests = [dv.load("minivgg", weights="random", seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_three_lines_in_one(mini: dv.Network) -> None:
    picture = scene(3).image
    rec = mini.record(picture, layers=["conv3_1"])
    want = rec.project("conv3_1", rec.strongest("conv3_1", k=4))
    found = dv.project(mini, picture, "conv3_1", k=4)
    assert found.units == want.units and torch.equal(found.pixels, want.pixels)
    assert len(dv.project(mini, picture, "conv3_1")) == 9
    assert {unit.channel for unit in dv.project(mini, picture, "conv3_1", k=3, channel=5).units} == {5}


def test_a_sketch_has_the_layers_of_the_network(mini: dv.Network) -> None:
    assert sketch("minivgg").layers.to_json() == mini.layers.to_json()


def test_layers_of_a_module_of_ones_own_are_those_that_it_has_now() -> None:
    """Flags, statistics and weights are as they were after the layers were listed."""
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    before = {name: number.clone() for name, number in module.state_dict().items()}
    assert dv.Network(module, size=8).layers.names == ["0", "1", "2", "output"]
    assert all(part.training for part in module.modules())
    assert all(torch.equal(number, before[name]) for name, number in module.state_dict().items())


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(DeviceError, match=r"^no device 'cuda:99' on this machine: there is cpu"):
        dv.load("minivgg", weights="random", device="cuda:99")


def test_a_user_sees_one_tree_of_errors() -> None:
    for error in (ImageError, LayerError, NetworkError, DeviceError, UnitError):
        assert issubclass(error, dv.DeconvvizError)


def test_a_network_with_no_single_output() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Any:
            return self.conv(x), x

    net = dv.Network(Two(), size=8)
    assert net.layers.names == ["conv"]
    with pytest.raises(LayerError, match=r"^Two does not return a single tensor, so it has no class scores$"):
        net.class_index(0)


def test_a_network_that_reads_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(1).image).save(path)
    net = dv.Network(nn.Conv2d(5, 2, 3), size=(8, 6), mean=(0,) * 5, std=(1,) * 5, name="five")
    assert repr(net).startswith("<Network five: 8 x 6 px")
    assert net.layers.last.shape == (2, 6, 4)
    assert net.record(torch.randn(2, 5, 8, 6), "output").inputs.shape == (2, 5, 8, 6)
    for picture in (path, scene(1).image, [path]):
        with pytest.raises(ImageError) as wrong:
            net.record(picture, "output")
        assert str(wrong.value) == (
            "five reads 5 channels, and a picture has 3 (or 1, grey): "
            "give a prepared tensor (B, 5, H, W), in Python"
        )
    with pytest.raises(ImageError, match=r"^a prepared tensor has shape \(B, 5, H, W\), not \(1, 3, 8, 6\)$"):
        net.record(torch.zeros(1, 3, 8, 6), "output")


def test_an_oblong_input() -> None:
    net = dv.Network(tiny()[:3], size=(16, 24))
    assert net.record(scene(1).image, "2").activations("2").shape == (1, 4, 8, 12)


def test_a_network_that_does_not_run_on_its_size() -> None:
    module = tiny().train()
    with pytest.raises(NetworkError) as wrong:
        _ = dv.Network(module, size=20, name="tiny").layers
    told = str(wrong.value)
    assert told.startswith("tiny does not run on an input of 3 x 20 x 20: RuntimeError: ")
    assert told.endswith("expected input with deconvviz.Network(module, size=..., mean=..., std=...))")
    assert "\n" not in told and all(part.training for part in module.modules())


def test_a_fault_that_is_not_the_networks_is_not_blamed_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvviz.engine import recorder

    def faulty(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(recorder, "record_tape", faulty)
    with pytest.raises(ZeroDivisionError, match=r"^ours$"):
        _ = dv.Network(tiny(), size=16).layers


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_or_part_is_refused_and_says_what_to_give() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    scripted = torch.jit.script(plain)
    for module, where in ((scripted, ""), (nn.Sequential(plain, scripted), r" \(its submodule 1\)")):
        message = rf"^mine cannot be recorded: it is scripted or traced by torch\.jit{where}, .*made from$"
        with pytest.raises(NetworkError, match=message):
            dv.Network(module, size=8, name="mine")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_part_that_is_scripted_later_is_refused_when_it_is_used() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    net = dv.Network(module, size=8, name="mine")
    module[1] = torch.jit.script(module[1])
    with pytest.raises(NetworkError, match=r"scripted or traced by torch\.jit \(its submodule 1\)"):
        _ = net.layers
    with pytest.raises(NetworkError, match=r"scripted or traced by torch\.jit \(its submodule 1\)"):
        net.record(torch.zeros(1, 3, 8, 8), "output")
