"""Distances between a layer's features of a picture and of transformed pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from deconvviz.experiments.invariance.transforms import Positions, Transform, grid
from deconvviz.layers import Layer

MEASURES = ("distance", "normalised", "cosine", "equivariance")
LEAST_OVERLAP = 0.1
"""Smallest share of positions for which the moved map is compared. Our choice."""


class Distances:
    """Compares the features of one layer with those of the original picture.

    Set `transform` and `amounts` before a batch is run; then `compare` returns the four `MEASURES` of each
    picture in the batch, (B, 4), as float64:

    - distance: Euclidean distance of the features;
    - normalised: the distance divided by the length of the original's features;
    - cosine: 1 minus the cosine of the angle between the features;
    - equivariance: for a map and a movement, the normalised distance after the original's map is moved in the
      same way, over positions that come from inside the map. NaN for other layers and transformations.
    """

    def __init__(self, layer: Layer, size: tuple[int, int]) -> None:
        self._layer, self._size = layer, size
        self._original = torch.empty(0)
        self.transform: Transform | None = None
        self.amounts: Sequence[float] = ()

    def keep(self, output: Tensor) -> Tensor:
        """Keep the output (1, ...) as that of the original picture. Return an empty tensor."""
        self._original = output[0].detach().clone()
        return output.new_empty(0)

    def compare(self, output: Tensor) -> Tensor:
        """Return the measures (B, 4) of the outputs (B, ...) of transformed pictures."""
        maps = output.detach()
        distance, length = _length(maps - self._original, 1), _length(self._original, 0)
        lengths = _length(maps, 1)
        # 1 - cosine, from the sides of the triangle: exact where the angle is small
        cosine = (distance**2 - (lengths - length) ** 2) / (2 * lengths * length)
        moved = [self._moved(one, amount) for one, amount in zip(maps, self.amounts, strict=True)]
        return torch.stack(
            [
                distance,
                distance / length,
                cosine,
                torch.tensor(moved, dtype=torch.float64).to(distance.device),
            ],
            dim=1,
        )

    def _moved(self, maps: Tensor, amount: float) -> float:
        """Return the normalised distance of a map (C, h, w) to the original's map, moved like the picture."""
        if self.transform is None or self.transform.move is None or maps.dim() != 3:
            return float("nan")
        place = self._places(amount, (maps.shape[1], maps.shape[2]))
        if place is None:
            return float("nan")
        y, x = place
        inside = (y >= 0) & (y <= maps.shape[1] - 1) & (x >= 0) & (x <= maps.shape[2] - 1)
        if inside.mean() < LEAST_OVERLAP:
            return float("nan")
        across, down = (
            2 * at / max(length - 1, 1) - 1 for at, length in ((x, maps.shape[2]), (y, maps.shape[1]))
        )
        places = torch.from_numpy(np.stack([across, down], axis=-1)).to(maps.device, maps.dtype)
        expected = grid_sample(self._original[None], places[None], align_corners=True)[0]
        known = torch.from_numpy(inside).to(maps.device, maps.dtype)
        wanted = expected * known
        return float(_length(maps * known - wanted, 0) / _length(wanted, 0))

    def _places(self, amount: float, shape: tuple[int, int]) -> Positions | None:
        """Return where the units of a map were before the movement, in units; None if that is unknown."""
        layer, transform = self._layer, self.transform
        assert transform is not None
        if layer.field is None or layer.stride is None or layer.offset is None:
            return None
        units = grid(shape)
        first = [offset + (field - 1) / 2 for offset, field in zip(layer.offset, layer.field, strict=True)]
        pixels = [at * step + start for at, step, start in zip(units, layer.stride, first, strict=True)]
        before = transform.positions(amount, pixels[0], pixels[1], self._size)
        y, x = ((at - start) / step for at, step, start in zip(before, layer.stride, first, strict=True))
        return y, x


def _length(values: Tensor, first: int) -> Tensor:
    """Return Euclidean lengths as float64, over all dimensions from `first` on."""
    squares: Tensor = (values * values).sum(dim=tuple(range(first, values.dim())))
    return squares.double().sqrt()
