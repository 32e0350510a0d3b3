"""Receptive fields that are known, that are the whole image, and that are unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import Calls, changing, check_boxes, check_pixels, noise, positive, seeded, wrapped
from helpers.oracles import Autograd
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.layers import cells

SHAPE = (2, 14, 13)
UNKNOWN = "receptive field: unknown"
WHOLE = "receptive field: the whole image"


class Mixed(nn.Module):
    """Two convolutions with an operation in between that keeps rows and columns in their place."""

    def __init__(self, mixing: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 3, stride=2), nn.LazyConv2d(3, (3, 2))
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.middle = Calls(lambda x: mixing(x, self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)).relu())


def build(mixing: Callable[[Tensor, Tensor], Tensor]) -> nn.Module:
    def made() -> nn.Module:
        network = Mixed(mixing)
        with torch.no_grad():
            network(torch.zeros(1, *SHAPE))
        return network

    return seeded(made)


def layer_of(network: nn.Module, name: str, shape: tuple[int, ...] = SHAPE) -> dv.layers.Layer:
    return wrapped(network, torch.zeros(1, *shape)).layers[name]


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, H * W, C)


def _map(tokens: Tensor, like: Tensor) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(like), -1, *like.shape[2:])


KEEPING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "repeat of channels": lambda x, w: x.repeat(1, 3, 1, 1),
    "repeat of one channel": lambda x, w: x[:, 1:2].repeat(1, 4, 1, 1),
    "expand of one channel": lambda x, w: x[:, :1].expand(-1, 5, -1, -1),
    "repeat_interleave of channels": lambda x, w: x.repeat_interleave(2, 1),
    "tile of channels": lambda x, w: x.tile(1, 2, 1, 1),
    "stack of channels": lambda x, w: torch.stack([x, -x], 2).flatten(1, 2),
    "einsum bchw,cd->bdhw": lambda x, w: torch.einsum("bchw,cd->bdhw", x, w),
    "einsum dc,bchw->bdhw": lambda x, w: torch.einsum("dc,bchw->bdhw", w.T, x),
    "matmul of the flat map": lambda x, w: torch.matmul(w.T, x.flatten(2)).view(len(x), 6, *x.shape[2:]),
    "@ of the flat map, unflatten": lambda x, w: (w.T @ x.flatten(2)).unflatten(2, x.shape[2:]),
    "bmm of the flat map": lambda x, w: torch.bmm(w.T.expand(len(x), -1, -1), x.flatten(2)).view(
        len(x), 6, *x.shape[2:]
    ),
    "tensordot": lambda x, w: torch.tensordot(x, w, dims=([1], [0])).movedim(-1, 1),
    "tensordot, weight first": lambda x, w: torch.tensordot(w, x, dims=([0], [1])).transpose(0, 1),
    "linear on channels last": lambda x, w: F.linear(x.permute(0, 2, 3, 1), w.T).permute(0, 3, 1, 2),
    "matmul on channels last": lambda x, w: (x.movedim(1, -1) @ w).movedim(-1, 1),
    "flattened and restored": lambda x, w: x.flatten(2).view(len(x), 4, *x.shape[2:]),
    "flattened, relu, restored": lambda x, w: x.flatten(2).relu().reshape(x.shape) + 0.1 * x,
    "flattened, scaled by channel, restored": lambda x, w: (x.flatten(2) * w[:, :1]).view(x.shape),
    "flattened, channels concatenated, restored": lambda x, w: torch.cat(
        [x.flatten(2), 2 * x.flatten(2)], 1
    ).view(len(x), 8, *x.shape[2:]),
    "flattened, channels sliced, restored": lambda x, w: x.flatten(2)[:, 1:3].reshape(
        len(x), 2, *x.shape[2:]
    ),
    "tokens and restored": lambda x, w: _map(_tokens(x), x),
    "linear on tokens": lambda x, w: _map(F.linear(_tokens(x), w.T, w[0]), x),
    "matmul on tokens": lambda x, w: _map(_tokens(x) @ w, x),
    "two linears on tokens": lambda x, w: _map(F.linear(F.linear(_tokens(x), w.T).relu(), w), x),
    "tokens to channels last": lambda x, w: (
        _tokens(x).reshape(len(x), *x.shape[2:], 4).permute(0, 3, 1, 2).contiguous()
    ),
    "einsum of tokens": lambda x, w: _map(torch.einsum("bnc,cd->bnd", _tokens(x), w), x),
    "sum of tokens and a shortcut": lambda x, w: _map(_tokens(x) @ w @ w.T + _tokens(x), x),
}


@pytest.mark.parametrize("name", KEEPING)
def test_operation_that_keeps_positions_is_exact_and_keeps_the_field(name: str) -> None:
    network, images = build(KEEPING[name]), noise(2, *SHAPE)
    found = check_pixels(network, images, "last", Autograd(network, images))
    assert not found.coverage.approximate and not found.coverage.unsupported
    layer = layer_of(network, "last")
    assert (layer.field, layer.stride, layer.offset) == ((7, 5), (2, 2), (0, 0))
    assert not layer.sees_all and not layer.depends_on_more
    assert layer.field_text == "receptive field 7x5 px, stride 2 px"
    middle = layer_of(network, "middle")
    assert (middle.field, middle.stride, middle.sees_all) == ((3, 3), (2, 2), False)


@pytest.mark.parametrize("name", KEEPING)
def test_boxes_through_operations_that_keep_positions_equal_the_measured_ones(name: str) -> None:
    network = positive(build(KEEPING[name]))
    if name == "stack of channels":  # a ReLU removes -x
        network = positive(build(lambda x, w: torch.stack([x, 2 * x], 2).flatten(1, 2)))
    check_boxes(network, SHAPE, "last", [(0, 0, 0), (2, 3, 4), (1, 2, 0)])


def test_grey_image_repeated_to_three_channels_keeps_the_field() -> None:
    network = seeded(lambda: nn.Sequential(Calls(lambda x: x.repeat(1, 3, 1, 1)), nn.Conv2d(3, 4, 5)))
    layer = layer_of(network, "1", (1, 12, 12))
    assert (layer.field, layer.stride, layer.sees_all) == ((5, 5), (1, 1), False)
    images = noise(2, 1, 12, 12)
    check_pixels(network, images, "1", Autograd(network, images))
    check_boxes(positive(network), (1, 12, 12), "1", [(0, 0, 0), (3, 7, 7), (1, 3, 4)])


MOVING: dict[str, Callable[[Tensor], Tensor]] = {
    "repeat along rows": lambda x: x.repeat(1, 1, 2, 1),
    "repeat along columns and channels": lambda x: x.repeat(1, 2, 1, 3),
    "flip of rows": lambda x: x.flip(2),
    "flip of both": lambda x: x.flip(2, 3),
    "concatenated with its flip": lambda x: torch.cat([x, x.flip(3)], 1),
    "roll of rows": lambda x: x.roll(2, 2),
    "roll of both": lambda x: x.roll((1, -2), (2, 3)),
    "two maps side by side": lambda x: torch.cat([x, x.flip(3)], 3),
}


def _moved(moving: Callable[[Tensor], Tensor]) -> nn.Module:
    def made() -> nn.Module:
        network = nn.Sequential(nn.Conv2d(2, 3, 3), Calls(moving), nn.ReLU(), nn.LazyConv2d(3, 2))
        with torch.no_grad():
            network(torch.zeros(1, *SHAPE))
        return network

    return seeded(made)


@pytest.mark.parametrize("name", MOVING)
def test_boxes_through_moved_rows_and_columns_equal_the_measured_ones(name: str) -> None:
    network, images = _moved(MOVING[name]), noise(2, *SHAPE)
    check_pixels(network, images, "3", Autograd(network, images))
    layer = layer_of(network, "3")
    assert not layer.sees_all
    assert layer.field_text != WHOLE
    network = positive(network)
    h, w = network(noise(1, *SHAPE)).shape[2:]
    places = [(0, 0, 0), (2, h - 1, w - 1), (1, h // 2, w // 2), (0, h // 3, w - 2)]
    check_boxes(network, SHAPE, "3", places)


def _reshaped(x: Tensor) -> Tensor:
    return x.flatten(2).view(len(x), x.shape[1], x.shape[3], -1)


NOT_KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "rows and columns in another shape": _reshaped,
    "repeat_interleave along columns": lambda x: x.repeat_interleave(2, 3),
    "rows joined in pairs": lambda x: x[:, :, :12].reshape(len(x), x.shape[1], 6, -1),
    "channels as rows": lambda x: x.transpose(1, 2),
    "channels and rows in another shape": lambda x: x.reshape(len(x), 2, -1, x.shape[3]),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_unknown_field_is_never_reported_as_the_whole_image(name: str) -> None:
    network, images = _moved(NOT_KNOWN[name]), noise(2, *SHAPE)
    check_pixels(network, images, "3", Autograd(network, images))
    layer = layer_of(network, "3")
    assert not layer.sees_all
    h, w = network(images).shape[2:]
    network = positive(network)
    places = [(0, 0, 0), (2, h - 1, w - 1), (1, h // 2, w // 2)]
    recording = wrapped(network, images).record(noise(1, *SHAPE), "3")
    for place, box in zip(places, recording.boxes("3", [dv.Unit(0, *p) for p in places]), strict=True):
        x0, y0, x1, y1 = changing(network, SHAPE, "3", place)
        assert box[0] <= x0 and box[1] <= y0 and x1 <= box[2] and y1 <= box[3]  # never too small
    if layer.field is None:
        assert layer.field_text == UNKNOWN
        assert cells(layer)[4] == "unknown"
        assert layer.stride is None and layer.offset is None
        assert UNKNOWN in str(layer) and WHOLE not in str(layer)


def test_layer_with_an_unknown_field_states_it_in_every_table() -> None:
    network = _moved(_reshaped)
    layers = wrapped(network, noise(1, *SHAPE)).layers
    layer = layers["3"]
    assert (layer.field, layer.sees_all, layer.field_text) == (None, False, UNKNOWN)
    assert cells(layer)[4] == "unknown"
    assert "<td>unknown</td>" in layers._repr_html_()
    assert [one["sees_all"] for one in layers.to_json() if one["dotted"] == "3"] == [False]
    assert layers["0"].field == (3, 3)  # the layer below has a known field


WHOLE_IMAGE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "linear after a flatten": (lambda: nn.Sequential(_front(), nn.Flatten(), nn.LazyLinear(5)), "2"),
    "linear after a view": (
        lambda: nn.Sequential(_front(), Calls(lambda x: x.view(len(x), -1)), nn.LazyLinear(5)),
        "2",
    ),
    "global mean": (lambda: nn.Sequential(_front(), Calls(lambda x: x.mean((2, 3)))), "1"),
    "global mean with keepdim": (
        lambda: nn.Sequential(_front(), Calls(lambda x: x.mean((2, 3), keepdim=True)), nn.LazyConv2d(3, 1)),
        "2",
    ),
    "adaptive pool to one": (lambda: nn.Sequential(_front(), nn.AdaptiveAvgPool2d(1)), "1"),
    "mean of tokens": (lambda: nn.Sequential(_front(), Calls(lambda x: _tokens(x).mean(1))), "1"),
    "sum of the flat map": (lambda: nn.Sequential(_front(), Calls(lambda x: x.flatten(2).sum(2))), "1"),
    "linear over all tokens": (
        lambda: nn.Sequential(_front(), Calls(lambda x: x.flatten(2)), nn.LazyLinear(4), nn.Flatten()),
        "3",
    ),
}


def _front() -> nn.Module:
    return nn.Conv2d(2, 4, 3)


@pytest.mark.parametrize("name", WHOLE_IMAGE)
def test_layer_that_depends_on_every_pixel_states_it(name: str) -> None:
    make, layer_name = WHOLE_IMAGE[name]

    def made() -> nn.Module:
        network = make()
        with torch.no_grad():
            network(torch.zeros(1, *SHAPE))
        return network

    network, images = seeded(made), noise(2, *SHAPE)
    layer = layer_of(network, layer_name)
    assert (layer.field, layer.sees_all, layer.field_text) == (None, True, WHOLE)
    assert cells(layer)[4] == "all"
    oracle = Autograd(network, images)
    check_pixels(network, images, layer_name, oracle)
    place: tuple[Any, ...] = (1,) if oracle.outputs[layer_name].dim() == 2 else (1, 0, 0)
    check_boxes(positive(network), SHAPE, layer_name, [place])


def test_constant_and_unsupported_layers_have_no_field() -> None:
    network = seeded(lambda: nn.Sequential(_front(), nn.Sigmoid(), Calls(lambda x: x * 2)))
    layer = layer_of(network, "1")
    assert layer.is_constant
    assert cells(layer)[4] == "constant"
    network = seeded(lambda: nn.Sequential(_front(), Calls(lambda x: x.sort(2).values)))
    layer = layer_of(network, "1")
    assert layer.unsupported
    assert cells(layer)[4] == "unsupported"
