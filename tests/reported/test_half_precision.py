"""Networks in float16 and bfloat16: their signals and arrays have single precision."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.asking import Calls, noise, wrapped
from helpers.oracles import Autograd, difference
from helpers.snapshots import Noise
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import UnitError
from deconvviz.scenes import scene

SHORT = [torch.float16, torch.bfloat16]
ROUNDED = {torch.float16: 4e-3, torch.bfloat16: 3e-2}  # relative rounding errors of the network's own values


class RecordedPool(nn.Module):
    """Max-pool that takes the values at given positions, whether or not they are the maxima."""

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).gather(2, self.places.flatten(2)).view(self.places.shape)


def in_double(network: nn.Sequential, images: Tensor) -> Autograd:
    """Return the autograd oracle of the same weights in float64, with the switches of the 16-bit pass."""
    wide = copy.deepcopy(network).double()
    x = images
    with torch.no_grad():
        for name, part in network.named_children():
            if isinstance(part, nn.MaxPool2d):
                how = (part.kernel_size, part.stride, part.padding, part.dilation, part.ceil_mode)
                setattr(wide, name, RecordedPool(F.max_pool2d(x.clone(), *how, return_indices=True)[1]))
            x = part(x)
    return Autograd(wide, images.double())


def check(network: nn.Sequential, images: Tensor, layer: str, apart: float) -> dv.Projection:
    """Compare the strongest units of a layer with float64; the signals are the 16-bit activations."""
    recording = wrapped(network, images).record(images, layer)
    activations = recording.activations(layer)
    assert activations.dtype == recording.inputs.dtype == images.dtype
    oracle = in_double(network, images)
    found = recording.project(layer, recording.strongest(layer, 4))
    assert found.pixels.dtype is torch.float32
    assert bool(found.pixels.isfinite().all())
    assert found.pixels.flatten(1).any(1).all()
    for pixels, unit in zip(found.pixels, found.units, strict=True):
        place = (unit.channel,) if unit.y is None else (unit.channel, unit.y, unit.x)
        signal = torch.zeros(activations.shape, dtype=torch.float64)
        signal[(unit.image, *place)] = activations[(unit.image, *place)].double()
        assert difference(pixels.double(), oracle.project(layer, signal)[unit.image]) <= apart, unit
    return found


def made(*layers: nn.Module, dtype: torch.dtype, seed: int = 0) -> nn.Sequential:
    """Return a network with seeded weights, including those of norms."""
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number in (*network.parameters(), *network.buffers()):
            if number.is_floating_point():
                rank = number.dim()
                number.copy_(torch.rand(number.shape, generator=generator) + (0.5 if rank == 1 else -0.4))
                number.mul_(1 if rank == 1 else 2 / number[0].numel() ** 0.5)
    return network.to(dtype).eval()


def strong(dtype: torch.dtype) -> tuple[nn.Sequential, Tensor]:
    """Return a network and images whose activations fit into half precision, but not the signals."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for number in network.parameters():
            number.copy_(torch.rand(number.shape, generator=generator) * 4 + 28)
            if number.dim() == 1:
                number.zero_()
    images = 0.015 + 0.001 * noise(2, 3, 12, 11)
    return network.to(dtype).eval(), images.to(dtype)


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_signals_beyond_half_precision_are_finite_and_correct(dtype: torch.dtype) -> None:
    network, images = strong(dtype)
    found = check(network, images, "2", 1e-5)
    assert 20_000 < max(unit.activation for unit in found.units) < 65_504
    assert float(found.pixels.max()) > 65_504


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_projections_of_units_one_by_one_and_as_tensors_are_equal(dtype: torch.dtype) -> None:
    network, images = strong(dtype)
    recording = wrapped(network, images).record(images, "2")
    units = recording.strongest("2", 4)
    together = recording.project("2", units).pixels
    alone = recording.project("2", units, memory=1).pixels
    assert difference(alone, together) <= 1e-6
    activations = recording.activations("2")
    signals = torch.zeros(len(units), *activations.shape[1:], dtype=dtype)
    for signal, unit in zip(signals, units, strict=True):
        signal[unit.channel, unit.y, unit.x] = activations[unit.image, unit.channel, unit.y, unit.x]
    whole = recording.project("2", signals, image_indices=[unit.image for unit in units]).pixels
    assert whole.dtype is torch.float32
    assert difference(whole, together) <= 1e-6


