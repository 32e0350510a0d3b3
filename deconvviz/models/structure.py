"""What a module is made of, without its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import parameter

from deconvviz.errors import NetworkError
from deconvviz.models.recordable import check_recordable
from deconvviz.wording import listed
from deconvviz.wrappers import named_parts


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
    if not part._parameters and not part._buffers:
        return []
    own = [*part._parameters.items(), *part._buffers.items()]
    return [(name, None if t is None or parameter.is_lazy(t) else t.shape) for name, t in own]


def is_lazy(part: nn.Module) -> bool:
    """Whether a module itself has parameters whose shapes wait for the first input."""
    own = (*part._parameters.values(), *part._buffers.values())
    return any(tensor is not None and parameter.is_lazy(tensor) for tensor in own)


def check_has_numbers(module: nn.Module, network: str, *, shapes_are_enough: bool = False) -> None:
    """Raise NetworkError if parts cannot be recorded, or parameters have no numbers yet.

    With `shapes_are_enough` a network may lie on the meta device as a whole.
    """
    check_recordable(module, network)
    named = list(tensors_of(module))
    waiting = [name for name, tensor in named if parameter.is_lazy(tensor)]
    without = [name for name, tensor in named if not parameter.is_lazy(tensor) and tensor.is_meta]
    if waiting:
        raise NetworkError(
            f"{network} has parameters that are not initialised yet: {listed(waiting)}. Run the module "
            "once on an input of yours first: that draws them"
        )
    if without and not (shapes_are_enough and len(without) == len(named)):
        raise NetworkError(
            f"{network} has parameters without numbers (on the meta device): {listed(without)}. Load "
            "weights into them first, for example with load_state_dict(..., assign=True)"
        )


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, in one walk through the module."""
    for name, part in named_parts(module):
        if part._parameters or part._buffers:
            for key, tensor in (*part._parameters.items(), *part._buffers.items()):
                if tensor is not None:
                    yield f"{name}.{key}" if name else key, tensor
