"""Follow which values of a forward pass depend on some of the network's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.engine.tape import Output

_IMAGE, _DOUBTFUL, _SOUND = 1, 2, 4


class Influence(TorchDispatchMode):
    """Dispatch mode that tracks which values depend on the doubtful (missing) weights of a network.

    Values are identified by their memory. Therefore views, in-place calls and weights that a network computes
    from other weights are tracked too. The output of a call is doubtful if any argument is doubtful, whatever
    the operation.
    """

    def __init__(self, doubtful: Iterable[Tensor], sound: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.reached: list[str] = []  # names of module outputs that depend on doubtful weights
        self.unreached: list[str] = []  # names of the other module outputs
        self.continues = False  # whether sound weights were applied to a doubtful value
        self._active = False  # True while the network runs, from the first call on its input
        # By memory address. The weak reference keeps the address from being reused.
        self._kinds: dict[int, tuple[StorageWeakRef, int]] = {}
        for tensor in doubtful:
            self._mark(tensor, _DOUBTFUL)
        for tensor in sound:
            if not self._kind(tensor):
                self._mark(tensor, _SOUND)

    @classmethod
    def of(cls, module: nn.Module, doubtful: Iterable[str], sound: Iterable[str] = ()) -> Influence:
        """Return an `Influence` for the weights with these names in the state dict of a module."""
        weights = module.state_dict(keep_vars=True)
        return cls((weights[name] for name in doubtful), (weights[name] for name in sound))

    def mark_images(self, images: Tensor) -> None:
        """Declare the input of the network. Values that are computed from it are not weights."""
        self._mark(images, _IMAGE)

    def watch(self, wanted: Callable[[Output, Tensor], bool]) -> Callable[[Output, Tensor], bool]:
        """Return a callback for `record_tape` that fills `reached` and `unreached`, and calls `wanted`."""

        def on_output(out: Output, tensor: Tensor) -> bool:
            (self.reached if self._kind(tensor) & _DOUBTFUL else self.unreached).append(out.name)
            self._active = out.module != ""
            return wanted(out, tensor)

        return on_output

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kinds = [self._kind(tensor) for tensor in _tensors((args, kwargs))]
        output = op(*args, **kwargs)
        self._active = self._active or _IMAGE in kinds
        kind = reduce(or_, kinds, 0) if self._active else 0
        if kind & _DOUBTFUL and _SOUND in kinds:
            self.continues = True
        if kind:
            for tensor in _tensors((output, _overwritten(op, args, kwargs))):
                self._mark(tensor, kind)
        return output

    def _kind(self, tensor: Tensor) -> int:
        found = self._kinds.get(tensor.untyped_storage()._cdata)
        return 0 if found is None or found[0].expired() else found[1]

    def _mark(self, tensor: Tensor, kind: int) -> None:
        storage = tensor.untyped_storage()
        self._kinds[storage._cdata] = StorageWeakRef(storage), self._kind(tensor) | kind


def _tensors(arguments: Any) -> Iterator[Tensor]:
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, list | tuple):
        for argument in arguments:
            yield from _tensors(argument)
    elif isinstance(arguments, dict):
        yield from _tensors(list(arguments.values()))


def _overwritten(op: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that a call overwrites."""
    if not op._schema.is_mutable:
        return []
    overwritten = []
    for position, argument in enumerate(op._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            overwritten.append(args[position] if position < len(args) else kwargs.get(argument.name))
    return overwritten
