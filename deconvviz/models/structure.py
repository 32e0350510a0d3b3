"""What a module is made of, without its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import parameter

from deconvviz.errors import NetworkError
from deconvviz.wording import listed


def structure_of(module: nn.Module) -> tuple[Any, ...]:
    """Return names, classes, settings and shapes of all parts, as one value that can be compared."""
    return tuple(
        [(name, type(part), _settings(part), _shapes(part)) for name, part in module.named_modules()]
    )


_PLAIN = frozenset((int, float, bool, str, tuple))


def _settings(part: nn.Module) -> list[tuple[str, Any]]:
    """Attributes that are numbers, text, or tuples: strides, kernel sizes, modes."""
    return [(name, v) for name, v in vars(part).items() if type(v) in _PLAIN and name != "training"]


def _shapes(part: nn.Module) -> list[tuple[str, Any]]:
    """The shapes of a part's own parameters and buffers; None for one that is not initialised."""
    own = [*part._parameters.items(), *part._buffers.items()]
    return [(name, None if t is None or parameter.is_lazy(t) else t.shape) for name, t in own]


def is_lazy(part: nn.Module) -> bool:
    """Whether a module itself has parameters whose shapes wait for the first input."""
    own = (*part._parameters.values(), *part._buffers.values())
    return any(tensor is not None and parameter.is_lazy(tensor) for tensor in own)


def check_has_numbers(module: nn.Module, network: str, *, shapes_are_enough: bool = False) -> None:
    """Raise NetworkError if parts are scripted, or parameters not initialised or on the meta device.

    With `shapes_are_enough` a network may lie on the meta device as a whole.
    """
    scripted = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        where = f" (its part {scripted[0]})" if scripted[0] else ""
        raise NetworkError(
            f"{network} is scripted or traced by torch.jit{where}, and so has no calls that could be "
            "recorded: give the module that it was made from"
        )
    waiting, without, count = [], [], 0
    for name, tensor in tensors_of(module):
        count += 1
        if parameter.is_lazy(tensor):
            waiting.append(name)
        elif tensor.is_meta:
            without.append(name)
    if waiting:
        raise NetworkError(
            f"{network} has parameters that are not initialised yet: {listed(waiting)}. Run the module "
            "once on an input of yours first: that draws them"
        )
    if without and not (shapes_are_enough and len(without) == count):
        raise NetworkError(
            f"{network} has parameters without numbers (on the meta device): {listed(without)}. Load "
            "weights into them first, for example with load_state_dict(..., assign=True)"
        )


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, in one walk through the module."""
    for name, part in module.named_modules():
        for key, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                yield f"{name}.{key}" if name else key, tensor
