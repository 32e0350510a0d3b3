"""`Network`: its inputs, layers, digest and errors."""

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


def test_repr_of_a_network(net: dv.Network, mini: dv.Network) -> None:
    assert repr(net) == "<Network Sequential: 16 px, 883 parameters, weights as given>"
    assert repr(mini).startswith("<Network minivgg: 96 px, 432,540 parameters, random")


def test_path_pillow_image_array_and_tensor_give_the_same_input(net: dv.Network, tmp_path: Path) -> None:
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


def test_several_images_are_recorded_as_a_batch(net: dv.Network) -> None:
    both = net.record([scene(1).image, scene(2).image], "0")
    assert len(both) == 2 and both.inputs.shape == (2, 3, 16, 16)
    alone = net.record(scene(2).image, "0")
    assert torch.equal(both.inputs[1:], alone.inputs)
    torch.testing.assert_close(both.activations("0")[1:], alone.activations("0"))


def test_inputs_have_the_type_of_the_network(net: dv.Network) -> None:
    net.module.double()
    rec = net.record(scene(1).image, "4")
    assert rec.inputs.dtype == rec.activations("4").dtype == torch.float64
    assert rec.project("4").pixels.dtype == torch.float64


def test_prepared_tensor_can_have_another_size() -> None:
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
def test_unsuitable_tensors_raise(net: dv.Network, tensor: Tensor, message: str) -> None:
    with pytest.raises(ImageError) as wrong:
        net.record(tensor, "0")
    assert str(wrong.value) == message


