"""Networks with decoders: a unit is projected through the decoder and the encoder to the image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import decoders, passes
from helpers.chains import positive
from helpers.oracles import Autograd, convolution_by_hand, difference, hull, seen_pixels
from torch import Tensor, nn

from deconvviz.engine.units import Unit

pytestmark = pytest.mark.slow

EXACT = 1e-11
CONSTANT = (nn.Tanh, nn.Sigmoid)  # they receive no signal


@lru_cache(maxsize=1)
def _recorded(name: str) -> tuple[nn.Module, passes.Pass, Autograd]:
    network, images = decoders.build(name), decoders.images(name)
    return network, passes.run(network, images), Autograd(network, images)


def _layers(network: nn.Module, ours: passes.Pass) -> list[str]:
    return [name for name in ours.outputs if not isinstance(network.get_submodule(name), CONSTANT)]


@pytest.mark.parametrize("name", decoders.DECODERS)
def test_projections_of_units_of_every_layer_equal_autograd(name: str) -> None:
    network, ours, theirs = _recorded(name)
    generator = torch.Generator().manual_seed(2)
    alive, count = 0, 0
    for layer, activations in ours.outputs.items():
        assert torch.equal(activations, theirs.outputs[layer].detach())
        units = passes.some_units(activations, generator)
        pixels, _ = ours.units(layer, units)
        for one, unit in zip(pixels, units, strict=True):
            position = () if unit.y is None or unit.x is None else (unit.y, unit.x)
            want = theirs.unit(layer, unit.image, unit.channel, *position)
            assert difference(one, want) <= EXACT, (layer, unit)
            alive += bool(want.any())
        if isinstance(network.get_submodule(layer), CONSTANT):
            assert not pixels.any()
        else:
            count += len(units)
    assert alive > 0.5 * count  # some units depend only on padding


@pytest.mark.parametrize("name", decoders.DECODERS)
def test_projections_of_any_signal_at_every_layer_equal_autograd(name: str) -> None:
    _, ours, theirs = _recorded(name)
    for layer, activations in ours.outputs.items():
        generator = torch.Generator().manual_seed(5)
        signal = torch.randn(activations.shape, generator=generator, dtype=torch.float64)
        assert difference(ours.signals(layer, signal, [0, 1]), theirs.project(layer, signal)) <= EXACT, layer


@pytest.mark.slow
@pytest.mark.parametrize("name", decoders.DECODERS)
def test_boxes_of_every_layer_are_the_pixels_that_can_change_a_unit(name: str) -> None:
    network, shape = positive(decoders.build(name)), decoders.DECODERS[name][1]
    ours = passes.run(network, decoders.images(name)[:1])
    generator = torch.Generator().manual_seed(6)
    for layer in _layers(network, ours):
        activations = ours.outputs[layer]
        units = passes.some_units(activations, generator)
        _, boxes = ours.units(layer, units)
        for unit, box in zip(units, boxes, strict=True):
            position = () if unit.y is None or unit.x is None else (unit.y, unit.x)
            want = hull(seen_pixels(network, layer, shape, (unit.channel, *position)))
            if activations.dim() == 2 and want is not None:  # no position: the box is the whole image
                assert box == (0, 0, *shape[:0:-1])
            else:
                assert box == want or (want is None and _area(box) == 0), (layer, unit)


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def test_generator_is_projected_to_its_latent_code() -> None:
    _, ours, theirs = _recorded("dcgan")
    assert ours.outputs["10"].shape == (2, 3, 32, 32)  # below the tanh
    pixels, boxes = ours.units("9", [Unit(0, 1, 9, 20)])
    assert pixels.shape == (1, 100, 1, 1) and boxes == [(0, 0, 1, 1)]
    assert bool(pixels.any())
    assert difference(pixels[0], theirs.unit("9", 0, 1, 9, 20)) <= EXACT


def test_bilinear_weights_of_the_helper_interpolate() -> None:
    """Away from the border, FCN's upsampling equals the interpolation of PyTorch."""
    layer = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1, bias=False).double()
    decoders.bilinear_(layer)
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    want = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


