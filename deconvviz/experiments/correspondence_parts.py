"""Parts of images for `correspondence`: boxes from a CSV file, or masks of generated scenes."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.errors import SourceError
from deconvviz.experiments.occlusion_fills import scaled_mask
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.paths import reason_of
from deconvviz.printable_names import printable, printable_path
from deconvviz.scenes import Scene

Mask: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = tuple[int, int, int, int]

COLUMNS = ("image", "part", "x0", "y0", "x1", "y1")
OBJECT = "object"
"""Name of the box that random places are inside of. It is not a part."""


@dataclass(frozen=True)
class PartBox:
    """A part of an image: a box (x0, y0, x1, y1) in pixels of the network's input, half open."""

    image: str
    part: str
    box: Box


@dataclass(frozen=True, eq=False)
class PartMasks:
    """Parts of one image: a mask (H, W) in the network's input for each, and the mask of the object."""

    masks: dict[str, Mask]
    region: Mask


def read_parts(path: str | os.PathLike[str]) -> list[PartBox]:
    """Return the boxes in a CSV file with the columns image, part, x0, y0, x1, y1.

    ``image`` is the file name of an image. Boxes are in pixels of the network's input, that is, after
    resizing and cropping; x counts to the right and y downwards; x1 and y1 are the first pixels outside the
    box. The part ``object`` is the box that random places are chosen in.

    Raises:
        SourceError: If the file cannot be read, lacks a column, or a box is not valid.
    """
    shown = printable_path(Path(path))
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise SourceError(
                    f"{shown} lacks the columns {', '.join(missing)}: its first line must be "
                    f"{','.join(COLUMNS)}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except OSError as reason:
        raise SourceError(f"cannot read {shown}: {reason_of(reason)}") from reason
    except (UnicodeDecodeError, csv.Error) as reason:
        raise SourceError(f"{shown} is not a CSV file: {reason}") from reason
    if not rows:
        raise SourceError(f"{shown} has no boxes: give one row for each part of each image")
    return [_part_box(shown, line, row) for line, row in rows]


def _part_box(shown: str, line: int, row: dict[str, str | None]) -> PartBox:
    image, part = (row["image"] or "").strip(), (row["part"] or "").strip()
    try:
        x0, y0, x1, y1 = (int(str(row[name]).strip()) for name in COLUMNS[2:])
    except ValueError as reason:
        raise SourceError(f"{shown}, line {line}: x0, y0, x1 and y1 must be whole numbers") from reason
    if not image or not part:
        raise SourceError(f"{shown}, line {line}: image and part must not be empty")
    if x0 < 0 or y0 < 0 or x1 <= x0 or y1 <= y0:
        raise SourceError(
            f"{shown}, line {line}: the box {x0}, {y0}, {x1}, {y1} of {printable(part)} is empty or "
            "negative: x0 < x1 and y0 < y1 are required"
        )
    return PartBox(image, part, (x0, y0, x1, y1))


def names_of(boxes: Sequence[PartBox]) -> tuple[str, ...]:
    """Return the names of all parts, in the order of their first box."""
    return tuple(dict.fromkeys(one.part for one in boxes if one.part != OBJECT))


def masks_of_boxes(boxes: Sequence[PartBox], size: tuple[int, int]) -> PartMasks:
    """Return the masks of one image of a size (rows, columns). Several boxes of a part are joined.

    Raises:
        SourceError: If a box is not inside the image.
    """
    rows, columns = size
    masks: dict[str, Mask] = {}
    region = np.zeros(size, np.bool_)
    for one in boxes:
        x0, y0, x1, y1 = one.box
        if x1 > columns or y1 > rows:
            raise SourceError(
                f"the box {one.box} of {one.part} in {one.image} is not inside the network's input of "
                f"{columns} x {rows} px: boxes are in pixels after resizing and cropping"
            )
        if one.part == OBJECT:
            region[y0:y1, x0:x1] = True
        else:
            masks.setdefault(one.part, np.zeros(size, np.bool_))[y0:y1, x0:x1] = True
    return PartMasks(masks, region if region.any() else ~region)


def masks_of_scene(scene: Scene, preprocessing: Preprocessing, parts: Sequence[str]) -> PartMasks:
    """Return the masks of some parts of a scene, as far as it has them. The object are all its parts."""
    masks = {part: scaled_mask(scene.parts[part], preprocessing) for part in parts if part in scene.parts}
    return PartMasks(
        {part: mask for part, mask in masks.items() if mask.any()},
        scaled_mask(scene.object_mask, preprocessing),
    )


def box_of(mask: Mask) -> Box:
    """Return the box (x0, y0, x1, y1) around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


TRIES = 50
"""Number of random places that are tried (ours)."""


def random_place(
    mask: Mask, region: Mask, avoid: Mask, random: np.random.Generator, tries: int = TRIES
) -> Mask:
    """Return a mask of the same shape at a random place in a region.

    Places are drawn from the box around the region, or from the whole image if the shape does not fit into
    the box. The first place that is inside the region and does not overlap `avoid` is returned, else the one
    with the fewest pixels outside the region or in `avoid`.
    """
    x0, y0, x1, y1 = box_of(mask)
    shape = mask[y0:y1, x0:x1]
    left, top, right, bottom = box_of(region)
    if right - left < x1 - x0 or bottom - top < y1 - y0:
        left, top, right, bottom = 0, 0, mask.shape[1], mask.shape[0]
    wrong = avoid.astype(int) + ~region
    best, least = mask, np.inf
    for _ in range(tries):
        y = int(random.integers(top, bottom - shape.shape[0] + 1))
        x = int(random.integers(left, right - shape.shape[1] + 1))
        cost = int(wrong[y : y + shape.shape[0], x : x + shape.shape[1]][shape].sum())
        if cost < least:
            best = np.zeros_like(mask)
            best[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
            least = cost
        if not cost:
            break
    return best
