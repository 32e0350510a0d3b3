"""Projections through single operations between two convolutions, in every spelling that PyTorch offers."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.oracles import Autograd, difference
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, roi_align, roi_pool

EXACT = 1e-11
Call = Callable[[Tensor], Tensor]


class Wired(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.call(self.a(x)))


def _per_channel(x: Tensor, low: float = 0.5) -> Tensor:
    return torch.linspace(low, 2, x.shape[1], dtype=x.dtype)


def _channels_last(call: Call) -> Call:
    return lambda x: call(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _attention(x: Tensor, scores: Call) -> Tensor:
    flat = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
    return (scores(flat @ flat.transpose(1, 2)) @ flat).transpose(1, 2).reshape(x.shape)


def _native_attention(x: Tensor) -> Tensor:
    flat = x.flatten(2).transpose(1, 2)[:, None]  # (B, 1, H * W, C)
    return F.scaled_dot_product_attention(flat, 2 * flat, flat)[:, 0].transpose(1, 2).reshape(x.shape)


def _standardised(x: Tensor) -> Tensor:
    """Weight standardisation as in BiT."""
    weight = torch.linspace(-1, 1, 4 * 4 * 9, dtype=x.dtype).sin().reshape(1, 4, 36)
    weight = F.batch_norm(weight, None, None, training=True, momentum=0.0).reshape(4, 4, 3, 3)
    return F.conv2d(x, weight, padding=1)


def _mixed_experts(x: Tensor) -> Tensor:
    """CondConv: a sigmoid of the image mixes the filters, differently for each image."""
    routing = torch.sigmoid(x.mean((2, 3)) @ torch.ones(4, 2, dtype=x.dtype))  # (B, 2)
    experts = torch.linspace(-1, 1, 2 * 16, dtype=x.dtype).reshape(2, 16)
    weight = (routing @ experts).view(-1, 4, 1, 1)
    batch = len(x)
    return F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, groups=batch).view(x.shape)


def _evo_norm(x: Tensor) -> Tensor:
    spread = x.reshape(len(x), 2, -1).var(2, keepdim=True).add(1e-5).sqrt().reshape(len(x), 2, 1, 1)
    return x * x.sigmoid() / spread.repeat_interleave(2, 1)


def _response_norm(x: Tensor) -> Tensor:
    """Global response normalisation as in ConvNeXt V2."""
    length = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + x * (length / (length.mean(1, keepdim=True) + 1e-6))


def _checkered(x: Tensor) -> Tensor:
    rows, columns = torch.arange(x.shape[2])[:, None], torch.arange(x.shape[3])
    return (rows + columns) % 2 == 0


def _with_written(write: Callable[[Tensor, Tensor], object]) -> Call:
    """Return a call that writes values of a map into another one."""

    def call(x: Tensor) -> Tensor:
        y = x.flip(3) * 1.5
        write(y, x)
        return y

    return call


def _at(*positions: object) -> tuple[object, ...]:
    """Return an index of channels, rows and columns for all images."""
    return slice(None), *positions


def _grid(x: Tensor) -> Tensor:
    """Return sampling positions (B, 5, 7, 2), some of them outside."""
    numbers = torch.arange(len(x) * 70, dtype=x.dtype)
    return 1.2 * (numbers * numbers).sin().reshape(len(x), 5, 7, 2)


def _filters(x: Tensor) -> Tensor:
    return torch.linspace(-1, 1, 4 * 4 * 9, dtype=x.dtype).mul(9).sin().reshape(4, 4, 3, 3)


def _boxes(x: Tensor) -> Tensor:
    """Return two boxes of each image, (B * 2, 5)."""
    boxes = torch.tensor([[0, 0, 5, 5], [2.2, 1, 7, 4.5]], dtype=x.dtype)
    numbers = torch.arange(len(x), dtype=x.dtype).repeat_interleave(2)[:, None]
    return torch.cat([numbers, boxes.repeat(len(x), 1)], 1)


def _in_windows(x: Tensor, call: Call) -> Tensor:
    """Apply a call to windows of 3 x 4 positions, each as an image of its own."""
    pieces = x.unflatten(2, (2, 3)).unflatten(4, (2, 4)).permute(0, 2, 4, 1, 3, 5)  # (B, 2, 2, C, 3, 4)
    found = call(pieces.flatten(0, 2)).unflatten(0, (-1, 2, 2))
    return found.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


CALLS: dict[str, Call] = {
    "relu": torch.relu,
    "relu_": lambda x: x.relu_(),
    "F.relu inplace": lambda x: F.relu(x, inplace=True),
    "relu6": F.relu6,
    "hardtanh_": lambda x: F.hardtanh_(x, -0.2, 0.7),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu inplace": lambda x: F.leaky_relu(x, 0.2, inplace=True),
    "elu": F.elu,
    "elu inplace": lambda x: F.elu(x, inplace=True),
    "selu": F.selu,
    "celu": F.celu,
    "silu": F.silu,
    "silu inplace": lambda x: F.silu(x, inplace=True),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": F.hardswish,
    "hardswish inplace": lambda x: F.hardswish(x, inplace=True),
    "mish": F.mish,
    "mish inplace": lambda x: F.mish(x, inplace=True),
    "softplus": lambda x: F.softplus(x, 2.0, 1.0),
    "sigmoid": torch.sigmoid,
    "sigmoid_": lambda x: x.sigmoid_(),
    "hardsigmoid": F.hardsigmoid,
    "hardsigmoid inplace": lambda x: F.hardsigmoid(x, inplace=True),
    "tanh": torch.tanh,
    "tanh_": lambda x: x.tanh_(),
    "softmax": lambda x: x.softmax(1),
    "F.softmax": lambda x: F.softmax(x, dim=-1),
    "swish written out": lambda x: x * torch.sigmoid(x),
    "swish in place": lambda x: x.mul_(x.sigmoid()),
    "hardswish written out": lambda x: x * F.relu6(x + 3) / 6,
    "mish written out": lambda x: x * torch.tanh(F.softplus(x)),
    "gate of channels": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "gate of positions": lambda x: x * x.mean(1, keepdim=True).sigmoid(),
    "gate without a sigmoid": lambda x: x * x.mean((2, 3), keepdim=True),
    "efficient channel attention": lambda x: x * x.mean((2, 3))[:, :, None, None].sigmoid().expand_as(x),
    "product": lambda x: x * F.relu(x - 0.1),
    "product of a broadcast map": lambda x: x.amax(1, keepdim=True) * x,
    "square": lambda x: x * x,
    "torch.square": torch.square,
    "** 2": lambda x: x**2,
    "pow 2": lambda x: x.pow(2),
    "relu squared": lambda x: F.relu(x) ** 2,
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(1).flip(1), value=0.5),
    "1 - x": lambda x: 1 - x,
    "rsub alpha": lambda x: torch.rsub(x, 2 * x, alpha=3),
    "x - alpha x": lambda x: torch.sub(x, x.mean(1, keepdim=True), alpha=0.5),
    "-x": lambda x: -x,
    "scaled": lambda x: 3 * x / 2 + 1,
    "scaled by channel": lambda x: x * _per_channel(x)[:, None, None],
    "divided by constants": lambda x: x / _per_channel(x)[:, None, None],
    "x / norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "F.normalize": lambda x: F.normalize(x, dim=1),
    "vector_norm": lambda x: x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1),
    "rms by hand": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
    "layer norm by hand": lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 0.1) ** 0.5,
    "x / sum": lambda x: x / (x.abs().detach().sum(1, keepdim=True) + 1),
    "evo norm": _evo_norm,
    "response norm": _response_norm,
    "layer norm": _channels_last(lambda x: F.layer_norm(x, [4], _per_channel(x.movedim(3, 1)))),
    "layer norm of maps": lambda x: F.layer_norm(x, x.shape[1:]),
    "layer norm of rows": lambda x: F.layer_norm(x, x.shape[3:], eps=0.1),
    "group norm": lambda x: F.group_norm(x, 2, _per_channel(x), _per_channel(x)),
    "group norm of one": lambda x: F.group_norm(x, 1),
    "rms norm": _channels_last(lambda x: F.rms_norm(x, [4], _per_channel(x.movedim(3, 1)), 1e-5)),
    "instance norm": lambda x: F.instance_norm(x, weight=_per_channel(x), bias=_per_channel(x)),
    "batch norm": lambda x: F.batch_norm(x, _per_channel(x), _per_channel(x), _per_channel(x), None),
    "local response": lambda x: F.local_response_norm(x, 3),
    "weight standardisation": _standardised,
    "mixed experts": _mixed_experts,
    "dot product attention": _native_attention,
    "attention": lambda x: _attention(x, lambda scores: scores.softmax(-1)),
    "linear attention": lambda x: _attention(x, lambda scores: scores / 10),
    "relu attention": lambda x: _attention(x, lambda scores: F.relu(scores) / 10),
    "einsum": lambda x: torch.einsum("bcd,bdhw->bchw", torch.einsum("bchw,bdhw->bcd", x, x).softmax(-1), x),
    "amax": lambda x: x + x.amax((2, 3), keepdim=True),
    "max of a dimension": lambda x: x + x.max(dim=1, keepdim=True).values,
    "adaptive max": lambda x: x + F.adaptive_max_pool2d(x, 1),
    "max of two": lambda x: torch.maximum(x, x.roll(1, 1)),
    "maxout": lambda x: x.reshape(len(x), 2, 2, *x.shape[2:]).amax(1).repeat(1, 2, 1, 1),
    "sum": lambda x: x + x.sum((2, 3), keepdim=True),
    "mean of all": lambda x: x + x.mean((1, 2, 3), keepdim=True),
    "stacked": lambda x: torch.stack([x, 2 * x], 1).sum(1),
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
    "chunk": lambda x: torch.mul(*x.chunk(2, 1)).repeat(1, 2, 1, 1),
    "unbind": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "index of channels": lambda x: x[:, [2, 0, 1, 1]],
    "index of rows": lambda x: x[:, :, [5, 0, 0, 1, 2, 3]],
    "index of positions": lambda x: x[:, :, [[5], [0], [2]], [1, 1, 0, 7]],
    "index of channels and columns": lambda x: (
        x[:, [[0], [2]], :, [1, 3]].permute(2, 0, 3, 1).flatten(1, 1).reshape(len(x), 4, -1, 1)
    ),
    "index by a mask": lambda x: x[:, :, _checkered(x)].reshape(*x.shape[:3], -1),
    "index_select": lambda x: x.index_select(1, torch.tensor([3, 3, 0, 1])),
    "gather": lambda x: x.gather(1, x.detach().argsort(1)),
    "take_along_dim": lambda x: torch.take_along_dim(x, x.detach().argsort(3), 3),
    "written channels": _with_written(lambda y, x: operator.setitem(y, _at([2, 0]), x[:, :2])),
    "written positions": _with_written(
        lambda y, x: operator.setitem(y, _at(slice(None), [0, 5], [1, 7]), 3 * x[:, :, 2, :2])
    ),
    "written rows, broadcast": _with_written(
        lambda y, x: operator.setitem(y, _at(slice(None), [0, 4]), x[:, :1, :1])
    ),
    "written by a mask": _with_written(lambda y, x: y.index_put_((x > 0.2,), torch.tensor(2.0).to(x))),
    "index_copy": _with_written(lambda y, x: y.index_copy_(2, torch.tensor([4, 0]), x[:, :, 1:3])),
    "index_add": _with_written(lambda y, x: y.index_add_(3, torch.tensor([4, 4]), x[..., 1:3], alpha=2)),
    "index_fill": _with_written(lambda y, x: y.index_fill_(1, torch.tensor([1, 1]), 5.0)),
    "scatter": _with_written(lambda y, x: y.scatter_(1, x.detach().argsort(1), 2 * x)),
    "scatter_add": _with_written(
        lambda y, x: y.scatter_add_(1, x.detach().argmax(1, keepdim=True), x[:, :1])
    ),
    "scatter of a number": _with_written(lambda y, x: y.scatter_(1, x.detach().argmax(1, keepdim=True), 1.0)),
    "masked_fill with a tensor": lambda x: x.masked_fill(_checkered(x), torch.tensor(2.0).to(x)),
    "flip": lambda x: x.flip(3),
    "roll": lambda x: x.roll((1, 2), (2, 3)),
    "every other": lambda x: x[:, :, ::2, 1::2],
    "shuffle by views": lambda x: x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "space to depth": lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)[:, 3:7],
    "windows and back": lambda x: (
        x.view(len(x), 4, 3, 2, 4, 2)
        .permute(0, 2, 4, 3, 5, 1)
        .reshape(-1, 4, 4)
        .mul(2)
        .view(len(x), 3, 4, 2, 2, 4)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(x.shape)
    ),
    "grid_sample": lambda x: F.grid_sample(x, _grid(x), align_corners=False),
    "grid_sample nearest": lambda x: F.grid_sample(x, _grid(x), mode="nearest", align_corners=True),
    "grid_sample bicubic": lambda x: F.grid_sample(x, _grid(x), "bicubic", "reflection", align_corners=False),
    "spatial transformer": lambda x: F.grid_sample(
        x,
        F.affine_grid(
            x.mean((2, 3))[:, [0, 1, 2, 3, 1, 0]].view(-1, 2, 3), list(x.shape), align_corners=False
        ),
        align_corners=False,
    ),
    "deformable convolution": lambda x: deform_conv2d(
        x, x.repeat(1, 5, 1, 1)[:, :18], _filters(x), padding=1, mask=x.sigmoid().repeat(1, 3, 1, 1)[:, :9]
    ),
    "boxes": lambda x: roi_align(x, _boxes(x), 3, sampling_ratio=2).view(len(x), 2, 4, 3, 3).sum(1),
    "maxima of boxes": lambda x: roi_pool(x, _boxes(x), 3).view(len(x), 2, 4, 3, 3).sum(1),
    "convolution of boxes": lambda x: (
        F.conv2d(roi_align(x, _boxes(x), 3, sampling_ratio=2), _filters(x), padding=1)
        .relu()
        .view(len(x), 2, 4, 3, 3)
        .sum(1)
    ),
    "convolution of windows": lambda x: _in_windows(x, lambda some: F.conv2d(some, _filters(x), padding=1)),
    "pools of windows": lambda x: _in_windows(x, lambda some: F.max_pool2d(some, 3, 1, 1)),
    "norm of windows": lambda x: _in_windows(
        x, lambda some: F.batch_norm(some, _per_channel(x), _per_channel(x), _per_channel(x), None)
    ),
    "unfold": lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
    "linear over channels": _channels_last(lambda x: F.linear(x, torch.eye(4, 4, dtype=x.dtype) - 0.2)),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "channels_last memory": lambda x: x.contiguous(memory_format=torch.channels_last).relu(),
    "float32 in between": lambda x: x.float().relu().double(),
    "clone": lambda x: x.clone().relu_() + x,
}


def _case(name: str) -> tuple[passes.Pass, Autograd]:
    torch.manual_seed(7)
    network = Wired(CALLS[name]).double().eval()
    images = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    return passes.run(network, images), Autograd(network, images)


@pytest.mark.parametrize("name", CALLS)
def test_projection_through_call_equals_autograd(name: str) -> None:
    ours, theirs = _case(name)
    activations = ours.outputs[""]
    assert difference(activations, theirs.outputs[""].detach()) <= EXACT
    units = passes.some_units(activations, torch.Generator().manual_seed(1))
    pixels, boxes = ours.units("", units)
    for one, unit, (x0, y0, x1, y1) in zip(pixels, units, boxes, strict=True):
        want = theirs.unit("", unit.image, unit.channel, unit.y, unit.x)  # type: ignore[arg-type]
        assert difference(one, want) <= EXACT, unit
        outside = one.clone()
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()
    assert difference(ours.units_at_full_size("", units), pixels) <= EXACT
    signal = torch.randn_like(activations)
    assert difference(ours.signals("", signal, [0, 1]), theirs.project("", signal)) <= EXACT