def _check_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Check projections and boxes of a layer between two convolutions."""
    torch.manual_seed(1)
    above = layer.double()(torch.zeros(1, *shape, dtype=torch.float64)).shape[1]
    network = nn.Sequential(
        nn.Conv2d(shape[0], shape[0], (3, 5), padding=(1, 2)), layer, nn.Conv2d(above, 4, 1)
    )
    network.double().eval()
    images = torch.randn(2, *shape, dtype=torch.float64)
    ours, theirs = passes.run(network, images), Autograd(network, images)
    units = passes.some_units(ours.outputs["2"], torch.Generator().manual_seed(2))
    pixels, _ = ours.units("2", units)
    for one, unit in zip(pixels, units, strict=True):
        want = theirs.unit("2", unit.image, unit.channel, unit.y, unit.x)  # type: ignore[arg-type]
        assert difference(one, want) <= EXACT, unit
    signal = torch.randn_like(ours.outputs["2"])
    assert difference(ours.signals("2", signal, [0, 1]), theirs.project("2", signal)) <= EXACT

    ours = passes.run(positive(network), images[:1])
    units = passes.some_units(ours.outputs["2"], torch.Generator().manual_seed(3))
    _, boxes = ours.units("2", units)
    for unit, box in zip(units, boxes, strict=True):
        place = (unit.channel, unit.y, unit.x)
        want = hull(seen_pixels(network, "2", shape, place))  # type: ignore[arg-type]
        assert box == want or (want is None and _area(box) == 0), unit


TRANSPOSED = [
    {"kernel_size": 1},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": (2, 5), "stride": (3, 2), "padding": (0, 2), "output_padding": (1, 0)},
    {"kernel_size": 3, "stride": 3, "output_padding": 2},
    {"kernel_size": 1, "stride": 2},  # every second row and column depends only on the bias
    {"kernel_size": 3, "dilation": 2, "padding": 2},
    {"kernel_size": (3, 2), "stride": 2, "dilation": (2, 3), "padding": (1, 2), "output_padding": 1},
    {"kernel_size": 3, "padding": 3},
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_projections_of_transposed_convolutions_equal_autograd(options: dict[str, Any], groups: int) -> None:
    _check_layer(nn.ConvTranspose2d(4, 6, **options, groups=groups), (4, 7, 9))


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_projection_of_a_transposed_convolution_is_its_adjoint(options: dict[str, Any]) -> None:
    """The layer itself is computed with loops, so that the test does not depend on PyTorch."""
    layer = nn.ConvTranspose2d(2, 3, **options).double()
    image = torch.randn(1, 2, 8, 7, dtype=torch.float64)
    ours = passes.run(nn.Sequential(layer), image)
    signal = torch.randn_like(ours.outputs["0"])
    [below] = ours.signals("0", signal, [0])
    geometry = (layer.stride, layer.padding, layer.dilation)
    weight = layer.weight.detach().numpy()
    for _ in range(5):  # <projection(signal), x> = <signal, layer(x) without bias> for any x
        anything = torch.randn_like(image)
        up = convolution_by_hand(anything[0].numpy(), weight, signal.shape[2:], *geometry)
        np.testing.assert_allclose((below * anything[0]).sum(), (signal[0].numpy() * up).sum(), rtol=1e-12)


SIZES = [(7, 9), (5, 4)]
UPSAMPLED = [
    *(
        {"mode": mode, "scale_factor": factor}
        for mode in ("nearest", "nearest-exact")
        for factor in (2, 3, 1.5, (2.7, 0.6))
    ),
    *({"mode": "nearest", "size": size} for size in ((8, 13), (3, 20))),
    *(
        {"mode": mode, "align_corners": align, **how}
        for mode in ("bilinear", "bicubic")
        for align in (False, True)
        for how in ({"scale_factor": 2}, {"scale_factor": (3, 1.7)}, {"size": (8, 13)}, {"size": (3, 17)})
    ),
    {"mode": "bilinear", "scale_factor": 1.6, "recompute_scale_factor": True},
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", UPSAMPLED, ids=str)
def test_projections_of_upsampling_equal_autograd(options: dict[str, Any], size: tuple[int, int]) -> None:
    _check_layer(nn.Upsample(**options), (3, *size))


PADS = [
    *(nn.ReflectionPad2d(n) for n in (1, (2, 0, 3, 1))),
    *(nn.ReplicationPad2d(n) for n in (1, (2, 0, 5, 1))),
    *(nn.ConstantPad2d(n, value) for n, value in ((2, 0.0), ((1, 0, 3, 2), 5.0), ((-1, 2, 1, -2), 1.0))),
    nn.ZeroPad2d(-1),
    nn.ReflectionPad2d((-1, 2, 1, -2)),
    nn.ReplicationPad2d((-2, 1, 1, -1)),
    nn.CircularPad2d(1),
    nn.CircularPad2d((2, 1, 0, 3)),
    nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
    nn.Conv2d(3, 3, 3, padding=2, padding_mode="reflect"),
    nn.Conv2d(3, 3, (3, 2), padding="same", padding_mode="replicate"),
]


@pytest.mark.parametrize("layer", PADS, ids=str)
def test_projections_of_padding_and_cropping_equal_autograd(layer: nn.Module) -> None:
    _check_layer(layer, (3, 7, 6))


REARRANGED = [
    (nn.PixelShuffle(2), (8, 3, 4)),
    (nn.PixelShuffle(3), (9, 2, 5)),
    (nn.PixelUnshuffle(2), (2, 6, 8)),
    (nn.PixelUnshuffle(3), (1, 9, 6)),
    (nn.ChannelShuffle(2), (6, 5, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), REARRANGED, ids=str)
def test_projections_of_pixel_and_channel_shuffles_equal_autograd(
    layer: nn.Module, shape: tuple[int, int, int]
) -> None:
    _check_layer(layer, shape)


class PoolAndBack(nn.Module):
    """A max-pool, a convolution, and an unpool with the switches of the max-pool."""

    def __init__(self, size: Any, **options: Any) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(size, return_indices=True, **options)
        self.between = nn.Conv2d(3, 3, 1)
        self.back = nn.MaxUnpool2d(size, options.get("stride"), options.get("padding", 0))

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = self.pool(x)
        return self.back(self.between(pooled), places, output_size=x.shape)


@pytest.mark.parametrize(
    "layer",
    [PoolAndBack(2), PoolAndBack((2, 3)), PoolAndBack(3, stride=3), PoolAndBack(3, stride=2, padding=1)],
    ids=lambda layer: str(layer.pool),
)
def test_projections_of_max_pools_with_unpools_equal_autograd(layer: nn.Module) -> None:
    """Where overlapping windows share a switch, the unpool and the projection keep the last value."""
    _check_layer(layer, (3, 8, 9))