LINEAR: dict[str, Callable[[], list[nn.Module]]] = {
    "max-pools": lambda: [
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 1),
    ],
    "average pools": lambda: [nn.Conv2d(3, 6, 3), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((3, 2))],
    "interpolation": lambda: [nn.Conv2d(3, 6, 3), nn.Upsample(None, 2, "bilinear"), nn.Conv2d(6, 4, 3)],
    "borders": lambda: [nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3, padding=1), nn.ReplicationPad2d(1)],
    "transposed": lambda: [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3, 2)],
    "class score": lambda: [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 12, 5)],
    "global mean": lambda: [
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ],
}  # fmt: skip


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("name", LINEAR)
def test_linear_layers_are_projected_in_single_precision(name: str, dtype: torch.dtype) -> None:
    layers = LINEAR[name]()
    network = made(*layers, dtype=dtype)
    check(network, noise(2, 3, 12, 14).to(dtype), str(len(layers) - 1), 2e-5)


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        weights = (flat.transpose(1, 2) @ flat / flat.shape[1]).softmax(-1)
        return x + (flat @ weights.transpose(1, 2)).view(x.shape)


ROUNDING: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(6),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "layer norm": lambda: nn.LayerNorm([6, 10, 12]),
    "squeeze and excite": Excited,
    "attention": Attending,
    "silu": nn.SiLU,
    "silu written out": lambda: Calls(lambda x: x * torch.sigmoid(x)),
    "divided by its norm": lambda: Calls(lambda x: x / (x.norm(dim=1, keepdim=True) + 0.5)),
    "maximum of two channels": lambda: Calls(lambda x: torch.maximum(x, x.roll(1, 1))),
}


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("name", ROUNDING)
def test_signals_through_gates_and_statistics_have_single_precision(name: str, dtype: torch.dtype) -> None:
    network = made(nn.Conv2d(3, 6, 3), ROUNDING[name](), nn.Conv2d(6, 4, 2), dtype=dtype)
    check(network, noise(2, 3, 12, 14).to(dtype), "2", ROUNDED[dtype])


