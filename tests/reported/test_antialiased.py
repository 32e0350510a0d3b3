"""Antialiased interpolation, and rules that check their matrix against the recorded output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import (
    EXACT,
    Calls,
    changing,
    check_boxes,
    check_pixels,
    noise,
    positive,
    projected,
    seeded,
    wrapped,
)
from helpers.oracles import Autograd, difference
from torch import Tensor, nn
from torchvision.transforms import v2

import deconvviz as dv
from deconvviz.engine.index_maps import SlidingWindow
from deconvviz.engine.rules import pooling, resampling
from deconvviz.errors import RefusedOp

MODES = ["bilinear", "bicubic"]


def resized(**how: Any) -> Calls:
    return Calls(lambda x: F.interpolate(x, antialias=True, align_corners=False, **how))


def weights(function: Callable[[Tensor], Tensor], height: int, width: int) -> Tensor:
    """Return the weight of each input position in each output position, measured: (h, w, H, W)."""
    basis = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    outputs = function(basis)[:, 0]  # (H * W, h, w)
    return outputs.permute(1, 2, 0).reshape(*outputs.shape[1:], height, width)


def test_resize_of_torchvision_projects_into_the_receptive_field() -> None:
    network = seeded(lambda: nn.Sequential(v2.Resize((12, 12)), nn.Conv2d(3, 4, 3)))
    images = noise(2, 3, 24, 24)
    found = projected(network, images, "1", [(2, 8, 8)])
    assert found.boxes == ((15, 15, 23, 23),) * 2
    assert changing(positive(network), (3, 24, 24), "1", (2, 8, 8)) == (15, 15, 23, 23)
    network = seeded(lambda: nn.Sequential(v2.Resize((12, 12)), nn.Conv2d(3, 4, 3)))
    check_pixels(network, images, "1", Autograd(network, images))


def _copy(channels: int) -> nn.Module:
    """Return an identity convolution. A network without weights would have no dtype of its own."""
    layer = nn.Conv2d(channels, channels, 1, bias=False).double().eval()
    nn.init.dirac_(layer.weight)
    return layer


SIZES: list[dict[str, Any]] = [
    {"size": (5, 7)},
    {"size": (3, 13)},
    {"size": (20, 17)},
    {"size": (11, 4)},
    {"size": (2, 2)},
    {"scale_factor": 0.5},
    {"scale_factor": (2.0, 0.7)},
    {"scale_factor": 0.6, "recompute_scale_factor": True},
    {"scale_factor": (2.0, 1.08)},  # the number of columns stays: PyTorch does not change them
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", SIZES, ids=str)
def test_projection_of_a_resized_map_is_a_row_of_its_matrix(how: dict[str, Any], mode: str) -> None:
    layer = resized(mode=mode, **how)
    images = noise(1, 1, 11, 9)
    matrix = weights(layer, 11, 9)
    activations = torch.einsum("hwyx,bcyx->bchw", matrix, images)
    assert difference(layer(images), activations) <= EXACT
    h, w = activations.shape[2:]
    places = [(0, 0, 0), (0, h - 1, w - 1), (0, h // 2, w // 2), (0, 0, w - 1)]
    network = nn.Sequential(_copy(1), layer)
    found = projected(network, images, "1", places)
    for pixels, (_, y, x) in zip(found.pixels, places, strict=True):
        want = matrix[y, x] * activations[0, 0, y, x]
        assert want.any()
        assert difference(pixels[0], want) <= EXACT, (y, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", SIZES, ids=str)
def test_projections_through_antialiased_interpolation_equal_autograd(how: dict[str, Any], mode: str) -> None:
    def build() -> nn.Module:
        between = [nn.ReLU(), resized(mode=mode, **how), nn.ReLU()]
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *between, nn.Conv2d(4, 5, 2))

    network, images = seeded(build), noise(2, 3, 11, 9)
    found = check_pixels(network, images, "4", Autograd(network, images))
    assert not found.coverage.approximate and not found.coverage.unsupported


@pytest.mark.parametrize(
    "how",
    [{"size": (5, 7)}, {"size": (16, 21)}, {"scale_factor": 0.5}, {"scale_factor": 0.4}],
    ids=str,
)
def test_boxes_through_antialiased_interpolation_equal_the_measured_ones(how: dict[str, Any]) -> None:
    def build() -> nn.Module:
        layers = [nn.Conv2d(1, 2, 3), resized(mode="bilinear", **how), nn.ReLU(), nn.Conv2d(2, 2, 2)]
        return nn.Sequential(*layers)

    network = positive(seeded(build))
    h, w = network(noise(1, 1, 16, 14)).shape[2:]
    check_boxes(network, (1, 16, 14), "3", [(0, 0, 0), (1, h - 1, w - 1), (0, h // 2, w // 2)])


def test_projections_through_two_resizes_and_a_pool_equal_autograd() -> None:
    def build() -> nn.Module:
        half = v2.Resize((8, 8), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        front = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), half, nn.MaxPool2d(2)]
        return nn.Sequential(*front, nn.Conv2d(4, 4, 1), resized(mode="bilinear", size=(3, 2)))

    network, images = seeded(build), noise(2, 3, 16, 16)
    check_pixels(network, images, "5", Autograd(network, images))


@pytest.mark.parametrize("mode", MODES)
def test_resize_to_one_column_is_projected_correctly_or_unsupported(mode: str) -> None:
    """PyTorch's kernel returns other, wrong values for maps that are one position wide."""
    layer = resized(mode=mode, size=(4, 1))
    images = noise(1, 1, 9, 7)
    matrix = weights(layer, 9, 7)
    assert difference(layer(images)[0, 0], torch.einsum("hwyx,yx->hw", matrix, images[0, 0])) <= EXACT
    network = nn.Sequential(_copy(1), layer)
    recording = wrapped(network, images).record(images, "1")
    try:
        found = recording.project("1", dv.Unit(0, 0, 3, 0))
    except RefusedOp as error:
        assert "does not reproduce" in str(error)
    else:
        assert difference(found.pixels[0, 0], matrix[3, 0] * layer(images)[0, 0, 3, 0]) <= EXACT


