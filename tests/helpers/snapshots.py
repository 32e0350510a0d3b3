"""Bit-exact snapshots of modules, and modules that change their own state in the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage

CHANNELS = 4


def snapshot(module: nn.Module, *, identities: bool = True) -> dict[str, Any]:
    """Return the state of a module: bytes of all tensors, attributes, flags, hooks and gradients.

    With `identities`, the state includes the identity of each object; without, a copy of the module has the
    same state.
    """
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            found[f"{name}.{key}"] = _state_of(value, identities)
    return found


def _state_of(value: Any, identities: bool) -> Any:
    kind = type(value).__name__
    which = id(value) if identities else None
    if isinstance(value, Tensor):
        more = (value.requires_grad, _state_of(value.grad, identities)) if value.is_leaf else ()
        return kind, which, _numbers(value), more
    if isinstance(value, nn.Module):
        return kind, which
    if isinstance(value, dict):
        entries = [(_state_of(k, identities), _state_of(v, identities)) for k, v in value.items()]
        return kind, which, entries
    if isinstance(value, (set, frozenset)):
        return kind, which, sorted(map(repr, value))
    if isinstance(value, list):
        return kind, which, [_state_of(one, identities) for one in value]
    if isinstance(value, tuple):
        return kind, [_state_of(one, identities) for one in value]
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return kind, repr(value)
    return kind, which


def _numbers(tensor: Tensor) -> Any:
    if tensor.is_meta or nn.parameter.is_lazy(tensor):
        return str(tensor.dtype)
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), data


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Check that the code in this context leaves a module unchanged, even if it raises."""
    before = snapshot(module)
    try:
        yield
    finally:
        after = snapshot(module)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        assert not changed, f"changed: {', '.join(changed)}"


def wrapped(module: nn.Module, size: int = 8) -> dv.Network:
    """Wrap a module as a network for images with three channels in [0, 1]."""
    return dv.Network(module, size=size, mean=(0, 0, 0), std=(1, 1, 1))


def pictures(count: int = 1, size: int = 8, seed: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return noise images (B, 3, H, W), the same for the same seed."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Noise(dv.Source):
    """Source of noise images in memory."""

    kind = "noise"

    def __init__(self, count: int, size: int = 8) -> None:
        self.size = size
        super().__init__("noise", Names(f"noise-{number:04d}" for number in range(count)))

    def read(self, number: int) -> InputImage:
        random = np.random.default_rng(number)
        return InputImage(random.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8))


class Adapted(nn.Module):
    """Module that merges its low-rank update into the weight in evaluation mode only, as LoRA does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 1, 1))
        self.low = nn.Parameter(torch.randn(CHANNELS, 1))
        self.high = nn.Parameter(torch.randn(1, CHANNELS))
        self.merged = False

    @property
    def delta(self) -> Tensor:
        return (self.low @ self.high)[..., None, None]

    def train(self, mode: bool = True) -> Adapted:
        super().train(mode)
        if mode is self.merged:
            with torch.no_grad():
                self.weight += -self.delta if mode else self.delta
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight if self.merged else self.weight + self.delta)


class Counting(nn.Module):
    """Module that counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x + 0.1 * self.seen


class Averaging(nn.Module):
    """Module with a running mean that is updated in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.rand(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        self.average.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
        return x - self.average[:, None, None]


class Replacing(nn.Module):
    """Module whose buffers are new tensors after each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((1,), 0.7))
        self.register_buffer("last", None)

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 0.5 * self.scale + 0.5 * x.detach().abs().mean()
        self.last = x.detach()[:1]
        return x * self.scale


class Observing(nn.Module):
    """Module that tracks the lowest and highest value so far, as for quantization."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.tensor(torch.inf))
        self.register_buffer("highest", torch.tensor(-torch.inf))

    def forward(self, x: Tensor) -> Tensor:
        self.lowest.copy_(torch.minimum(self.lowest, x.detach().min()))
        self.highest = torch.maximum(self.highest, x.detach().max())
        return x


class Remembering(nn.Module):
    """Module with changing plain attributes of many kinds, none of them a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.means: list[float] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.by_size: dict[int, list[int]] = {8: [1]}
        self.plain = torch.ones(3)
        self.nested = [torch.zeros(2), {"step": torch.zeros(())}]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.means.append(float(x.detach().mean()))
        self.shapes.add(tuple(x.shape))
        self.by_size.setdefault(x.shape[-1], []).append(len(x))
        self.plain += 1
        self.nested[0] += 1
        self.nested[1]["step"] += 1
        return x * (1 + 0.01 * self.calls)


class Creating(nn.Module):
    """Module that creates, deletes and replaces attributes in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first: bool | None = True
        self.mask = torch.ones(1)

    def forward(self, x: Tensor) -> Tensor:
        self.shape = tuple(x.shape)
        self.kept = x.detach()
        if hasattr(self, "first"):
            del self.first
        self.mask = torch.full_like(x[:1], 0.5)
        return x * self.mask


class Clamping(nn.Module):
    """Module that clamps its weight through `.data`, without autograd noticing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.4, 0.4)
        return F.conv2d(x, self.weight)


class Swapping(nn.Module):
    """Module that replaces the values of a parameter through `.data`."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(CHANNELS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.gain.data = self.gain.data / self.gain.data.norm()
        return x * self.gain


class Normalising(nn.Module):
    """Module that always uses batch statistics and updates its running statistics at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("variance", torch.ones(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, training=True)


def sharing() -> nn.Module:
    """Return two modules that update the same buffer, and a third with a view of it."""
    one, two, view = Averaging(), Averaging(), Averaging()
    two.average = one.average
    view.average = one.average[:]
    return nn.Sequential(one, two, view)


def powered() -> nn.Module:
    """Return a module with spectral normalisation, which updates its two vectors in training mode."""
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(CHANNELS, CHANNELS, 1))


PARTS: dict[str, Callable[[], nn.Module]] = {
    "adapted": Adapted,
    "counting": Counting,
    "averaging": Averaging,
    "replacing": Replacing,
    "observing": Observing,
    "remembering": Remembering,
    "creating": Creating,
    "clamping": Clamping,
    "swapping": Swapping,
    "normalising": Normalising,
    "sharing": sharing,
    "powered": powered,
    "batch norm": lambda: nn.BatchNorm2d(CHANNELS),
    "dropout": lambda: nn.Dropout(0.5),
    "dropout of channels": lambda: nn.Dropout2d(0.5, inplace=True),
    "instance norm": lambda: nn.InstanceNorm2d(CHANNELS, track_running_stats=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
}
"""Modules from (B, 4, H, W) to (B, 4, H, W)."""


def composed(parts: list[str], seed: int = 0) -> nn.Sequential:
    """Return a network of a convolution, these parts and two class scores, with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1),
            *(PARTS[part]() for part in parts),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(CHANNELS, 2),
        )
