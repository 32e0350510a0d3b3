"""One scene: an object built from named parts, over a texture, among clutter, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvviz.scenes import backgrounds, creatures, places, vehicles
from deconvviz.scenes.canvas import FIRST_STRAY, NOBODY, SUPERSAMPLING, Canvas, Mask, Pen
from deconvviz.scenes.colours import Palette, palette
from deconvviz.scenes.dice import Dice
from deconvviz.scenes.shapes import Pose

SMALLEST = 32


@dataclass(frozen=True)
class Sitter:
    """How one class is drawn, and how far it may lean to either side, in degrees."""

    draw: Callable[[Pen, Palette, Dice], None]
    lean: float


SITTERS: dict[str, Sitter] = {
    "airplane": Sitter(vehicles.airplane, 35),
    "bicycle": Sitter(vehicles.bicycle, 18),
    "bird": Sitter(creatures.bird, 22),
    "boat": Sitter(vehicles.boat, 16),
    "butterfly": Sitter(creatures.butterfly, 45),
    "car": Sitter(vehicles.car, 18),
    "face": Sitter(creatures.face, 22),
    "fish": Sitter(creatures.fish, 35),
    "flower": Sitter(places.flower, 30),
    "house": Sitter(places.house, 14),
    "robot": Sitter(creatures.robot, 20),
    "train": Sitter(vehicles.train, 14),
}
CLASSES: tuple[str, ...] = tuple(SITTERS)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with its ground truth.

    Every mask is bool (H, W) and holds the pixels whose centre shows that part, the gaps between a bicycle's
    spokes included. Masks never overlap, and a part that is wholly hidden has no key. `strays` are parts that
    belong to no object (a lone wheel on the ground).
    """

    image: NDArray[np.uint8]  # uint8 (H, W, 3)
    label: int
    name: str
    parts: dict[str, Mask]
    strays: dict[str, Mask]
    seed: int

    @property
    def object_mask(self) -> Mask:
        """All parts of the object together, bool (H, W)."""
        together = np.zeros(self.image.shape[:2], np.bool_)
        for mask in self.parts.values():
            together |= mask
        return together

    def __repr__(self) -> str:
        side = self.image.shape[0]
        return f"Scene({self.name!r}, seed={self.seed}, {side}x{side}, parts: {', '.join(self.parts)})"


def scene(seed: int, label: int | str | None = None, size: int = 96) -> Scene:
    """The scene of a seed; `label` asks for a class by name or number instead of the one the seed draws.

    Raises ValueError for a negative seed, a class that there is not, or a size under 32.
    """
    _check(seed, size)
    dice = Dice(seed)
    drawn = dice.whole(0, len(CLASSES) - 1)
    number = drawn if label is None else _class_number(label)
    colours = palette(dice)
    canvas = Canvas(backgrounds.ground(size, colours, dice))
    backgrounds.clutter(canvas, colours, dice, dice.whole(0, 7), largest=0.16)
    for _ in range(max(0, dice.whole(-2, 2))):
        backgrounds.stray_part(canvas, colours, dice)
    sitter = SITTERS[CLASSES[number]]
    sitter.draw(_object_pen(canvas, colours, sitter.lean, dice), colours, dice)
    backgrounds.clutter(canvas, colours, dice, max(0, dice.whole(-1, 3)), largest=0.08)
    picture, owners = canvas.developed()
    owned_by_object = (owners > NOBODY) & (owners < FIRST_STRAY)
    image = backgrounds.lit(picture, owned_by_object, dice)
    parts, strays = canvas.masks(owners, stray=False), canvas.masks(owners, stray=True)
    return Scene(image, number, CLASSES[number], parts, strays, seed)


def scenes(count: int, seed: int = 0, size: int = 96) -> Iterator[Scene]:
    """`count` scenes with the seeds `seed`, `seed + 1`, ..."""
    if count < 0:
        raise ValueError(f"count {count} asked for: a number of scenes is 0 or more")
    _check(seed, size)
    return (scene(one, size=size) for one in range(seed, seed + count))


def _check(seed: int, size: int) -> None:
    if seed < 0:
        raise ValueError(f"seed {seed} asked for: a seed is a whole number from 0 on")
    if size < SMALLEST:
        raise ValueError(f"size {size} asked for: a scene needs at least {SMALLEST} px to show its parts")


def _class_number(label: int | str) -> int:
    if isinstance(label, str):
        if label not in SITTERS:
            raise ValueError(f"no class {label!r} in the scenes: there are {', '.join(CLASSES)}")
        return CLASSES.index(label)
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"no class number {label} in the scenes: they run from 0 to {len(CLASSES) - 1}")
    return int(label)


def _object_pen(canvas: Canvas, colours: Palette, lean: float, dice: Dice) -> Pen:
    side = canvas.picture.width
    half = dice.between(0.27, 0.45)
    room = 0.5 - half + 0.05  # an object may stand out of the picture by a twentieth
    pose = Pose.at(
        side * (0.5 + dice.between(-room, room)),
        side * (0.5 + dice.between(-room, room)),
        side * half,
        dice.between(-lean, lean),
        dice.between(0.88, 1.14),
        flip=dice.chance(0.5),
    )
    outline, width = backgrounds.outline_of(colours, dice)
    pattern = backgrounds.pattern(side // SUPERSAMPLING, dice) if dice.chance(0.6) else None
    if pattern is not None:
        pattern = pattern.resize((side, side))
    return Pen(canvas, pose, outline, width, pattern)
