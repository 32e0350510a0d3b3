"""Random small moves of a picture during optimisation, so that it does not depend on exact pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.errors import MethodError


@dataclass(frozen=True)
class Moves:
    """Largest random moves; 0 leaves a kind of move out. What comes in at the border is reflected.

    Attributes:
        jitter: Largest shift in whole pixels, in both directions.
        scale: Largest change of the size, as a share; 0.1 is between 90 % and 110 %.
        rotate: Largest angle in degrees.
    """

    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0

    def check(self, size: tuple[int, int]) -> None:
        """Raise MethodError if pictures of this size (rows, columns) cannot be moved like this."""
        if not 0 <= self.jitter < min(size):
            raise MethodError(
                f"a jitter of {self.jitter} pixels was requested: give a number from 0 to {min(size) - 1}"
            )
        if not 0 <= self.scale < 1:
            raise MethodError(f"a change of the size by {self.scale:g} was requested: give a share below 1")
        if not 0 <= self.rotate <= 180:
            raise MethodError(f"rotations of {self.rotate:g} degrees were requested: give 0 to 180")

    def apply(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Return pictures (B, C, H, W) after one random move, the same for all of them."""
        top, left = (0, 0)
        if self.jitter:
            top, left = torch.randint(
                -self.jitter, self.jitter + 1, (2,), generator=generator
            ).tolist()  # fmt: skip
        if self.scale or self.rotate:
            change, angle = (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1).tolist()
            return _transformed(
                pictures, top, left, 1 + self.scale * change, math.radians(self.rotate * angle)
            )
        return shifted(pictures, top, left)


def shifted(pictures: Tensor, down: int, right: int) -> Tensor:
    """Return pictures moved by whole pixels."""
    if not down and not right:
        return pictures
    rows, columns = pictures.shape[-2:]
    padded = F.pad(pictures, [abs(right)] * 2 + [abs(down)] * 2, mode="reflect")
    top, left = abs(down) - down, abs(right) - right
    return padded[..., top : top + rows, left : left + columns]


def _transformed(pictures: Tensor, down: int, right: int, scale: float, angle: float) -> Tensor:
    """Return pictures that are enlarged and rotated around the centre, and then moved."""
    rows, columns = pictures.shape[-2:]
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # maps positions of the result to positions of the picture, in units of half a side
    inverse = pictures.new_tensor([[cos, sin * rows / columns], [-sin * columns / rows, cos]])
    offset = inverse @ pictures.new_tensor([-2 * right / columns, -2 * down / rows])
    matrix = torch.cat([inverse, offset[:, None]], 1)[None].expand(len(pictures), 2, 3)
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
