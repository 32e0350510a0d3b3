"""What a network is called with: one tensor, several, several by name, or a list of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.layout import TensorLayout

ONE, POSITIONS, NAMES, LIST = "one", "positions", "names", "list"
"""How a module is called: ``module(x)``, ``module(x, y)``, ``module(a=x, b=y)`` or ``module([x])``."""


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """The tensors of one call of a network, (B, ...) each, with their names.

    Floating point tensors receive a signal. Others (the numbers of words, a mask) are constants.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] = ("",)
    form: str = ONE
    picture: int = 0  # the tensor whose rows and columns are those of all maps

    @staticmethod
    def of(images: Tensor | NetworkInputs) -> NetworkInputs:
        return NetworkInputs((images,)) if isinstance(images, Tensor) else images

    def call(self, module: nn.Module) -> Any:
        """Run a module. With the form LIST, it receives the pictures of the batch one by one, (C, H, W)."""
        if self.form == NAMES:
            return module(**dict(zip(self.names, self.tensors, strict=True)))
        if self.form == LIST:
            return module([self.tensors[0][number] for number in range(len(self))])
        return module(*self.tensors)

    def __len__(self) -> int:
        """Return the number of images of the batch."""
        return len(self.tensors[0])

    def copied(self) -> NetworkInputs:
        """Return plain copies, which the network may overwrite."""
        plain = (one if type(one) is Tensor else one.as_subclass(Tensor) for one in self.tensors)
        return replace(self, tensors=tuple([one.detach().clone() for one in plain]))

    def layouts(self) -> list[TensorLayout | None]:
        """Return the layout of each tensor; None for a constant."""
        first = TensorLayout.of_input(self.tensors[self.picture].shape[1:])
        return [first.like(one.shape[1:]) if one.is_floating_point() else None for one in self.tensors]

    @property
    def sizes(self) -> str:
        """The shapes without the batch, for messages: ``3 x 224 x 224 and 512``."""
        return " and ".join(_times(one.shape[1:]) for one in self.tensors)


def _times(shape: Sequence[int] | torch.Size) -> str:
    return " x ".join(map(str, shape))
