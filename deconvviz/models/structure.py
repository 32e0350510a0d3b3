"""What a module is made of, without its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import parameter

from deconvviz.errors import NetworkError


def structure_of(module: nn.Module) -> tuple[Any, ...]:
    """Return names, classes, settings and shapes of all parts, as one value that can be compared."""
    parts = tuple((name, type(part), _settings(part)) for name, part in module.named_modules())
    shapes = tuple(
        (name, None if parameter.is_lazy(tensor) else tuple(tensor.shape))
        for name, tensor in _tensors(module)
    )
    return parts, shapes


def _settings(part: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Attributes that are numbers, text, or tuples: strides, kernel sizes, modes."""
    return tuple(
        (name, value)
        for name, value in vars(part).items()
        if type(value) in (int, float, bool, str, tuple) and name != "training"
    )


def is_lazy(part: nn.Module) -> bool:
    """Whether a module itself has parameters whose shapes wait for the first input."""
    own = (*part._parameters.values(), *part._buffers.values())
    return any(tensor is not None and parameter.is_lazy(tensor) for tensor in own)


def check_has_numbers(module: nn.Module, network: str, *, shapes_are_enough: bool = False) -> None:
    """Raise NetworkError if parameters are not initialised, or lie on the meta device.

    With `shapes_are_enough` a network may lie on the meta device as a whole.
    """
    waiting, without, count = [], [], 0
    for name, tensor in _tensors(module):
        count += 1
        if parameter.is_lazy(tensor):
            waiting.append(name)
        elif tensor.is_meta:
            without.append(name)
    if waiting:
        raise NetworkError(
            f"{network} has parameters that are not initialised yet: {_listed(waiting)}. Run the module "
            "once on an input of yours first: that draws them"
        )
    if without and not (shapes_are_enough and len(without) == count):
        raise NetworkError(
            f"{network} has parameters without numbers (on the meta device): {_listed(without)}. Load "
            "weights into them first, for example with load_state_dict(..., assign=True)"
        )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _listed(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
