"""The unit that is the score of a class: one output, one position of a map, or a sum over a mask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deconvviz.engine.region import Region
from deconvviz.engine.units import Unit
from deconvviz.errors import UnitError
from deconvviz.images.masks import Mask, as_in_the_input, as_mask, read_mask
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.classes import class_index
from deconvviz.printable_names import path_to_text
from deconvviz.wording import counted

WINS = "wins"
"""In place of a mask: the positions where the class has the highest score."""

MaskLike: TypeAlias = "str | os.PathLike[str] | np.ndarray[Any, Any] | Tensor"


@dataclass(frozen=True)
class ScoredImage:
    """Class scores of one image of a recording, with the sizes that a mask may have."""

    scores: Tensor  # (classes,) or (classes, rows, columns)
    layer: str
    image: int
    input_size: tuple[int, int]  # rows and columns of the network's input
    picture_size: tuple[int, int] | None  # of the image before preprocessing; None for a prepared tensor
    preprocessing: Preprocessing


def class_unit(
    one: ScoredImage, classes: tuple[str, ...], asked: str | int, at: Any = None, mask: MaskLike | None = None
) -> Unit:
    """Return the unit or the region that is a score of a class. See `Recording.class_unit`."""
    channel = class_index(asked, classes, outputs=one.scores.shape[0])
    if (place := check_place(tuple(one.scores.shape), one.layer, at, mask)) is not None:
        return Unit(one.image, channel, *place)
    if mask is None:
        return Unit(one.image, channel)
    if isinstance(mask, str) and mask == WINS:
        return _where_it_wins(one, classes, channel)
    inside, name = _read(mask)
    fitted = _fitted(inside, one)
    if not fitted.any():
        raise UnitError(f"the mask marks no position of {one.layer}")
    return Region.of(one.image, channel, fitted, name=name)


def check_place(
    shape: tuple[int, ...], layer: str, at: Any = None, mask: MaskLike | None = None
) -> tuple[int, int] | None:
    """Return row and column of `at`, if it is given.

    Raise UnitError if scores of this shape, (classes,) or (classes, rows, columns), do not have the position,
    or have several positions and none is given.
    """
    if at is not None and mask is not None:
        raise UnitError("give {option} or {option}, not both", option=("at=(y, x)", "mask=FILE"))
    if len(shape) == 1:
        if at is not None or mask is not None:
            raise UnitError(
                f"{layer} has one score for each class, without positions: leave {{option}} out",
                option="at=(y, x)" if at is not None else "mask=FILE",
            )
        return None
    rows, columns = shape[1:]
    if at is not None:
        return _position(at, rows, columns, layer)
    if mask is None and rows * columns > 1:
        raise UnitError(
            f"{layer} has class scores at {rows} x {columns} positions: give one with {{option}}, or several "
            f"with {{option}} (or {WINS}: where the class has the highest score)",
            option=("at=(y, x)", "mask=FILE"),
        )
    return None


def _position(at: Any, rows: int, columns: int, layer: str) -> tuple[int, int]:
    try:
        y, x = (int(number) for number in at)
    except (TypeError, ValueError):
        raise UnitError(f"{at!r} is not a position: give a row and a column, (y, x)") from None
    if not (0 <= y < rows and 0 <= x < columns):
        raise UnitError(
            f"no position ({y}, {x}) in {layer}: rows are 0 to {rows - 1}, columns 0 to {columns - 1}"
        )
    return y, x


def _where_it_wins(one: ScoredImage, classes: tuple[str, ...], channel: int) -> Region:
    best = one.scores.argmax(0)
    if not bool((best == channel).any()):
        counts = torch.bincount(best.flatten(), minlength=len(one.scores))
        winners = [int(number) for number in counts.argsort(descending=True)[:3] if counts[number] > 0]
        shown = ", ".join(f"{_name(number, classes)} at {counts[number]:,}" for number in winners)
        raise UnitError(
            f"{_name(channel, classes)} has the highest score at no position of {one.layer}; the classes "
            f"that have it most often: {shown} of {counted(best.numel(), 'position')}"
        )
    return Region.of(one.image, channel, best == channel, name="where it is highest")


def _name(channel: int, classes: tuple[str, ...]) -> str:
    return f"{classes[channel]} ({channel})" if channel < len(classes) else f"class {channel}"


def _read(mask: MaskLike) -> tuple[Mask, str]:
    if isinstance(mask, (str, os.PathLike)):
        return read_mask(mask), path_to_text(Path(mask).name)
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    return as_mask(array), "mask"


def _fitted(mask: Mask, one: ScoredImage) -> Mask:
    """Return a mask of the map of scores, of the network's input or of the picture as one of the map."""
    rows, columns = one.scores.shape[1:]
    if mask.shape == (rows, columns):
        return mask
    if mask.shape != one.input_size and mask.shape != one.picture_size:
        sizes = dict.fromkeys([(rows, columns), one.input_size, one.picture_size])
        listed = ", ".join(f"{size[0]} x {size[1]}" for size in sizes if size)
        raise UnitError(
            f"a mask of {mask.shape[0]} x {mask.shape[1]} does not fit: give one of the size of the class "
            f"scores, of the network's input or of the picture ({listed})"
        )
    inside = mask if mask.shape == one.input_size else as_in_the_input(mask, one.preprocessing)
    resized = interpolate(torch.from_numpy(inside)[None, None].float(), (rows, columns), mode="nearest-exact")
    found: Mask = resized[0, 0].numpy() > 0.5
    return found
