"""Priors: what a picture should be like, besides what the network asks for.

Each function gets centred colours (B, C, H, W): 0 is mid-grey, and black and white are at -0.5 and 0.5. The
value is a mean over all entries, divided by a typical value, so that a weight means about the same for all
priors and picture sizes. The paper balances its terms in the same way, with other constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Prior: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
"""Function of centred colours and a generator of random numbers."""

HALF = 0.5
"""Distance of black and white from mid-grey; B in the paper."""
EDGE = 0.05
"""A typical difference of neighbouring pixels (ours: a tenth of `HALF`; the paper uses a hundredth)."""
LEVELS = 3
"""Number of levels of the wavelet transform (ours)."""
_TINY = 1e-12  # below an exponent of 2, the gradient is infinite where neighbours are equal


def total_variation(colours: Tensor, exponent: float) -> Tensor:
    """Return the sum over pixels of the length of the gradient to the power of `exponent`.

    The gradient has the differences to the pixel below and to the pixel on the right, for each colour on its
    own. At the last row and column, they are zero.
    """
    down = torch.diff(colours, dim=-2, append=colours[..., -1:, :])
    right = torch.diff(colours, dim=-1, append=colours[..., :, -1:])
    squares = down.square() + right.square()
    if exponent < 2:
        squares = squares.clamp(min=_TINY)
    return squares.pow(exponent / 2).sum()


def haar_details(colours: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Return the detail coefficients of the orthonormal Haar transform, three tensors for each level.

    A level leaves out the last row or column if there is an odd number of them.
    """
    found: list[Tensor] = []
    for _ in range(levels):
        rows, columns = colours.shape[-2] // 2 * 2, colours.shape[-1] // 2 * 2
        if not rows or not columns:
            break
        even = colours[..., :rows, :columns]
        a, b = even[..., ::2, ::2], even[..., ::2, 1::2]
        c, d = even[..., 1::2, ::2], even[..., 1::2, 1::2]
        found += [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
        colours = (a + b + c + d) / 2  # (B, C, h, w) -> (B, C, h/2, w/2)
    return found


def out_of_range(colours: Tensor, exponent: float) -> Tensor:
    """Return the mean of the absolute colours to the power of `exponent`; 1 for a black or white picture."""
    found: Tensor = (colours / HALF).abs().pow(exponent).mean()
    return found


def prior_of(name: str, exponent: float) -> Prior:
    """Return the prior ``tv`` or ``sparse`` as a function."""
    if name == "sparse":
        return _sparse

    def smooth(colours: Tensor, generator: torch.Generator) -> Tensor:
        typical: float = colours.numel() * EDGE**exponent
        return total_variation(colours, exponent) / typical

    return smooth


def _sparse(colours: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean absolute detail coefficient, on a grid of blocks that starts at a random pixel.

    Without the random start, the borders of the blocks would be visible in the picture.
    """
    most = min(2**LEVELS, *colours.shape[-2:])
    top, left = torch.randint(most, (2,), generator=generator).tolist()
    details = haar_details(colours[..., top:, left:])
    if not details:
        return colours.sum() * 0
    total = torch.stack([one.abs().sum() for one in details]).sum()
    return total / (colours.numel() * EDGE)
