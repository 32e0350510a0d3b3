"""A picture with the real pixels around it, from which transformed pictures are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.images.preprocessing import Preprocessing
from deconvviz.images.reduced import Reduced

Floats: TypeAlias = npt.NDArray[np.float64]

BORDERS = ("reflect", "grey")
GREY = 0.5


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image before it is cropped to the network's input.

    Attributes:
        colours: (C, H, W) from 0 to 1: the resized image, larger than the crop where the file has more.
        corner: (top, left) of the crop.
        size: (rows, columns) of the crop, the network's input.
    """

    colours: Tensor
    corner: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(
        cls, rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing, reduced: Reduced | None = None
    ) -> Canvas:
        """Return the canvas of an image, resized like the network's input."""
        pixels, corner = preprocessing.canvas(rgb, reduced)
        colours = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        return cls(colours, corner, (preprocessing.shape[1], preprocessing.shape[2]))

    def crop(self, colours: Tensor | None = None) -> Tensor:
        """Return the picture (C, rows, columns) without a transformation, or that part of other colours."""
        (top, left), (rows, columns) = self.corner, self.size
        whole = self.colours if colours is None else colours
        return whole[:, top : top + rows, left : left + columns]

    def sample(self, y: Floats, x: Floats, border: str) -> tuple[Tensor, float]:
        """Return the colours at positions of the crop, by bilinear interpolation.

        Whole positions are copied exactly. Positions outside the canvas are reflected at its outer pixels, or
        grey.

        Args:
            y: Rows (rows, columns) relative to the crop.
            x: Columns (rows, columns) relative to the crop.
            border: ``reflect`` or ``grey``.

        Returns:
            The picture (C, rows, columns), and the share of its pixels that lie outside the canvas.
        """
        height, width = self.colours.shape[1:]
        y, x = y + self.corner[0], x + self.corner[1]
        outside = (y < 0) | (y > height - 1) | (x < 0) | (x > width - 1)
        y0, x0 = np.floor(y), np.floor(x)
        down, right = (torch.from_numpy((at - low).astype(np.float32)) for at, low in ((y, y0), (x, x0)))
        rows = [torch.from_numpy(_reflected(y0 + step, height)) for step in (0, 1)]
        columns = [torch.from_numpy(_reflected(x0 + step, width)) for step in (0, 1)]
        above, below = (
            self.colours[:, row, columns[0]] * (1 - right) + self.colours[:, row, columns[1]] * right
            for row in rows
        )
        found = above * (1 - down) + below * down
        if border == "grey":
            found = torch.where(torch.from_numpy(outside), GREY, found)
        return found, float(outside.mean())


def _reflected(positions: Floats, length: int) -> npt.NDArray[np.int64]:
    """Return whole positions, reflected at the first and the last pixel: -1 is 1, `length` is length - 2."""
    if length == 1:
        return np.zeros(positions.shape, np.int64)
    period = 2 * (length - 1)
    folded = np.mod(positions.astype(np.int64), period)
    reflected: npt.NDArray[np.int64] = np.minimum(folded, period - folded)
    return reflected
