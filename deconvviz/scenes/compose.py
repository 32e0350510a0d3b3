"""Composition of a scene from a seed: an object with named parts, on a texture, with clutter around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvviz.scenes import backgrounds, creatures, places, vehicles
from deconvviz.scenes.canvas import BACKGROUND, FIRST_DISTRACTOR, SUPERSAMPLING, Canvas, Mask, Pen
from deconvviz.scenes.colours import Palette, palette
from deconvviz.scenes.dice import SceneRng
from deconvviz.scenes.shapes import Pose

SMALLEST = 32


@dataclass(frozen=True)
class ObjectClass:
    """Function that draws the objects of one class, and their largest rotation."""

    draw: Callable[[Pen, Palette, SceneRng], None]
    max_turn: float  # degrees, to either side


OBJECT_CLASSES: dict[str, ObjectClass] = {
    "airplane": ObjectClass(vehicles.airplane, 35),
    "bicycle": ObjectClass(vehicles.bicycle, 18),
    "bird": ObjectClass(creatures.bird, 22),
    "boat": ObjectClass(vehicles.boat, 16),
    "butterfly": ObjectClass(creatures.butterfly, 45),
    "car": ObjectClass(vehicles.car, 18),
    "face": ObjectClass(creatures.face, 22),
    "fish": ObjectClass(creatures.fish, 35),
    "flower": ObjectClass(places.flower, 30),
    "house": ObjectClass(places.house, 14),
    "robot": ObjectClass(creatures.robot, 20),
    "train": ObjectClass(vehicles.train, 14),
}
CLASSES: tuple[str, ...] = tuple(OBJECT_CLASSES)


@dataclass(frozen=True, eq=False)
class Scene:
    """Generated image with its ground truth.

    Each mask is a bool array (H, W), True at the pixels whose centre shows the part. The mask of a bicycle
    wheel includes the gaps between the spokes. Masks never overlap. A part that is completely hidden has no
    mask.

    Attributes:
        image: Pixels, uint8 (H, W, 3).
        label: Index of the class in `CLASSES`.
        name: Name of the class.
        parts: Masks of the parts of the object, by name.
        distractors: Masks of parts that do not belong to the object, by name (for example a single wheel).
        seed: Seed of the scene.
    """

    image: NDArray[np.uint8]  # uint8 (H, W, 3)
    label: int
    name: str
    parts: dict[str, Mask]
    distractors: dict[str, Mask]
    seed: int

    @property
    def object_mask(self) -> Mask:
        """Union of the masks of all parts of the object, bool (H, W)."""
        together = np.zeros(self.image.shape[:2], np.bool_)
        for mask in self.parts.values():
            together |= mask
        return together

    def __repr__(self) -> str:
        side = self.image.shape[0]
        return f"Scene({self.name!r}, seed={self.seed}, {side}x{side}, parts: {', '.join(self.parts)})"


def scene(seed: int, label: int | str | None = None, size: int = 96) -> Scene:
    """Return the scene of a seed. The same arguments always return the same image.

    Args:
        seed: Seed, 0 or more.
        label: Class, by name or by its index in `CLASSES`. By default the seed determines the class.
        size: Side of the square image, in pixels.

    Raises:
        ValueError: The seed is negative, the class does not exist, or the size is less than 32.
    """
    _check(seed, size)
    rng = SceneRng(seed)
    random_class = rng.integer(0, len(CLASSES) - 1)
    number = random_class if label is None else _class_number(label)
    colours = palette(rng)
    canvas = Canvas(backgrounds.background(size, colours, rng))
    backgrounds.clutter(canvas, colours, rng, rng.integer(0, 7), largest=0.16)
    for _ in range(max(0, rng.integer(-2, 2))):
        backgrounds.draw_distractor(canvas, colours, rng)
    object_class = OBJECT_CLASSES[CLASSES[number]]
    object_class.draw(_object_pen(canvas, colours, object_class.max_turn, rng), colours, rng)
    backgrounds.clutter(canvas, colours, rng, max(0, rng.integer(-1, 3)), largest=0.08)
    drawn_image, part_map = canvas.render()
    object_mask = (part_map > BACKGROUND) & (part_map < FIRST_DISTRACTOR)
    image = backgrounds.apply_lighting(drawn_image, object_mask, rng)
    parts, distractors = canvas.masks(part_map, distractor=False), canvas.masks(part_map, distractor=True)
    return Scene(image, number, CLASSES[number], parts, distractors, seed)


def scenes(count: int, seed: int = 0, size: int = 96) -> Iterator[Scene]:
    """Return an iterator over `count` scenes with the seeds `seed`, `seed + 1`, ...

    Raises:
        ValueError: The count or the seed is negative, or the size is less than 32.
    """
    if count < 0:
        raise ValueError(f"invalid count {count}: the number of scenes must be 0 or more")
    _check(seed, size)
    return (scene(one, size=size) for one in range(seed, seed + count))


def _check(seed: int, size: int) -> None:
    if seed < 0:
        raise ValueError(f"invalid seed {seed}: a seed must be 0 or more")
    if size < SMALLEST:
        raise ValueError(f"invalid size {size}: a scene must have at least {SMALLEST} px to show its parts")


def _class_number(label: int | str) -> int:
    if isinstance(label, str):
        if label not in OBJECT_CLASSES:
            raise ValueError(f"no scene class {label!r}: the classes are {', '.join(CLASSES)}")
        return CLASSES.index(label)
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"no scene class {label}: the class numbers are 0 to {len(CLASSES) - 1}")
    return int(label)


def _object_pen(canvas: Canvas, colours: Palette, max_turn: float, rng: SceneRng) -> Pen:
    side = canvas.image.width
    half = rng.between(0.27, 0.45)
    room = 0.5 - half + 0.05  # an object may extend beyond the image by 5 % of its side
    pose = Pose.at(
        side * (0.5 + rng.between(-room, room)),
        side * (0.5 + rng.between(-room, room)),
        side * half,
        rng.between(-max_turn, max_turn),
        rng.between(0.88, 1.14),
        flip=rng.chance(0.5),
    )
    outline, width = backgrounds.outline_of(colours, rng)
    pattern = backgrounds.pattern(side // SUPERSAMPLING, rng) if rng.chance(0.6) else None
    if pattern is not None:
        pattern = pattern.resize((side, side))
    return Pen(canvas, pose, outline, width, pattern)
