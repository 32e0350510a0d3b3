"""Images of `correspondence`, prepared, with their parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from deconvviz.errors import ImageError, SourceError
from deconvviz.experiments.correspondence_parts import (
    PartBox,
    PartMasks,
    masks_of_boxes,
    masks_of_scene,
    names_of,
    read_parts,
)
from deconvviz.experiments.correspondence_rows import RANDOM
from deconvviz.experiments.named_images import NamedImage
from deconvviz.experiments.occlusion_fills import Fill, fill_of
from deconvviz.experiments.used_images import UsedImage
from deconvviz.network import Network
from deconvviz.scenes import Scene
from deconvviz.wording import listed

Parts: TypeAlias = "str | os.PathLike[str] | Sequence[str] | Sequence[PartBox]"

LOOKED_AT = 50
"""Number of scenes whose parts an error message names."""
LEAST_IMAGES = 2
"""Smallest number of images that can be compared."""


@dataclass(frozen=True, eq=False)
class Case:
    """One image with its parts."""

    name: str
    inputs: Tensor  # (C, H, W)
    parts: PartMasks
    fill: Fill
    scene: Scene | None
    used: UsedImage


def given_parts(parts: Parts) -> tuple[tuple[str, ...], list[PartBox]]:
    """Return the names of the parts, and their boxes; no boxes for scenes."""
    if isinstance(parts, os.PathLike) or (isinstance(parts, str) and parts.lower().endswith(".csv")):
        boxes = read_parts(parts)
    elif isinstance(parts, str):
        return (parts,), []
    else:
        boxes = [one for one in parts if isinstance(one, PartBox)]
        plain = tuple(dict.fromkeys(one for one in parts if isinstance(one, str)))
        if not boxes and plain:
            return plain, []
    names = names_of(boxes)
    if not names:
        raise SourceError("no part was given: name one or more, or give a CSV file of boxes")
    if RANDOM in names:
        raise SourceError(f"a part cannot have the name {RANDOM!r}, which is that of the random places")
    return names, boxes


def cases_of(
    net: Network,
    images: Sequence[NamedImage],
    names: Sequence[str],
    boxes: Sequence[PartBox],
    fill: str,
    seed: int,
) -> list[Case]:
    """Return the images that have at least one part, prepared."""
    if boxes:
        there = {one.name for one in images}
        if missing := sorted({one.image for one in boxes} - there):
            raise SourceError(
                f"{listed(missing)} of the boxes {'is' if len(missing) == 1 else 'are'} not among the "
                f"{len(images)} images"
            )
    cases = []
    for one in images:
        own = [box for box in boxes if box.image == one.name]
        if boxes and not own:
            continue
        scene = None if one.scene is None else one.scene()
        if not boxes and scene is None:
            raise SourceError(
                f"the parts of {one.name} are not known: give a CSV file with boxes, or scenes (scenes:20)"
            )
        if scene is not None and not boxes and not set(names) & set(scene.parts):
            continue
        opened = one.open()
        inputs = _prepared(net, opened)
        size = (inputs.shape[1], inputs.shape[2])
        if boxes:
            masks = masks_of_boxes(own, size)
        else:
            assert scene is not None
            masks = masks_of_scene(scene, net.preprocessing, names)
        maker = fill_of(fill, inputs, net.preprocessing, scene=scene, seed=seed)
        cases.append(Case(one.name, inputs, masks, maker, scene, UsedImage.of(one, opened)))
    return cases


def _prepared(net: Network, opened: Any) -> Tensor:
    """Return an image as the network's input (C, H, W)."""
    if isinstance(opened, Tensor):
        return opened.reshape(opened.shape[-3:]).to(net.device, net.dtype)
    if not net.preprocessing.reads_images:
        raise ImageError(f"{net.name} does not read images: give prepared tensors")
    return net.preprocessing.apply(opened.rgb, opened.reduced).to(net.device, net.dtype)


def too_few(name: str, having: Sequence[Case], images: Sequence[NamedImage], boxes: Sequence[PartBox]) -> str:
    """Return the message for a part that too few images have. It names the parts that there are."""
    there = "one image has it" if having else "no image has it"
    if boxes:
        known = names_of(boxes)
    else:
        scenes = [image.scene() for image in images[:LOOKED_AT] if image.scene is not None]
        known = tuple(dict.fromkeys(part for one in scenes for part in one.parts))
    parts = f". There are {', '.join(known[:12])}" if known and not having else ""
    return f"the part {name!r} must be in at least {LEAST_IMAGES} images, and {there}{parts}"
