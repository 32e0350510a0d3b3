"""Antialiased interpolation, and every rule that learns or rebuilds what a call did: against what it gave."""

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
    """(h, w, H, W): the weight of each input position in each of the output, measured on whole maps."""
    basis = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    given = function(basis)[:, 0]  # (H * W, h, w)
    return given.permute(1, 2, 0).reshape(*given.shape[1:], height, width)


def test_resize_of_torchvision_projects_to_where_the_unit_looks() -> None:
    network = seeded(lambda: nn.Sequential(v2.Resize((12, 12)), nn.Conv2d(3, 4, 3)))
    pictures = noise(2, 3, 24, 24)
    found = projected(network, pictures, "1", [(2, 8, 8)])
    assert found.boxes == ((15, 15, 23, 23),) * 2
    assert changing(positive(network), (3, 24, 24), "1", (2, 8, 8)) == (15, 15, 23, 23)
    network = seeded(lambda: nn.Sequential(v2.Resize((12, 12)), nn.Conv2d(3, 4, 3)))
    check_pixels(network, pictures, "1", Autograd(network, pictures))


def _copy(channels: int) -> nn.Module:
    """A convolution that changes nothing; without a weight a network has no type of its own."""
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
    {"scale_factor": (2.0, 1.08)},  # as many columns as before: PyTorch leaves them as they are
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", SIZES, ids=str)
def test_a_unit_of_a_resized_map_gets_its_row_of_the_matrix(how: dict[str, Any], mode: str) -> None:
    layer = resized(mode=mode, **how)
    pictures = noise(1, 1, 11, 9)
    matrix = weights(layer, 11, 9)
    said = torch.einsum("hwyx,bcyx->bchw", matrix, pictures)
    assert difference(layer(pictures), said) <= EXACT
    h, w = said.shape[2:]
    places = [(0, 0, 0), (0, h - 1, w - 1), (0, h // 2, w // 2), (0, 0, w - 1)]
    network = nn.Sequential(_copy(1), layer)
    found = projected(network, pictures, "1", places)
    for pixels, (_, y, x) in zip(found.pixels, places, strict=True):
        want = matrix[y, x] * said[0, 0, y, x]
        assert want.any()
        assert difference(pixels[0], want) <= EXACT, (y, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", SIZES, ids=str)
def test_interpolation_between_convolutions_is_projected_as_the_oracle_does(
    how: dict[str, Any], mode: str
) -> None:
    def build() -> nn.Module:
        between = [nn.ReLU(), resized(mode=mode, **how), nn.ReLU()]
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *between, nn.Conv2d(4, 5, 2))

    network, pictures = seeded(build), noise(2, 3, 11, 9)
    found = check_pixels(network, pictures, "4", Autograd(network, pictures))
    assert not found.coverage.by_analogy and not found.coverage.refused


@pytest.mark.parametrize(
    "how",
    [{"size": (5, 7)}, {"size": (16, 21)}, {"scale_factor": 0.5}, {"scale_factor": 0.4}],
    ids=str,
)
def test_boxes_through_antialiased_interpolation_are_the_pixels_that_matter(how: dict[str, Any]) -> None:
    def build() -> nn.Module:
        layers = [nn.Conv2d(1, 2, 3), resized(mode="bilinear", **how), nn.ReLU(), nn.Conv2d(2, 2, 2)]
        return nn.Sequential(*layers)

    network = positive(seeded(build))
    h, w = network(noise(1, 1, 16, 14)).shape[2:]
    check_boxes(network, (1, 16, 14), "3", [(0, 0, 0), (1, h - 1, w - 1), (0, h // 2, w // 2)])


def test_halving_twice_between_pools_is_projected_as_the_oracle_does() -> None:
    def build() -> nn.Module:
        half = v2.Resize((8, 8), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        front = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), half, nn.MaxPool2d(2)]
        return nn.Sequential(*front, nn.Conv2d(4, 4, 1), resized(mode="bilinear", size=(3, 2)))

    network, pictures = seeded(build), noise(2, 3, 16, 16)
    check_pixels(network, pictures, "5", Autograd(network, pictures))


@pytest.mark.parametrize("mode", MODES)
def test_a_map_that_becomes_one_column_is_projected_as_it_was_or_refused(mode: str) -> None:
    """PyTorch's kernel gives other numbers for maps one position wide, here wrong ones."""
    layer = resized(mode=mode, size=(4, 1))
    pictures = noise(1, 1, 9, 7)
    matrix = weights(layer, 9, 7)
    assert difference(layer(pictures)[0, 0], torch.einsum("hwyx,yx->hw", matrix, pictures[0, 0])) <= EXACT
    network = nn.Sequential(_copy(1), layer)
    recording = wrapped(network, pictures).record(pictures, "1")
    try:
        found = recording.project("1", dv.Unit(0, 0, 3, 0))
    except RefusedOp as refusal:
        assert "does not reproduce" in str(refusal)
    else:
        assert difference(found.pixels[0, 0], matrix[3, 0] * layer(pictures)[0, 0, 3, 0]) <= EXACT


def _off(matrix: Tensor) -> Tensor:
    """Each row is that of the next position: it still adds up to what it should."""
    return matrix.roll(1, 0)


def _scaled(matrix: Tensor) -> Tensor:
    return matrix * 1.001


def _falsify(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Callable[[Any], Any]) -> None:
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: wrong(right(*args, **kwargs)))


def _check_refused(layer: nn.Module, pictures: Tensor, message: str = "does not reproduce") -> None:
    network = nn.Sequential(_copy(pictures.shape[1]), layer)
    recording = wrapped(network, pictures).record(pictures, "1")
    with pytest.raises(RefusedOp, match=message):
        recording.project("1", dv.Unit(0, 0))


INTERPOLATIONS = {
    "nearest": nn.Upsample(scale_factor=2, mode="nearest"),
    "bilinear": nn.Upsample(size=(4, 5), mode="bilinear"),
    "bicubic, aligned": nn.Upsample(size=(9, 11), mode="bicubic", align_corners=True),
    "antialiased": resized(mode="bilinear", size=(3, 4)),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_with_the_weights_of_other_positions_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _falsify(monkeypatch, resampling, "_interpolation", _off)
    _check_refused(INTERPOLATIONS[name], noise(2, 3, 7, 6))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_with_weights_that_are_too_large_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _falsify(monkeypatch, resampling, "_interpolation", _scaled)
    _check_refused(INTERPOLATIONS[name], noise(2, 3, 7, 6), "does not reproduce|do not add up to 1")


POOLS: dict[str, tuple[nn.Module, Any, str, Callable[[Tensor], Tensor]]] = {
    "windows moved": (nn.AvgPool2d(2), SlidingWindow, "visible_inputs", _off),
    "windows moved, padded": (nn.AvgPool2d(3, 2, 1), SlidingWindow, "visible_inputs", _off),
    "counted too high": (nn.AvgPool2d(3, 2, 1), pooling, "_counted", _scaled),
    "counted as without a border": (nn.AvgPool2d(3, 2, 1), pooling, "_counted", lambda n: n.clamp(max=2)),
    "adaptive, windows moved": (nn.AdaptiveAvgPool2d((3, 2)), pooling, "_adaptive", _off),
    "adaptive, too large": (nn.AdaptiveAvgPool2d((3, 2)), pooling, "_adaptive", _scaled),
}


@pytest.mark.parametrize("name", POOLS)
def test_an_average_pool_with_a_wrong_matrix_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, owner, function, wrong = POOLS[name]
    _falsify(monkeypatch, owner, function, wrong)
    _check_refused(layer, noise(2, 3, 7, 6))


@pytest.mark.parametrize("layer", [nn.ReflectionPad2d((2, 0, 1, 3)), nn.ReplicationPad2d(2)], ids=str)
def test_a_border_with_a_wrong_matrix_is_refused(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    _falsify(monkeypatch, resampling.Border, "_matrix", _off)
    _check_refused(layer, noise(2, 3, 7, 6))


class PoolAndBack(nn.Module):
    """Where two windows of the pool share a maximum, the unpool keeps one of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(3, 2, 1, return_indices=True), nn.MaxUnpool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = self.pool(x)
        return self.back(pooled + torch.arange(pooled.shape[-1]), places, output_size=x.shape)


def test_an_unpool_with_a_wrong_note_of_what_arrived_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = noise(2, 3, 8, 9)
    network = nn.Sequential(_copy(3), PoolAndBack()).eval()
    check_pixels(network, pictures, "1", Autograd(network, pictures))
    _falsify(monkeypatch, pooling.MaxUnpool, "_arrived", torch.ones_like)
    _check_refused(PoolAndBack(), pictures)


def _attention(x: Tensor, dropout: float) -> Tensor:
    values = x.flatten(2).unflatten(1, (2, -1)).transpose(2, 3)  # (B, 2 heads, H * W, C / 2)
    tokens = values.detach()
    return F.scaled_dot_product_attention(tokens, 2 * tokens, values, dropout_p=dropout).mean(2).flatten(1)


def test_attention_with_dropout_written_into_forward_is_projected_as_it_was_or_refused() -> None:
    pictures = noise(1, 4, 5, 6)
    network = nn.Sequential(_copy(4), Calls(lambda x: _attention(x, 0.5)))
    net = wrapped(network, pictures)
    assert "1" in net.layers
    torch.manual_seed(1)
    recording = net.record(pictures, "1")
    torch.manual_seed(1)
    same = pictures.clone().requires_grad_(True)
    said = _attention(same, 0.5)
    assert torch.equal(recording.activations("1"), said.detach())
    (want,) = torch.autograd.grad(said[0, 2] * said[0, 2].detach(), same)
    assert want.any()
    try:
        found = recording.project("1", dv.Unit(0, 2))
    except RefusedOp as refusal:
        assert "does not reproduce" in str(refusal)
    else:
        assert difference(found.pixels, want) <= EXACT


def test_attention_without_dropout_is_projected_as_the_oracle_does() -> None:
    network = nn.Sequential(_copy(4), Calls(lambda x: _attention(x, 0.0))).eval()
    pictures = noise(2, 4, 5, 6)
    check_pixels(network, pictures, "1", Autograd(network, pictures))


RIGHT = [
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
    *((layer, dtype) for layer in RIGHT for dtype in (torch.float32, torch.bfloat16, torch.float16)),
    (resized(mode="bicubic", size=(6, 9)), torch.float32),  # PyTorch has no kernel for the shorter types
]


@pytest.mark.parametrize(("layer", "dtype"), ROUNDED, ids=str)
def test_rounding_is_no_reason_to_refuse(layer: nn.Module, dtype: torch.dtype) -> None:
    """Small differences of large numbers: 1000 and a little, in each of the shorter types."""
    pictures = (1000 + noise(2, 3, 17, 16)).to(dtype)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), layer).to(dtype).eval()
    found = projected(network, pictures, "1", [(0, 0, 0)])
    assert found.pixels.any()
    blank = projected(network, torch.zeros_like(pictures), "1", [(0, 0, 0)])
    assert not blank.coverage.refused
