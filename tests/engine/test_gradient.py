"""Gradients and guided backpropagation of the engine, compared with autograd and captum."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import difference
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.gradient import Signs
from deconvviz.errors import MethodError, StaleRecording
from deconvviz.scenes import scene

METHODS = ("gradient", "guided")


class Branches(nn.Module):
    """Functional, reused and in-place ReLUs, a gate, a layer norm and a product of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm, self.gate = nn.LayerNorm(8), nn.Linear(8, 8)
        self.last = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        y = F.relu(self.second(x), inplace=True)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.relu(self.second(y + x)) * torch.tanh(x)
        return self.last(F.max_pool2d(y, 2))


def _network(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
    return module.double().eval()


def _images(count: int = 2, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _check(network: nn.Module, images: Tensor, layer: str = "", tolerance: float = 1e-12) -> None:
    """Compare units at corners, borders and peaks with autograd."""
    recorded = passes.run(network, images, methods=METHODS)
    for method in METHODS:
        ours = recorded.by(method)
        theirs = PlainAutograd(network, images, [layer], Guided() if method == "guided" else None)
        units = passes.some_units(ours.outputs[layer], torch.Generator().manual_seed(2))
        pixels, _ = ours.units(layer, units)
        full = ours.units_at_full_size(layer, units)
        for one, whole, unit in zip(pixels, full, units, strict=True):
            signal = torch.zeros_like(ours.outputs[layer])
            place = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
            signal[place] = ours.outputs[layer][place]
            want = theirs.project(layer, signal)[unit.image]
            assert difference(one, want) <= tolerance, (method, unit)
            assert difference(whole, want) <= tolerance, (method, unit)


def test_reused_functional_and_in_place_relus_gates_and_norms_equal_autograd() -> None:
    _check(_network(Branches()), _images())


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "softplus": F.softplus,
    "square": lambda x: x**2,
    "root": lambda x: (x.abs() + 1).sqrt(),
    "quotient": lambda x: x / (1 + x.abs()),
    "softmax": lambda x: x.softmax(1),
    "minimum of two branches": lambda x: torch.minimum(x, x.flip(1)),
    "standard deviation": lambda x: x / x.std((2, 3), keepdim=True),
    "variance and mean": lambda x: sum(torch.var_mean(x, (2, 3), keepdim=True)) * x,  # type: ignore[arg-type]
    "clamp at 0": lambda x: x.clamp(min=0),
    "silu in several calls": lambda x: x * torch.sigmoid(x),
    "selected": lambda x: torch.where(x > 0.1, x, 0.2 * x),
}


class Between(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nonlinear_operation_equals_autograd(name: str) -> None:
    _check(_network(Between(ACTIVATIONS[name])), _images())


@pytest.mark.parametrize(
    "spelled",
    [lambda x: x * (x > 0), lambda x: torch.where(x > 0, x, 0 * x), lambda x: x.masked_fill(x < 0, 0)],
)
def test_relu_in_several_calls_is_rectified_by_guided_backpropagation(
    spelled: Callable[[Tensor], Tensor],
) -> None:
    images = _images()
    module, usual = _network(Between(spelled)), _network(Between(F.relu))
    found, wanted = (passes.run(one, images, methods=METHODS) for one in (module, usual))
    units = passes.some_units(found.outputs[""], torch.Generator().manual_seed(2))
    assert difference(*(run.by("guided").units("", units)[0] for run in (found, wanted))) <= 1e-12


def test_maximum_with_zero_is_rectified_by_guided_backpropagation() -> None:
    images = _images()
    runs = [
        passes.run(_network(Between(function)), images, methods=METHODS)
        for function in (lambda x: torch.maximum(x, torch.zeros_like(x)), F.relu)
    ]
    units = passes.some_units(runs[0].outputs[""], torch.Generator().manual_seed(2))
    assert difference(*(run.by("guided").units("", units)[0] for run in runs)) <= 1e-12


def test_guided_backpropagation_equals_captum() -> None:
    from captum.attr import NeuronGuidedBackprop

    net = dv.load("minivgg")
    rec = net.record(scene(5).image, "conv3_2", methods="guided")
    units = rec.strongest("conv3_2", 4)
    found = rec.project("conv3_2", units, method="guided").pixels
    module = copy.deepcopy(net.module).eval()
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    peer = NeuronGuidedBackprop(module, module.get_submodule(net.layers["conv3_2"].module))
    for one, unit in zip(found, units, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = peer.attribute(rec.inputs.clone().requires_grad_(), (unit.channel, unit.y, unit.x))
        assert difference(one, theirs[0].detach() * unit.activation) <= 1e-5


def test_input_x_gradient_is_the_gradient_times_the_input_of_its_own_image() -> None:
    net = dv.load("minivgg")
    rec = net.record([scene(n).image for n in (1, 2)], "conv3_2", methods=("input_x_gradient",))
    units = [dv.Unit(1, 3, 4, 5), dv.Unit(0, 2, 8, 8)]
    product = rec.project("conv3_2", units, method="input_x_gradient").pixels
    gradient = rec.project("conv3_2", units, method="gradient").pixels
    assert torch.equal(product, gradient * rec.inputs[[1, 0]])


def test_detached_branch_has_no_gradient() -> None:
    module = _network(Between(lambda x: x.detach() * x))
    _check(module, _images())


def test_projection_is_the_same_whether_gradients_are_recorded_or_not() -> None:
    module, images = _network(Branches()), _images()
    alone, together = passes.run(module, images), passes.run(module, images, methods=METHODS)
    units = passes.some_units(alone.outputs[""], torch.Generator().manual_seed(3))
    assert torch.equal(alone.units("", units)[0], together.units("", units)[0])


def test_gradient_is_stale_after_a_weight_has_changed() -> None:
    net = dv.Network(_network(Branches()), size=16)
    rec = net.record(_images(), "last", methods="gradient")
    with torch.no_grad():
        net.module.norm.weight += 1
    with pytest.raises(StaleRecording):
        rec.project("last", method="gradient")


def test_unknown_and_unrecorded_methods_are_named() -> None:
    net = dv.load("minivgg")
    with pytest.raises(MethodError, match="no method 'grad' in a recording: there is deconvnet, guided"):
        net.record(scene(0).image, "conv2_1", methods=["grad"])
    rec = net.record(scene(0).image, "conv2_1", methods="guided")
    with pytest.raises(MethodError, match=r"gradient was not recorded: this recording has deconvnet, guided"):
        rec.project("conv2_1", method="gradient")


def test_gradient_is_kept_in_the_manifest_and_made_again(tmp_path: object) -> None:
    from pathlib import Path

    from PIL import Image

    folder = Path(str(tmp_path))
    Image.fromarray(scene(4).image).save(folder / "image.png")
    net = dv.load("minivgg")
    rec = net.record(folder / "image.png", "conv3_1", methods="guided")
    made = rec.project("conv3_1", rec.strongest("conv3_1", 2), method="guided")
    saved = made.save(folder / "guided.png")
    again = dv.remake(saved.manifest).projection
    assert again.method == "guided"
    assert torch.equal(again.pixels, made.pixels)
    assert made.spec().title[0].endswith("guided backpropagation")


@given(st.data())
def test_signs_in_a_window_equal_the_mask(data: st.DataObject) -> None:
    count, c, h, w = (data.draw(st.integers(1, high)) for high in (3, 3, 9, 21))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    mask = torch.rand(count, c, h, w, generator=generator) > 0.5
    layout = TensorLayout.of((c, h, w))
    size = (data.draw(st.integers(1, h)), data.draw(st.integers(1, w)))
    units = data.draw(st.integers(1, 4))
    starts = [
        [data.draw(st.integers(0, h - size[0])), data.draw(st.integers(0, w - size[1]))] for _ in range(units)
    ]
    images = torch.tensor([data.draw(st.integers(0, count - 1)) for _ in range(units)])
    window = Window(torch.tensor(starts), size, layout, images)
    signs = Signs(mask, layout)
    assert signs.packed.numel() == count * c * h * -(-w // 8)
    assert torch.equal(signs.cut(window), window.cut(mask))
