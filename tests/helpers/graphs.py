"""Hypothesis strategies for random small networks with branches that are joined again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.chains import CHANNELS, SLIDING, adaptive_pools, pairs

Draw = Any
ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, lambda: nn.ReLU(inplace=True), nn.ReLU6, lambda: nn.LeakyReLU(0.2), nn.ELU, nn.SiLU, nn.GELU,
    lambda: nn.SiLU(inplace=True), nn.Hardswish, lambda: nn.Hardswish(inplace=True), nn.Mish, nn.Softplus,
    lambda: nn.Hardtanh(-0.5, 2), lambda: nn.LeakyReLU(0.1, inplace=True), nn.SELU,
]  # fmt: skip


class Call(nn.Module):
    """Module that calls a function, with a name for the report of a failing example."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class LayerNormOverChannels(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), as in ConvNeXt."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PoolAndBack(nn.Module):
    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(kernel, return_indices=True), nn.MaxUnpool2d(kernel)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = self.pool(x)
        return self.back(pooled, places, output_size=x.shape)


class SqueezeAndExcite(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(CHANNELS, CHANNELS, 1), gate)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Attend(nn.Module):
    """Self-attention: each position becomes a softmax-weighted mean of all positions."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # (B, C, H * W)
        weights = (flat.transpose(1, 2) @ flat / flat.shape[1]).softmax(-1)
        return (flat @ weights.transpose(1, 2)).view(x.shape)


class Antialiased(nn.Module):
    """Interpolation with antialiasing, as in torchvision's Resize."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, antialias=True, align_corners=False, **self.options)
        if 1 in x.shape[2:]:
            raise ValueError("PyTorch's kernel is wrong for outputs that are one position wide or high")
        return x

    def extra_repr(self) -> str:
        return str(self.options)


class Counting(nn.Module):
    """Module that counts its calls and updates a running mean, in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
        return x + 1


class Rescaling(nn.Module):
    """Module that overwrites a buffer and then multiplies by it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(CHANNELS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(0.8).add_(0.3)
        return x * self.scale


class Fork(nn.Module):
    """Two branches of one input, cropped to a common size and joined.

    The input of the second branch is transformed first for products, because the product of a map with a
    function of itself can be an activation function. `CALLS` contains such products.
    """

    def __init__(self, left: nn.Module, right: nn.Module, join: str) -> None:
        super().__init__()
        self.left, self.right, self.join = left, right, join
        if join == "concat":
            self.mix = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)
        self.apart = nn.Conv2d(CHANNELS, CHANNELS, 1) if join in ("product", "gate") else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(self.apart(x.clone()))  # a copy: autograd saved x
        h, w = (min(left.shape[d], right.shape[d]) for d in (2, 3))
        left, right = left[:, :, :h, :w], right[:, :, right.shape[2] - h :, right.shape[3] - w :]
        return self._join(left, right)

    def _join(self, left: Tensor, right: Tensor) -> Tensor:
        if self.join == "add":
            return left + right
        if self.join == "add half":
            return torch.add(left, right, alpha=0.5)
        if self.join == "product":
            return left * right
        if self.join == "gate":
            return left * torch.sigmoid(right)
        if self.join == "gate of each channel":
            return left * F.hardsigmoid(right.mean((2, 3), keepdim=True))
        if self.join == "add a mean":
            return left + right.mean((2, 3), keepdim=True)
        return self.mix(torch.cat([left, right], 1))

    def extra_repr(self) -> str:
        return self.join


JOINS = ["add", "add half", "concat", "concat", "product", "gate", "gate of each channel", "add a mean"]


@st.composite
def transposed(draw: Draw) -> nn.Module:
    stride, dilation = draw(pairs(1, 3)), draw(pairs(1, 2))
    most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
    return nn.ConvTranspose2d(
        CHANNELS,
        CHANNELS,
        kernel_size=draw(pairs(1, 4)),
        stride=stride,
        padding=draw(pairs(0, 2)),
        output_padding=draw(st.tuples(*(st.integers(0, n) for n in most))),
        groups=draw(st.sampled_from([1, 2, 4])),
        dilation=dilation,
        bias=draw(st.booleans()),
    )


@st.composite
def upsamplings(draw: Draw) -> nn.Module:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"]))
    options: dict[str, Any] = {"size": draw(pairs(1, 11))}
    if draw(st.booleans()):
        options = {"scale_factor": draw(st.sampled_from([2.0, 3.0, 1.5, 0.7, (2.0, 1.3)]))}
    if mode.startswith("bi") and draw(st.booleans()):
        return Antialiased(mode=mode, **options)
    if mode.startswith("bi"):
        options["align_corners"] = draw(st.booleans())
    return nn.Upsample(mode=mode, **options)


@st.composite
def pads(draw: Draw) -> nn.Module:
    kind = draw(st.sampled_from([nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d]))
    low = -2 if kind is nn.ZeroPad2d else 0
    return kind(draw(st.tuples(*(st.integers(low, 2),) * 4)))


@st.composite
def shuffles(draw: Draw) -> nn.Module:
    if draw(st.booleans()):
        return nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(1, CHANNELS, 1))
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * CHANNELS, CHANNELS, 1, groups=2))


