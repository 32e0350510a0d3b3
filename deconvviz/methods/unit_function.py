"""A unit's activation as a function of the image, with gradients, for libraries that explain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from deconvviz.engine.hooks import Stop, evaluation, exclusive, plain, without_gradients_of_weights
from deconvviz.engine.preservation import Parts, preserved
from deconvviz.engine.units import Unit, checked
from deconvviz.engine.wrappers import eager
from deconvviz.errors import MethodError, UnitError
from deconvviz.layers import Layer
from deconvviz.methods.method import Subject
from deconvviz.models.providers import provider_of
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.network import Network

Function: TypeAlias = Callable[[Tensor], Tensor]


class LayerOfNetwork(Protocol):
    """A network and one of its layers, for example a `Subject`."""

    @property
    def network(self) -> Network: ...
    @property
    def layer(self) -> Layer: ...


def checked_units(subject: Subject, units: Sequence[Unit] | Tensor) -> list[Unit]:
    """Return the units with their recorded activations.

    Raises UnitError if a unit does not exist or is a whole channel, MethodError for a tensor of signals.
    """
    if isinstance(units, Tensor):
        raise MethodError("this method explains units, not a tensor of signals")
    activations = subject.activations()
    found = checked(activations, units, subject.layer.name)
    for unit in found:
        if activations.dim() == 4 and unit.y is None:
            raise UnitError(f"unit ({unit}) is a whole channel: this method needs a position, y and x")
    return found


def places_of(units: Sequence[Unit]) -> tuple[Tensor, ...]:
    """Return the indices of units in one image of the layer, one tensor (K,) for each axis."""
    rows = [[n for n in (unit.channel, unit.y, unit.x) if n is not None] for unit in units]
    return tuple(torch.tensor(axis) for axis in zip(*rows, strict=True))


@contextmanager
def network_function(
    subject: LayerOfNetwork, *, up_to_layer: bool, preserve_each_call: bool = True
) -> Iterator[Function]:
    """Yield a function that runs the network on images (B, C, H, W), with gradients.

    It returns the activations of the layer, (B, C, h, w) or (B, F), and leaves the network after the layer;
    or, without `up_to_layer`, the output of the whole network. The network runs in evaluation mode. Training
    flags, gradient flags, hooks, buffers and attributes are restored at the end, also if an exception is
    raised, and after each call of the function unless `preserve_each_call` is False.
    """
    module, layer = subject.network.module, subject.layer
    with (
        exclusive(module) as parts,
        eager(module),
        torch.inference_mode(False),
        torch.enable_grad(),
        preserved(parts, weights=True),
        evaluation(parts),
        without_gradients_of_weights(module),
        _messages_of_user_code(subject),
    ):

        def run(images: Tensor) -> Tensor:
            images = images.clone()  # the first operation of a network may overwrite its input
            with preserved(parts, weights=True) if preserve_each_call else nullcontext():
                if not up_to_layer:
                    return plain(module(images))
                output = output_of(module, parts, layer.module, images)
            return output.movedim(-1, 1) if layer.channels_last and output.dim() == 4 else output

        yield run


@contextmanager
def unit_function(
    subject: Subject,
    units: Sequence[Unit],
    on_images: Callable[[int], None] | None = None,
    *,
    preserve_each_call: bool = True,
) -> Iterator[Function]:
    """Yield a function from images (B, C, H, W) to the activations of K units, (B, K), with gradients.

    `on_images` is called with the number of images of each call. See `network_function`.
    """
    units_of_layer: tuple[slice | Tensor, ...] = (slice(None), *places_of(units))
    with network_function(subject, up_to_layer=True, preserve_each_call=preserve_each_call) as run:

        def activations(images: Tensor) -> Tensor:
            found = run(images)[units_of_layer]
            if on_images is not None:
                on_images(len(images))
            return found

        yield activations


def output_of(module: nn.Module, parts: Parts, name: str, images: Tensor) -> Tensor:
    """Run the network up to the output of a module, whose name may end in ``:2`` for its second call."""
    dotted, _, call = name.partition(":")
    if not dotted:
        return plain(module(images))
    left = int(call or 1)
    found: list[Tensor] = []

    def hook(part: nn.Module, args: Any, output: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            found.append(plain(output))
            raise Stop

    # Hooks run in the order of registration: hooks of a library that are there already run before this one.
    handle = dict(parts)[dotted].register_forward_hook(hook)
    try:
        with suppress(Stop):
            module(images)
    finally:
        handle.remove()
    return found[0]


def _messages_of_user_code(subject: LayerOfNetwork) -> Any:
    """Redirect what user code prints, because stdout is reserved for results."""
    model = subject.network.origin.model
    return stdout_to_stderr() if model is not None and provider_of(model).runs_code else nullcontext()