def _shifted(matrix: Tensor) -> Tensor:
    """Return a matrix with rows moved by one position. The sum of each row is still correct."""
    return matrix.roll(1, 0)


def _scaled(matrix: Tensor) -> Tensor:
    return matrix * 1.001


def _break(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Callable[[Any], Any]) -> None:
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: wrong(real(*args, **kwargs)))


def _check_unsupported(layer: nn.Module, images: Tensor, message: str = "does not reproduce") -> None:
    network = nn.Sequential(_copy(images.shape[1]), layer)
    recording = wrapped(network, images).record(images, "1")
    with pytest.raises(RefusedOp, match=message):
        recording.project("1", dv.Unit(0, 0))


INTERPOLATIONS = {
    "nearest": nn.Upsample(scale_factor=2, mode="nearest"),
    "bilinear": nn.Upsample(size=(4, 5), mode="bilinear"),
    "bicubic, aligned": nn.Upsample(size=(9, 11), mode="bicubic", align_corners=True),
    "antialiased": resized(mode="bilinear", size=(3, 4)),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_with_shifted_weights_is_unsupported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, resampling, "_interpolation", _shifted)
    _check_unsupported(INTERPOLATIONS[name], noise(2, 3, 7, 6))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_with_too_large_weights_is_unsupported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, resampling, "_interpolation", _scaled)
    _check_unsupported(INTERPOLATIONS[name], noise(2, 3, 7, 6), "does not reproduce|do not add up to 1")


POOLS: dict[str, tuple[nn.Module, Any, str, Callable[[Tensor], Tensor]]] = {
    "shifted windows": (nn.AvgPool2d(2), SlidingWindow, "visible_inputs", _shifted),
    "shifted windows with padding": (nn.AvgPool2d(3, 2, 1), SlidingWindow, "visible_inputs", _shifted),
    "too large divisor": (nn.AvgPool2d(3, 2, 1), pooling, "_counted", _scaled),
    "divisor without the border": (nn.AvgPool2d(3, 2, 1), pooling, "_counted", lambda n: n.clamp(max=2)),
    "adaptive with shifted windows": (nn.AdaptiveAvgPool2d((3, 2)), pooling, "_adaptive", _shifted),
    "adaptive with too large weights": (nn.AdaptiveAvgPool2d((3, 2)), pooling, "_adaptive", _scaled),
}


