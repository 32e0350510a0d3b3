"""Transformations of a picture, with the amounts of the paper's Figure 5."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, pad

from deconvviz.errors import ImageError
from deconvviz.experiments.invariance.canvas import Canvas, Floats
from deconvviz.experiments.invariance.names import TRANSFORMS, check_transforms

PAPER_SIZE = 224
"""Size of the paper's pictures. Amounts in pixels are in proportion for other sizes."""

Positions: TypeAlias = tuple[Floats, Floats]
Picture: TypeAlias = tuple[Tensor, float]  # (C, rows, columns) from 0 to 1, share of pixels from outside


@dataclass(frozen=True)
class Transform:
    """A kind of transformation.

    Attributes:
        name: Name.
        title: Title in figures.
        units: Units of the amount.
        identity: The amount that does not change the picture; None if there is none.
        move: For a movement, a function from an amount, positions (dy, dx) relative to the centre of the
            transformed picture and nothing else to the positions in the original. None for other changes.
    """

    name: str
    title: str
    units: str
    identity: float | None
    move: Callable[[float, Floats, Floats], Positions] | None = None

    def apply(self, canvas: Canvas, amount: float, border: str) -> Picture:
        """Return the transformed picture, and the share of its pixels from outside the image file."""
        if amount == self.identity:
            return canvas.crop(), 0.0
        if self.move is None:
            return _CHANGES[self.name](canvas, amount), 0.0
        y, x = self.positions(amount, *grid(canvas.size), canvas.size)
        return canvas.sample(y, x, border)

    def positions(self, amount: float, y: Floats, x: Floats, size: tuple[int, int]) -> Positions:
        """Return where pixels (y, x) of the transformed picture were in the original of this size."""
        assert self.move is not None
        middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
        dy, dx = self.move(amount, y - middle_y, x - middle_x)
        return dy + middle_y, dx + middle_x


def grid(size: tuple[int, int]) -> Positions:
    """Return the rows and columns of all pixels, each (rows, columns)."""
    y, x = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return y.astype(np.float64), x.astype(np.float64)


def _down(amount: float, dy: Floats, dx: Floats) -> Positions:
    return dy - amount, dx


def _right(amount: float, dy: Floats, dx: Floats) -> Positions:
    return dy, dx - amount


def _enlarged(amount: float, dy: Floats, dx: Floats) -> Positions:
    return dy / amount, dx / amount


def _turned(amount: float, dy: Floats, dx: Floats) -> Positions:
    """Rotate counter-clockwise by `amount` degrees. Quarter turns are exact."""
    angle = math.radians(amount)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    return cos * dy + sin * dx, cos * dx - sin * dy


def _blurred(canvas: Canvas, amount: float) -> Tensor:
    """Blur with a Gaussian of `amount` pixels. Real pixels around the crop are used."""
    radius = max(1, math.ceil(3 * amount))
    positions = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (positions / amount) ** 2)
    kernel = (weights / weights.sum()).float()
    whole = canvas.colours[:, None]  # (C, 1, H, W)
    whole = pad(whole, (0, 0, radius, radius), mode="replicate")
    whole = conv2d(whole, kernel[None, None, :, None])
    whole = pad(whole, (radius, radius, 0, 0), mode="replicate")
    return canvas.crop(conv2d(whole, kernel[None, None, None, :])[:, 0])


def _brightened(canvas: Canvas, amount: float) -> Tensor:
    return (canvas.crop() * amount).clamp(0, 1)


def _compressed(canvas: Canvas, amount: float) -> Tensor:
    pixels = (canvas.crop() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    grey = pixels.shape[2] == 1
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(stream, "JPEG", quality=int(amount))
    with Image.open(stream) as image:
        found = np.array(image).reshape(pixels.shape)
    return torch.from_numpy(found).permute(2, 0, 1).float() / 255


_CHANGES: Mapping[str, Callable[[Canvas, float], Tensor]] = {
    "blur": _blurred,
    "brightness": _brightened,
    "jpeg": _compressed,
}
_MOVES = {"translate": _down, "translate-x": _right, "scale": _enlarged, "rotate": _turned}


def transform(name: str) -> Transform:
    """Return a transformation by its name."""
    described = TRANSFORMS[name]
    return Transform(name, described.title, described.units, described.identity, _MOVES.get(name))


def amounts_of(
    name: str, size: tuple[int, int], span: tuple[float, float] | None, steps: int | None
) -> Floats:
    """Return the amounts of a transformation for pictures of a size, in ascending order.

    Without `span` and `steps`, they are those of the paper's Figure 5, with the numbers of steps that
    `names.TRANSFORMS` states (ours). Translations are whole pixels and include 1 and 2 pixels, because
    networks can react to a single pixel (Azulay and Weiss, 2019).

    Raises:
        ImageError: If an amount is impossible for the picture.
    """
    described = TRANSFORMS[name]
    length = size[1] if name == "translate-x" else size[0]
    factor = length / PAPER_SIZE if described.in_pixels else 1.0
    low, high = span or (described.low * factor, described.high * factor)
    count = described.steps if steps is None else steps
    found = np.linspace(low, high, count)
    if name.startswith("translate"):
        found = np.round(found)
        if span is None and steps is None:
            found = np.concatenate([found, [-2, -1, 0, 1, 2]])
    elif name == "jpeg":
        found = np.round(found)
    found = np.unique(found + 0.0)
    check_transforms([name], {name: (float(found[0]), float(found[-1]))})
    if name.startswith("translate") and np.abs(found).max() >= length:
        raise ImageError(
            f"{name}: a movement by {np.abs(found).max():g} pixels was requested, but the picture has "
            f"{length}. Choose a smaller range"
        )
    return found


def chosen(names: Sequence[str]) -> tuple[Transform, ...]:
    """Return transformations by their names, without repetition."""
    return tuple(transform(name) for name in dict.fromkeys(names))
