"""Projections at every layer of five networks equal those of modified backpropagation and of captum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
import torchvision
from helpers import passes
from helpers.oracles import Autograd, captum_unit, difference
from torch import Tensor, nn

from deconvviz.engine.units import Unit
from deconvviz.models.minivgg import minivgg

KINDS = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Linear, nn.BatchNorm2d)
SIZES = {
    "vgg19": (48, 64),
    "alexnet": (95, 79),
    "vgg11_bn": (64, 72),
    "squeezenet1_0": (81, 95),
    "minivgg": (96, 96),
}
EXACT = {torch.float64: 1e-10, torch.float32: 1e-4}
QUICK = ("minivgg",)
NIGHTLY = {"vgg19": (torch.float32,), "vgg11_bn": EXACT}
"""Types in which networks are tested only at night."""


def with_random_weights(network: nn.Module) -> nn.Module:
    """Set random weights for which deep maps are not zero, and random batch statistics."""
    dice = RandomNumbers()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                bound = (6 / part.weight[0].numel()) ** 0.5
                dice.fill(part.weight, -bound, bound)
                dice.fill(part.bias, -0.2, 0.2)
            if isinstance(part, nn.BatchNorm2d):
                dice.fill(part.weight, -1.5, 1.5)
                dice.fill(part.bias, -0.5, 0.5)
                dice.fill(part.running_mean, -0.5, 0.5)
                dice.fill(part.running_var, 0.3, 3)
    return network.eval()


class RandomNumbers:
    """A million random numbers, reused from different starts, because drawing all weights would be slow."""

    def __init__(self) -> None:
        self.numbers = torch.rand(1_000_003, generator=torch.Generator().manual_seed(5))
        self.turn = 0

    def fill(self, tensor: Tensor | None, low: float, high: float) -> None:
        assert tensor is not None
        self.turn += 7919
        flat, numbers = tensor.view(-1), self.numbers.roll(self.turn) * (high - low) + low
        for first in range(0, len(flat), len(numbers)):
            part = flat[first : first + len(numbers)]
            part.copy_(numbers[: len(part)])


def build(name: str, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):  # weights are not initialised here
        if name == "minivgg":
            network: nn.Module = minivgg()
        else:
            builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
            network = builder(num_classes=11, **({"init_weights": False} if name.startswith("vgg") else {}))
    return with_random_weights(network.to(dtype).to_empty(device="cpu"))


@dataclass
class Compared:
    """A network with its recordings by the engine and by the autograd oracle."""

    network: nn.Module
    images: Tensor
    ours: passes.Pass
    theirs: Autograd
    layers: list[str]


@lru_cache(maxsize=1)  # a VGG-19 in float64 takes a gigabyte
def compared(name: str, dtype: torch.dtype) -> Compared:
    network = build(name, dtype)
    images = torch.randn(2, 3, *SIZES[name], generator=torch.Generator().manual_seed(1)).to(dtype)
    layers = [dotted for dotted, part in network.named_modules() if isinstance(part, KINDS)]
    return Compared(network, images, passes.run(network, images), Autograd(network, images), layers)


pytestmark = pytest.mark.usefixtures("spare_threads")


def _marks(name: str, dtype: torch.dtype) -> list[pytest.MarkDecorator]:
    if dtype in NIGHTLY.get(name, ()):
        return [pytest.mark.nightly]
    return [] if name in QUICK else [pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, dtype), id=f"{name}-{dtype}", marks=_marks(name, dtype))
        for dtype in EXACT
        for name in SIZES
    ],
)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Compared, float]]:
    name, dtype = request.param
    yield compared(name, dtype), EXACT[dtype]


def test_projections_of_units_of_every_layer_equal_autograd(both: tuple[Compared, float]) -> None:
    these, exact = both
    generator = torch.Generator().manual_seed(2)
    assert set(these.layers) <= set(these.ours.values)
    alive = 0
    for layer in these.layers:
        activations = these.ours.outputs[layer]
        assert torch.equal(activations, these.theirs.outputs[layer].detach())
        units = passes.some_units(activations, generator)
        pixels, _ = these.ours.units(layer, units)
        for group in passes.groups_by_image(units, len(activations)):
            signal = torch.zeros_like(activations)
            for unit in (units[k] for k in group):
                place = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
                signal[place] = activations[place]
            want = these.theirs.project(layer, signal)
            for k in group:
                assert difference(pixels[k], want[units[k].image]) <= exact, (layer, units[k])
                alive += bool(want[units[k].image].any())
    assert alive > 4 * len(these.layers)  # most projections are not zero


def test_projections_of_whole_channels_and_random_signals_equal_autograd(
    both: tuple[Compared, float],
) -> None:
    these, exact = both
    for layer in these.layers[3::7]:
        activations = these.ours.outputs[layer]
        best = int(activations.transpose(0, 1).flatten(1).amax(1).argmax())
        pixels, _ = these.ours.units(layer, [Unit(b, best) for b in range(len(activations))])
        signal = torch.zeros_like(activations)
        signal[:, best] = activations[:, best]
        assert difference(pixels, these.theirs.project(layer, signal)) <= exact, layer

        generator = torch.Generator().manual_seed(3)
        anything = torch.randn(activations.shape, generator=generator, dtype=torch.float64).to(activations)
        pixels = these.ours.signals(layer, anything.flip(0), [1, 0])
        assert difference(pixels, these.theirs.project(layer, anything).flip(0)) <= exact, layer


def test_projections_of_class_scores_equal_autograd(both: tuple[Compared, float]) -> None:
    these, exact = both
    scores = these.ours.outputs[""]
    assert scores.shape == (2, 12 if "MiniVGG" in repr(these.network) else 11)
    units = [Unit(b, c) for b in range(2) for c in (0, 7)]
    pixels, boxes = these.ours.units("", units)
    for c, (first, second) in ((0, (0, 2)), (7, (1, 3))):
        signal = torch.zeros_like(scores)
        signal[:, c] = scores[:, c]
        assert difference(pixels[[first, second]], these.theirs.project("", signal)) <= exact
    h, w = these.images.shape[2:]
    assert all(x1 <= w and y1 <= h for _, _, x1, y1 in boxes)


CAPTUM = [
    ("minivgg", "features.5", (20, 31)),
    ("minivgg", "features.17", (0, 7)),
    ("vgg19", "features.2", (9, 17)),
    ("vgg19", "features.14", (3, 0)),
    ("vgg19", "features.28", (2, 3)),
    ("vgg19", "classifier.3", ()),
    ("alexnet", "features.3", (4, 5)),
    ("alexnet", "features.10", (0, 3)),
    ("alexnet", "features.12", (1, 0)),
    ("alexnet", "classifier.6", ()),
]


@pytest.mark.parametrize(
    ("name", "layer", "position"),
    [pytest.param(*case, marks=[] if case[0] in QUICK else pytest.mark.slow) for case in CAPTUM],
)
def test_projection_equals_that_of_captum(name: str, layer: str, position: tuple[int, ...]) -> None:
    pytest.importorskip("captum")
    these = compared(name, torch.float64)
    channel = int(these.ours.outputs[layer][(0, slice(None), *position)].argmax())
    place = (channel, *position)
    ours, _ = these.ours.units(layer, [Unit(0, *place)])
    theirs = captum_unit(these.network, layer, these.images[:1], place)
    assert bool(theirs.any())
    assert difference(ours, theirs) <= 1e-10


def test_projection_is_homogeneous_and_zero_for_a_zero_signal() -> None:
    these = compared("minivgg", torch.float64)
    layer = "features.12"
    activations = these.ours.outputs[layer]
    once = these.ours.signals(layer, activations, [0, 1])
    assert bool(once.any())
    assert torch.equal(these.ours.signals(layer, 2 * activations, [0, 1]), 2 * once)
    assert torch.equal(these.ours.signals(layer, 0 * activations, [0, 1]), torch.zeros_like(once))