class Halfway(nn.Module):
    """Network that starts in single precision and ends in a 16-bit type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.front, self.back = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.front(x).relu().to(self.back.weight.dtype))


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_network_that_changes_its_dtype_is_projected_in_single_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = Halfway(dtype).eval()
    images = noise(2, 3, 9, 9).float()
    recording = wrapped(network, images).record(images, "back")
    activations = recording.activations("back")
    assert activations.dtype is dtype
    found = recording.project("back", recording.strongest("back", 4))
    assert found.pixels.dtype is torch.float32

    plain = nn.Sequential(network.front, nn.ReLU(), network.back).double().eval()
    oracle = Autograd(plain, images.double())
    for pixels, unit in zip(found.pixels, found.units, strict=True):
        signal = torch.zeros(activations.shape, dtype=torch.float64)
        place = (unit.image, unit.channel, unit.y, unit.x)
        signal[place] = activations[place].double()
        want = oracle.project("2", signal)[unit.image]
        assert want.any()
        assert difference(pixels.double(), want) <= 1e-5


INFINITE = "not finite|infinite|NaN"


@pytest.mark.parametrize("dtype", [*SHORT, torch.float32], ids=str)
@pytest.mark.parametrize("number", [float("inf"), -float("inf")], ids=str)
def test_unit_with_an_infinite_activation_raises(number: float, dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)).to(dtype).eval()
    with torch.no_grad():
        for part in network:
            part.weight.fill_(1.0)
            part.bias.zero_()
        network[1].weight[1] = torch.finfo(dtype).max * (1 if number > 0 else -1)
    images = torch.ones(1, 3, 4, 4, dtype=dtype)
    recording = wrapped(network, images).record(images, "1")
    assert float(recording.activations("1")[0, 1, 2, 2]) == number
    with pytest.raises(UnitError, match=INFINITE):
        recording.project("1", dv.Unit(0, 1, 2, 2))
    with pytest.raises(UnitError, match=INFINITE):
        recording.project("1", [dv.Unit(0, 0, 2, 2), dv.Unit(0, 1, 0, 0)])
    found = recording.project("1", dv.Unit(0, 0, 2, 2))  # another channel is finite
    assert bool(found.pixels.isfinite().all()) and found.pixels.any()


@pytest.mark.parametrize("dtype", [*SHORT, torch.float32], ids=str)
def test_unit_with_a_nan_activation_raises(dtype: torch.dtype) -> None:
    big = float(torch.finfo(dtype).max)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), Calls(lambda x: x * big - x * big)).to(dtype).eval()
    images = torch.full((1, 3, 4, 4), 3.0, dtype=dtype)
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    recording = wrapped(network, images).record(images, "1")
    assert bool(recording.activations("1").isnan().all())
    with pytest.raises(UnitError, match=INFINITE):
        recording.project("1", dv.Unit(0, 1, 2, 2))


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_arrays_of_a_projection_have_single_precision(dtype: torch.dtype) -> None:
    network, images = strong(dtype)
    recording = wrapped(network, images).record(images, "2")
    found = recording.project("2", recording.strongest("2", 3))
    arrays = found.arrays()
    assert arrays["pixels"].dtype == arrays["input"].dtype == np.float32
    assert np.array_equal(arrays["pixels"], found.pixels.numpy())
    assert np.array_equal(arrays["input"], images.float().numpy())
    assert arrays["pixels"].any()
    assert arrays["activation"].tolist() == [unit.activation for unit in found.units]


def _small(dtype: torch.dtype) -> dv.Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3)]
    return dv.Network(nn.Sequential(*layers).to(dtype), size=16, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_save_writes_figure_manifest_and_arrays(dtype: torch.dtype, tmp_path: Path) -> None:
    net = _small(dtype)
    recording = net.record(scene(3).image, "3")
    found = recording.project("3", recording.strongest("3", 3))
    path = found.save(tmp_path / "grid.png", dpi=50, arrays=True)
    with Image.open(path) as figure:
        assert figure.width > 100
    with np.load(tmp_path / "grid.npz") as stored:
        assert stored["pixels"].dtype == stored["input"].dtype == np.float32
        assert np.array_equal(stored["pixels"], found.pixels.numpy())
        assert stored["pixels"].any()
    assert len(json.loads((tmp_path / "grid.json").read_text())["units"]) == 3


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_arrays_of_a_top_nine_have_single_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    net = _small(dtype)  # a search does not keep its network alive
    found = dv.search(net, Noise(12, 16), ["3"], workers=0, top=3)
    nine = found.topnine("3", channels=[1, 3], k=3)
    arrays = nine.arrays()
    assert arrays["pixels"].dtype == np.float32
    assert np.isfinite(arrays["pixels"]).all() and arrays["pixels"].any()
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            assert array.dtype in (np.float32, np.float64), name
    nine.save(tmp_path / "nine.png", dpi=50, arrays=True)
    with np.load(tmp_path / "nine.npz") as stored:
        assert np.array_equal(stored["pixels"], arrays["pixels"])


NETS = """
import torch
from torch import nn
import deconvviz as dv

def net(dtype):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3)
    return dv.Network(nn.Sequential(*layers).to(dtype), size=16)

def bfloat16():
    return net(torch.bfloat16)

def float16():
    return net(torch.float16)
"""


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_project_command_writes_figure_and_arrays(name: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    Image.fromarray(scene(3).image).save(tmp_path / "scene.png")
    arguments: list[Any] = [
        tmp_path / "scene.png",
        "--model",
        f"{tmp_path / 'nets.py'}:{name}",
        "--layer",
        "3",
    ]
    options = ["--top", 2, "--arrays", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, ["project", *map(str, [*arguments, *options])])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out" / "scene-3.npz") as stored:
        assert stored["pixels"].dtype == stored["input"].dtype == np.float32
        assert np.isfinite(stored["pixels"]).all() and stored["pixels"].any()
    with Image.open(tmp_path / "out" / "scene-3.png") as figure:
        assert figure.width > 100