@pytest.mark.parametrize("name", POOLS)
def test_average_pool_with_a_wrong_matrix_is_unsupported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, owner, function, wrong = POOLS[name]
    _break(monkeypatch, owner, function, wrong)
    _check_unsupported(layer, noise(2, 3, 7, 6))


@pytest.mark.parametrize("layer", [nn.ReflectionPad2d((2, 0, 1, 3)), nn.ReplicationPad2d(2)], ids=str)
def test_border_with_a_wrong_matrix_is_unsupported(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, resampling.Border, "_matrix", _shifted)
    _check_unsupported(layer, noise(2, 3, 7, 6))


class PoolAndBack(nn.Module):
    """Where two windows of the pool share a maximum, the unpool keeps one of two values."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(3, 2, 1, return_indices=True), nn.MaxUnpool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = self.pool(x)
        return self.back(pooled + torch.arange(pooled.shape[-1]), places, output_size=x.shape)


def test_unpool_with_a_wrong_record_of_kept_values_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(2, 3, 8, 9)
    network = nn.Sequential(_copy(3), PoolAndBack()).eval()
    check_pixels(network, images, "1", Autograd(network, images))
    _break(monkeypatch, pooling.MaxUnpool, "_arrived", torch.ones_like)
    _check_unsupported(PoolAndBack(), images)


def _attention(x: Tensor, dropout: float) -> Tensor:
    values = x.flatten(2).unflatten(1, (2, -1)).transpose(2, 3)  # (B, 2 heads, H * W, C / 2)
    tokens = values.detach()
    return F.scaled_dot_product_attention(tokens, 2 * tokens, values, dropout_p=dropout).mean(2).flatten(1)


def test_attention_with_dropout_in_forward_is_projected_correctly_or_unsupported() -> None:
    images = noise(1, 4, 5, 6)
    network = nn.Sequential(_copy(4), Calls(lambda x: _attention(x, 0.5)))
    net = wrapped(network, images)
    assert "1" in net.layers
    torch.manual_seed(1)
    recording = net.record(images, "1")
    torch.manual_seed(1)
    leaf = images.clone().requires_grad_(True)
    activations = _attention(leaf, 0.5)
    assert torch.equal(recording.activations("1"), activations.detach())
    (want,) = torch.autograd.grad(activations[0, 2] * activations[0, 2].detach(), leaf)
    assert want.any()
    try:
        found = recording.project("1", dv.Unit(0, 2))
    except RefusedOp as error:
        assert "does not reproduce" in str(error)
    else:
        assert difference(found.pixels, want) <= EXACT


def test_projections_through_attention_without_dropout_equal_autograd() -> None:
    network = nn.Sequential(_copy(4), Calls(lambda x: _attention(x, 0.0))).eval()
    images = noise(2, 4, 5, 6)
    check_pixels(network, images, "1", Autograd(network, images))


LAYERS = [
    nn.AvgPool2d(3, 2, 1),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True),
    nn.AdaptiveAvgPool2d((5, 3)),
    nn.AdaptiveAvgPool2d(1),
    nn.Upsample(scale_factor=1.7, mode="bilinear"),
    nn.Upsample(size=(5, 30), mode="bicubic"),
    nn.ReflectionPad2d(2),
    nn.ReplicationPad2d((1, 2, 3, 0)),
]
ROUNDED = [
    *((layer, dtype) for layer in LAYERS for dtype in (torch.float32, torch.bfloat16, torch.float16)),
    (resized(mode="bicubic", size=(6, 9)), torch.float32),  # PyTorch has no kernel for the 16-bit types
]


@pytest.mark.parametrize(("layer", "dtype"), ROUNDED, ids=str)
def test_rounding_errors_do_not_make_a_layer_unsupported(layer: nn.Module, dtype: torch.dtype) -> None:
    """The images have small differences between large values (about 1000)."""
    images = (1000 + noise(2, 3, 17, 16)).to(dtype)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), layer).to(dtype).eval()
    found = projected(network, images, "1", [(0, 0, 0)])
    assert found.pixels.any()
    blank = projected(network, torch.zeros_like(images), "1", [(0, 0, 0)])
    assert not blank.coverage.unsupported
