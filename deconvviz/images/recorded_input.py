"""One input of a network, as it was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray


@dataclass(frozen=True, eq=False)
class RecordedInput:
    """One input of a recorded forward pass.

    Attributes:
        name: Name of the argument of the network; empty if there is only one input.
        tensor: The prepared input, (B, ...).
        images: The recorded images, or arrays such as signals; empty for a prepared tensor and for an input
            that is not a picture.
        is_picture: False for an array, such as the embedding of a text.
        path: The .npy file of an array, if it was read from one.
    """

    name: str
    tensor: Tensor
    images: tuple[InputImage | InputArray, ...] = ()
    is_picture: bool = True
    path: Path | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it holds integers, such as the numbers of words or a mask, which receive no signal."""
        return not self.tensor.is_floating_point()