@st.composite
def norms(draw: Draw) -> nn.Module:
    eps = draw(st.sampled_from([1e-5, 0.1]))
    kind = draw(st.sampled_from(["layer", "group", "rows"]))
    if kind == "layer":
        return LayerNormOverChannels(CHANNELS, eps)
    if kind == "group":
        return nn.GroupNorm(draw(st.sampled_from([1, 2, 4])), CHANNELS, eps, affine=draw(st.booleans()))
    return Call("divided by its norm", lambda x: x / (x.norm(dim=1, keepdim=True) + 0.1))


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "1 - x / 2": lambda x: 1 - x / 2,
    "-x + 3": lambda x: -x + 3,
    "channels rolled": lambda x: torch.cat([x[:, 1:], x[:, :1]], 1),
    "split and joined": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "transposed twice": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every other row": lambda x: x[:, :, ::2],
    "square": lambda x: x**2 / 4,
    "maximum of each row, added": lambda x: x + x.amax(3, keepdim=True),
    "x * sigmoid(x)": lambda x: x * x.sigmoid(),
    "maximum with 0": lambda x: torch.maximum(x, x.new_zeros(())),
    "where by its own sign": lambda x: torch.where(x > 0, x, 0 * x),
    "where by its own sign, leaky": lambda x: torch.where(x > 0, x, 0.2 * x),
    "times its own sign mask": lambda x: x * (x > 0),
    "scaled in place": lambda x: x.clone().mul_(0.5).add_(1),
    "mean of channels, added": lambda x: x.sub(x.mean(1, keepdim=True), alpha=0.5),
}


@st.composite
def calls(draw: Draw) -> nn.Module:
    name = draw(st.sampled_from(sorted(CALLS)))
    return Call(name, CALLS[name])


@st.composite
def others(draw: Draw) -> nn.Module:
    kind = draw(st.sampled_from(["activation", "unpool", "excite", "attend", "adaptive max", "buffer"]))
    if kind == "activation":
        return draw(st.sampled_from(ACTIVATIONS))()
    if kind == "unpool":
        return PoolAndBack(draw(pairs(1, 3)))
    if kind == "excite":
        return SqueezeAndExcite(draw(st.sampled_from([nn.Sigmoid, nn.Hardsigmoid, nn.Tanh]))())
    if kind == "buffer":
        return draw(st.sampled_from([Counting, Rescaling]))()
    return Attend() if kind == "attend" else nn.AdaptiveMaxPool2d(draw(pairs(1, 5)))


ACTIVATING = st.sampled_from(ACTIVATIONS).map(lambda make: make())
LAYERS = st.one_of(
    SLIDING, ACTIVATING, ACTIVATING, transposed(), upsamplings(), pads(), shuffles(), norms(), calls(),
    others(), SLIDING, adaptive_pools(),
)  # fmt: skip


@st.composite
def graphs(draw: Draw, depth: int = 2) -> tuple[nn.Module, Tensor]:
    """Draw (network, images): a sequence of layers and forks, without those that the map is too small for."""
    torch.manual_seed(draw(st.integers(0, 9999)))
    images = torch.randn(draw(st.integers(1, 2)), CHANNELS, *draw(pairs(3, 11)), dtype=torch.float64)
    network = nn.Sequential(*draw(rows(images, depth, shortest=2, longest=6)), nn.Identity())
    return network.eval(), images


@st.composite
def rows(draw: Draw, x: Tensor, depth: int, shortest: int, longest: int) -> list[nn.Module]:
    """Draw a sequence of layers and forks that can be applied to `x`."""
    kept: list[nn.Module] = []
    for _ in range(draw(st.integers(shortest, longest))):
        if depth and draw(st.integers(0, 2)) == 0:
            branches = [nn.Sequential(*draw(rows(x, depth - 1, shortest=0, longest=3))) for _ in range(2)]
            layer: nn.Module = Fork(*branches, draw(st.sampled_from(JOINS)))
        else:
            layer = draw(LAYERS)
        _randomise_statistics(layer.double().eval())
        after = _output_of(layer, x)
        if after is not None:
            kept.append(layer)
            x = after
    return kept


def _randomise_statistics(layer: nn.Module) -> None:
    for part in layer.modules():
        if isinstance(part, nn.BatchNorm2d):
            for number in (*part.parameters(), part.running_mean, part.running_var):
                nn.init.uniform_(number, 0.5, 2)  # type: ignore[arg-type]
        elif isinstance(part, nn.GroupNorm | nn.LayerNorm) and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 2)


def _output_of(layer: nn.Module, x: Tensor) -> Tensor | None:
    """Return the output of a layer, or None if PyTorch raises or the output is unsuitable."""
    try:
        with torch.no_grad():
            layer(x[:1].clone())  # raises for a norm of single numbers, which needs two images
            x = layer(x.clone())
    except (RuntimeError, ValueError):  # raised by PyTorch for a size that does not fit the layer
        return None
    if not 0 < x.numel() <= 40_000 or x.shape[1] != CHANNELS:
        return None
    return x if bool(x.isfinite().all()) and float(x.abs().max()) < 1e6 else None
