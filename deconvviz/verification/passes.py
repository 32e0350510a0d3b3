"""Second computation of projections: one forward pass with gradients, and one backward pass for each unit.

Nothing is batched and nothing is cut to windows: every backward pass covers whole maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from deconvviz.verification.guided import Guided, audit_gradient
from deconvviz.verification.semantics import Semantics, audit
from deconvviz.verification.unverifiable import Unverifiable


@dataclass(frozen=True)
class Place:
    """A unit in a batch of images. It has no position if it is a whole channel, or an entry of a vector.

    The position is (y, x) in a map, (x,) in that of a signal, and (z, y, x) in that of a volume.

    They are lists of equal length for several positions of a channel. For a single entry of any tensor,
    `entry` is its whole index instead, with the batch.
    """

    image: int
    channel: int
    y: int | list[int] | None = None
    x: int | list[int] | None = None
    z: int | None = None
    entry: tuple[int, ...] = ()

    def index(self, output: Tensor, *, channels_last: bool) -> tuple[Any, ...]:
        """Return the index of the unit in the output of the layer."""
        if self.entry:
            return self.entry
        given: list[Any] = [one for one in (self.z, self.y, self.x) if one is not None]
        position: list[Any] = given or [slice(None)] * (output.dim() - 2)
        if channels_last:
            return (self.image, *position, self.channel)
        return (self.image, self.channel, *position)


@dataclass(frozen=True)
class Target:
    """The layer of the units: the call number `call` of a module, from 1.

    For an image it returns a map of `channels` channels (rank 3), or a vector (rank 1). If the units are
    single entries, it may return a tensor of any shape (rank 0). `keys` lead to it in the output of the
    module, if the output is not a single tensor.
    """

    module: nn.Module
    call: int
    channels: int
    rank: int
    channels_last: bool = False
    keys: tuple[str, ...] = ()


Run: TypeAlias = Callable[[list[Tensor]], Any]
"""Calls the network with the tensors of all its inputs."""


class SecondPass:
    """Forward pass up to a layer, whose gradients are the maps of a method.

    The caller runs it with gradients enabled and with the network in evaluation mode. Weights require no
    gradient meanwhile. Of the inputs of the network, those of integers are constants.
    """

    def __init__(
        self, network: nn.Module, run: Run, inputs: Sequence[Tensor], target: Target, method: str
    ) -> None:
        self._target, self._method = target, method
        self._audited: set[Any] = set()
        given = [one.detach().clone() for one in inputs]
        self.inputs = [one.requires_grad_(True) for one in given if one.is_floating_point()]
        mode = {"deconvnet": Semantics, "guided": Guided}.get(method, nullcontext)
        with _no_gradients_of_weights(network), _output_of(target) as found, mode(), suppress(_Reached):
            run([one.clone() for one in given])  # a leaf cannot be overwritten
        if not found:
            raise Unverifiable("the second pass does not reach the layer")
        self.output = found[0]
        shape = tuple(self.output.shape)
        channels = -1 if target.channels_last else 1
        expected = (len(given[0]), target.channels)
        if target.rank and (len(shape) != target.rank + 1 or (shape[0], shape[channels]) != expected):
            raise Unverifiable(f"the layer returns {shape}, which is not one map for each image")

    def maps(self, places: Sequence[Place]) -> list[Tensor]:
        """Return the maps (K, C, H, W) of units in each input, with the units' activations as signals.

        There may be one unit for each image.
        """
        output = self.output.detach()
        signal = torch.zeros_like(output)
        for place in places:
            index = place.index(output, channels_last=self._target.channels_last)
            signal[index] = output[index]
        return [one[[place.image for place in places]] for one in self._pixels(signal)]

    def _pixels(self, signal: Tensor) -> list[Tensor]:
        if not self.output.requires_grad:
            return [torch.zeros_like(one) for one in self.inputs]
        if self._method == "deconvnet":
            audit(self.output.grad_fn, self._audited)
        else:
            audit_gradient(self.output.grad_fn, self._audited, guided=self._method == "guided")
        gradients = torch.autograd.grad(
            self.output, self.inputs, signal, retain_graph=True, allow_unused=True
        )
        found = []
        for one, own in zip(self.inputs, gradients, strict=True):
            own = torch.zeros_like(one) if own is None else own
            found.append(own * one.detach() if self._method == "input_x_gradient" else own)
        return found


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest absolute difference, divided by the largest absolute value of `theirs`.

    It is infinite if only `theirs` is zero everywhere, and NaN if a value is not finite.
    """
    one, other = ours.detach().cpu().double(), theirs.detach().cpu().double()
    apart, largest = float((one - other).abs().max()), float(other.abs().max())
    if apart == 0:
        return 0.0
    return apart / largest if largest else math.inf


def turns(images: Sequence[int]) -> list[list[int]]:
    """Return the numbers of units in groups with at most one unit of each image."""
    waiting: dict[int, list[int]] = {}
    for number, image in enumerate(images):
        waiting.setdefault(image, []).append(number)
    count = max(map(len, waiting.values()), default=0)
    return [[own[turn] for own in waiting.values() if turn < len(own)] for turn in range(count)]


class _Reached(BaseException):
    """Raised to leave a network after the layer. No `except Exception` catches it."""


@contextmanager
def _output_of(target: Target) -> Iterator[list[Tensor]]:
    """Yield a list that receives the output of a layer. The network is left at that moment."""
    found: list[Tensor] = []
    calls = 0

    def hook(part: nn.Module, args: Any, output: Any) -> None:
        nonlocal calls
        calls += 1
        if calls != target.call:
            return
        for key in target.keys:
            output = _entry(output, key)
        if isinstance(output, Tensor):
            found.append(output if type(output) is Tensor else output.as_subclass(Tensor))
            raise _Reached

    handle = target.module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def _entry(output: Any, key: str) -> Any:
    """Return an entry of a dictionary, tuple or list, or a field of a NamedTuple or dataclass."""
    if isinstance(output, Mapping):
        return next((one for name, one in output.items() if str(name) == key), None)
    if hasattr(output, key):
        return getattr(output, key)
    return output[int(key)]


@contextmanager
def _no_gradients_of_weights(network: nn.Module) -> Iterator[None]:
    """Let only values that depend on the images have gradients."""
    trainable = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in trainable:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in trainable:
            weight.requires_grad_(True)
