"""The structure of a module: its submodules, their settings and the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import parameter

from deconvviz.engine.hooks import exclusive
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import NetworkError
from deconvviz.models.recordable import check_recordable
from deconvviz.wording import listed


def structure_of(module: nn.Module) -> tuple[Any, ...]:
    """Return the names, classes, settings and tensor shapes of all submodules, as one comparable value."""
    with exclusive(module) as parts:
        return tuple([(name, type(part), _settings(part), _shapes(part)) for name, part in parts])


_PLAIN = frozenset((int, float, bool, str, tuple))


def _settings(part: nn.Module) -> list[tuple[str, Any]]:
    """Return the attributes of a submodule that are numbers, strings or tuples, such as strides and modes."""
    own = list(vars(part).items())  # a copy: a user's thread may run the network and set attributes meanwhile
    return [(name, v) for name, v in own if type(v) in _PLAIN and name != "training"]


def _shapes(part: nn.Module) -> list[tuple[str, Any]]:
    """Return the shapes of a submodule's own parameters and buffers; None for an uninitialised one."""
    if not part._parameters and not part._buffers:
        return []
    own = [*part._parameters.items(), *part._buffers.items()]
    return [(name, None if t is None or parameter.is_lazy(t) else t.shape) for name, t in own]


def is_lazy(part: nn.Module) -> bool:
    """Return True if a module's own parameters include some whose shapes depend on the first input."""
    own = (*part._parameters.values(), *part._buffers.values())
    return any(tensor is not None and parameter.is_lazy(tensor) for tensor in own)


def check_has_numbers(module: nn.Module, network: str, *, shapes_are_enough: bool = False) -> None:
    """Raise NetworkError if a submodule cannot be recorded or a parameter has no values yet.

    With `shapes_are_enough`, a network that is entirely on the meta device is accepted.
    """
    check_recordable(module, network)
    named = list(tensors_of(module))
    without = [(name, tensor) for name, tensor in named if tensor.is_meta or parameter.is_lazy(tensor)]
    lazy = [name for name, tensor in without if parameter.is_lazy(tensor)]
    on_meta = [name for name, tensor in without if not parameter.is_lazy(tensor)]
    if lazy:
        raise NetworkError(
            f"{network} has parameters that are not initialised yet: {listed(lazy)}. Run the module once on "
            "an input to initialise them"
        )
    if on_meta and not (shapes_are_enough and len(on_meta) == len(named)):
        raise NetworkError(
            f"{network} has parameters without values (on the meta device): {listed(on_meta)}. Load "
            "weights first, for example with load_state_dict(..., assign=True)"
        )


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of all parameters and buffers."""
    for name, part in named_parts(module):
        if part._parameters or part._buffers:
            for key, tensor in (*part._parameters.items(), *part._buffers.items()):
                if tensor is not None:
                    yield f"{name}.{key}" if name else key, tensor