def test_unsuitable_images_raise(net: dv.Network, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^no image was given$"):
        net.record([], "0")
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        net.record(tmp_path / "nowhere.jpg", "0")
    with pytest.raises(ImageError):
        net.record(np.zeros((4, 4, 3)), "0")


def test_missing_and_unknown_layers_raise(net: dv.Network) -> None:
    with pytest.raises(LayerError, match=r"^no layer was given: name one or more \(net\.layers lists"):
        net.record(scene(1).image, [])
    with pytest.raises(LayerError, match=r"no layer '7' in Sequential"):
        net.record(scene(1).image, ["0", "7"])


class Branching(nn.Module):
    """A branch that is not always taken, and one that does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.blind, self.rare = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        blind = self.blind(torch.ones(len(x), 3, *x.shape[2:]))
        return self.main(x) + blind if x.max() > 1 else self.rare(x) + blind


def test_layers_that_are_not_reached_or_do_not_depend_on_the_image_raise() -> None:
    net = dv.Network(Branching(), size=8)
    assert net.layers.names == ["rare", "output"]
    with pytest.raises(LayerError) as wrong:
        net.record(torch.full((1, 3, 8, 8), 2.0), "rare")
    assert str(wrong.value) == "rare of Branching was not reached with these images"
    with pytest.raises(LayerError, match=r"^blind of Branching does not depend on the image$"):
        net.record(torch.zeros(1, 3, 8, 8), "blind")


def test_network_of_something_other_than_a_module_raises() -> None:
    message = r"^a network must be a torch\.nn\.Module or a deconvviz\.Network, not str$"
    with pytest.raises(NetworkError, match=message):
        dv.Network("vgg19")  # type: ignore[arg-type]


def test_class_index_accepts_names_and_numbers(net: dv.Network) -> None:
    assert [net.class_index(name) for name in ("dog", 2, "2")] == [1, 2, 2]
    for name in ("horse", 3, -1):
        with pytest.raises(UnitError):
            net.class_index(name)


def test_digest_follows_changes_of_the_weights(net: dv.Network) -> None:
    first = net.digest
    assert first == net.digest == dv.Network(tiny()).digest
    with torch.no_grad():
        net.module[0].weight[0, 0, 0, 0] += 1  # type: ignore[index, operator]
    second = net.digest
    assert second != first and second == net.digest
    net.module.double()
    assert net.digest != second


def test_random_weights_depend_only_on_the_seed() -> None:
    digests = [dv.load("minivgg", weights="random", seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_project_function_equals_record_strongest_and_project(mini: dv.Network) -> None:
    image = scene(3).image
    rec = mini.record(image, layers=["conv3_1"])
    want = rec.project("conv3_1", rec.strongest("conv3_1", k=4))
    found = dv.project(mini, image, "conv3_1", k=4)
    assert found.units == want.units and torch.equal(found.pixels, want.pixels)
    assert len(dv.project(mini, image, "conv3_1")) == 9
    assert {unit.channel for unit in dv.project(mini, image, "conv3_1", k=3, channel=5).units} == {5}


def test_sketch_has_the_layers_of_the_network(mini: dv.Network) -> None:
    assert sketch("minivgg").layers.to_json() == mini.layers.to_json()


def test_listing_layers_does_not_change_the_module() -> None:
    """Training flags, statistics and weights stay the same."""
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    before = {name: number.clone() for name, number in module.state_dict().items()}
    assert dv.Network(module, size=8).layers.names == ["0", "1", "2", "output"]
    assert all(part.training for part in module.modules())
    assert all(torch.equal(number, before[name]) for name, number in module.state_dict().items())


def test_pick_device_returns_the_device_or_raises() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(DeviceError, match=r"^no device 'cuda:99' on this machine: there is cpu"):
        dv.load("minivgg", weights="random", device="cuda:99")


def test_all_errors_are_deconvviz_errors() -> None:
    for error in (ImageError, LayerError, NetworkError, DeviceError, UnitError):
        assert issubclass(error, dv.DeconvvizError)


def test_class_index_of_a_network_with_several_outputs_raises() -> None:
    class TwoOutputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Any:
            return self.conv(x), x

    net = dv.Network(TwoOutputs(), size=8)
    assert net.layers.names == ["conv", "output.0", "output.1"]
    with pytest.raises(
        LayerError,
        match=r"^TwoOutputs returns a tuple; which of these has class scores is unknown without class names: "
        r"output\.0 \(2 x 8 x 8\), output\.1 \(3 x 8 x 8\)$",
    ):
        net.class_index(0)


def test_network_whose_input_is_not_an_image_accepts_only_tensors(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(1).image).save(path)
    net = dv.Network(nn.Conv2d(5, 2, 3), size=(8, 6), mean=(0,) * 5, std=(1,) * 5, name="five")
    assert repr(net).startswith("<Network five: 8 x 6 px")
    assert net.layers.last.shape == (2, 6, 4)
    assert net.record(torch.randn(2, 5, 8, 6), "output").inputs.shape == (2, 5, 8, 6)
    for image in (path, scene(1).image, [path]):
        with pytest.raises(ImageError) as wrong:
            net.record(image, "output")
        assert str(wrong.value) == (
            "five reads 5 channels, but an image has 3 (or 1, grey): "
            "give a .npy or .tif file with 5 bands, or a prepared tensor (B, 5, H, W) in Python"
        )
    with pytest.raises(ImageError, match=r"^a prepared tensor has shape \(B, 5, H, W\), not \(1, 3, 8, 6\)$"):
        net.record(torch.zeros(1, 3, 8, 6), "output")


def test_input_need_not_be_square() -> None:
    net = dv.Network(tiny()[:3], size=(16, 24))
    assert net.record(scene(1).image, "2").activations("2").shape == (1, 4, 8, 12)


def test_network_that_does_not_run_on_its_size_raises() -> None:
    module = tiny().train()
    with pytest.raises(NetworkError) as wrong:
        _ = dv.Network(module, size=20, name="tiny").layers
    message = str(wrong.value)
    assert message.startswith("tiny does not run on an input of 3 x 20 x 20: RuntimeError: ")
    assert message.endswith("expected input with deconvviz.Network(module, size=..., mean=..., std=...))")
    assert "\n" not in message and all(part.training for part in module.modules())


def test_error_inside_deconvviz_is_not_reported_as_an_error_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deconvviz.engine import recorder

    def faulty(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(recorder, "record_tape", faulty)
    with pytest.raises(ZeroDivisionError, match=r"^ours$"):
        _ = dv.Network(tiny(), size=16).layers


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_scripted_module_or_submodule_raises() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    scripted = torch.jit.script(plain)
    for module, where in ((scripted, ""), (nn.Sequential(plain, scripted), r" \(its submodule 1\)")):
        message = rf"^mine cannot be recorded: it is scripted or traced by torch\.jit{where}, .*made from$"
        with pytest.raises(NetworkError, match=message):
            dv.Network(module, size=8, name="mine")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_submodule_that_is_scripted_later_raises_when_it_is_used() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    net = dv.Network(module, size=8, name="mine")
    module[1] = torch.jit.script(module[1])
    with pytest.raises(NetworkError, match=r"scripted or traced by torch\.jit \(its submodule 1\)"):
        _ = net.layers
    with pytest.raises(NetworkError, match=r"scripted or traced by torch\.jit \(its submodule 1\)"):
        net.record(torch.zeros(1, 3, 8, 8), "output")
