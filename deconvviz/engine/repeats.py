"""Steps of one recording that the next recording of the same network can use again.

A network is often recorded many times, with images of one size. Most of its calls then differ only in the
numbers of the maps, and the rules of the paper do not depend on these. Each call is compared with that of the
last recording. If everything that its step depends on is equal, the step is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.rules import Rule
from deconvviz.engine.spellings import Link
from deconvviz.engine.tape import Step

Defined = tuple[TensorLayout, bool, bool]
"""The layout of a value, whether it receives a signal, and whether it mixes the images of the batch."""


@dataclass(frozen=True, eq=False)
class Repeatable:
    """A call with a step that depends only on what is stored here."""

    operation: Any
    settings: list[Any]  # the arguments, with ... for tensors
    known: list[Any]  # the values of the tensors among the arguments
    weights: list[tuple[int, Tensor, torch.Size]]  # index in `known`, tensor and shape of each weight
    step: Step
    layouts: list[TensorLayout]  # of the outputs, of which only the first has a rule
    receives_signal: bool
    shapes: list[torch.Size]  # of the outputs, with the batch
    link: Link | None  # the call as a part of a chain (see `spellings`)

    def is_equal(
        self, operation: Any, args: tuple[Any, ...], tensors: Sequence[Tensor], known: list[Any]
    ) -> bool:
        """Return whether a call is equal to this one, if the calls before it were equal, too."""
        return (
            self.operation is operation
            and self.known == known
            and self.settings == operation.settings(args)
            and all([tensors[n] is weight and weight.shape == shape for n, weight, shape in self.weights])
        )


def is_repeatable(rule: Rule) -> bool:
    """Return whether an equal call of the next recording can have this rule, as its own class states."""
    return vars(type(rule)).get("repeats", False) is True


class LastRecording:
    """The calls of the last recording of a network, compared one after the other with those of a new one."""

    def __init__(self, layouts: Sequence[TensorLayout | None], batch: int) -> None:
        self.images = list(layouts), batch
        self._calls: list[tuple[list[Defined], Repeatable | None]] = []
        self._count = 0  # calls of the new recording

    def next(self) -> Repeatable | None:
        """Return the next call, if it can be repeated."""
        return self._calls[self._count][1] if self._count < len(self._calls) else None

    def repeated(self) -> None:
        """Note that the new recording has repeated the next call."""
        self._count += 1

    def recorded(self, defined: list[Defined], call: Repeatable | None) -> None:
        """Replace the next call by another one, and forget the rest if it defines other values."""
        if self._count < len(self._calls) and self._calls[self._count][0] != defined:
            del self._calls[self._count :]
        self._calls[self._count : self._count + 1] = [(defined, call)]
        self._count += 1

    def store(self, module: nn.Module) -> None:
        """Store the calls for the next recording."""
        self._count = 0
        _last[module] = self


_last: WeakKeyDictionary[nn.Module, LastRecording] = WeakKeyDictionary()


def last_recording(module: nn.Module, layouts: Sequence[TensorLayout | None], batch: int) -> LastRecording:
    """Return the last recording of a network with such inputs, or an empty one. One caller receives it."""
    last = _last.pop(module, None)
    same = last is not None and last.images == (list(layouts), batch)
    return last if last is not None and same else LastRecording(layouts, batch)
