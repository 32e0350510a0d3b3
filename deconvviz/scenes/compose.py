"""Composition of a scene from a seed: an object with named parts, on a texture, with clutter around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deconvviz.scenes import backgrounds, creatures, places, vehicles
from deconvviz.scenes.canvas import (
    BACKGROUND,
    FIRST_DISTRACTOR,
    NO_CHANGES,
    SUPERSAMPLING,
    Canvas,
    Changes,
    Mask,
    PartMap,
    Pen,
)
from deconvviz.scenes.colours import Palette, palette
from deconvviz.scenes.dice import SceneRng
from deconvviz.scenes.shapes import Pose

SMALLEST = 32
RECOLOURING = (0.35, 0.65)  # limits of the turn of the hue of a recoloured part; 1 is a full turn


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
        without: Names of the parts that are left out.
        recolour: Names of the parts that have another colour.
    """

    image: NDArray[np.uint8]  # uint8 (H, W, 3)
    label: int
    name: str
    parts: dict[str, Mask]
    distractors: dict[str, Mask]
    seed: int
    without: tuple[str, ...] = ()
    recolour: tuple[str, ...] = ()

    @property
    def object_mask(self) -> Mask:
        """Union of the masks of all parts of the object, bool (H, W)."""
        together = np.zeros(self.image.shape[:2], np.bool_)
        for mask in self.parts.values():
            together |= mask
        return together

    def __repr__(self) -> str:
        side = self.image.shape[0]
        changes = f", without {', '.join(self.without)}" if self.without else ""
        changes += f", recoloured {', '.join(self.recolour)}" if self.recolour else ""
        parts = ", ".join(self.parts)
        return f"Scene({self.name!r}, seed={self.seed}, {side}x{side}{changes}, parts: {parts})"

    def redrawn(self, without: str | Collection[str] = (), recolour: str | Collection[str] = ()) -> Scene:
        """Return this scene without some parts, or with parts in another colour, as `scene` does.

        Changes of this scene itself are not kept: `without` and `recolour` are names of parts of the complete
        scene.
        """
        return scene(self.seed, self.label, self.image.shape[0], without=without, recolour=recolour)


@dataclass(frozen=True, eq=False)
class _Drawing:
    """Scene before light, shadow and noise are added."""

    seed: int
    label: int
    canvas: Canvas
    image: Image.Image
    part_map: PartMap
    rng: SceneRng  # has drawn all random numbers but those of the lighting

    def masks(self, distractor: bool) -> dict[str, Mask]:
        return self.canvas.masks(self.part_map, distractor)

    def lit(self) -> NDArray[np.uint8]:
        """Return the finished image, uint8 (H, W, 3). Can be called once, because it draws random numbers."""
        object_mask = (self.part_map > BACKGROUND) & (self.part_map < FIRST_DISTRACTOR)
        return backgrounds.apply_lighting(self.image, object_mask, self.rng)


def scene(
    seed: int,
    label: int | str | None = None,
    size: int = 96,
    *,
    without: str | Collection[str] = (),
    recolour: str | Collection[str] = (),
) -> Scene:
    """Return the scene of a seed. The same arguments always return the same image.

    The scene can be redrawn without some parts of its object, or with parts in another colour. Everything
    else stays the same, pixel for pixel: only the pixels of such a part change (those of its mask in the
    complete scene), and pixels that touch them, which antialiasing blends with the part.

    Where a part is missing, the image shows what is behind it: other parts, distractors, clutter or the
    background, in the light and shadow that they have without the part. The missing part has no mask. The
    masks of what is behind it include the pixels that it hid, so a part or distractor that is completely
    hidden in the complete scene can get a mask. Outside the pixels that change, the shadow of a missing part
    stays.

    Args:
        seed: Seed, 0 or more.
        label: Class, by name or by its index in `CLASSES`. By default the seed determines the class.
        size: Side of the square image, in pixels.
        without: Name of a part, or names of parts, to leave out. The names are those of `Scene.parts` of the
            complete scene.
        recolour: Name of a part, or names of parts, to draw in another hue, which the seed determines.
            Outlines keep their colour.

    Raises:
        ValueError: The seed is negative, the class does not exist, the size is less than 32, the scene has no
            part of that name, or a part is in both `without` and `recolour`.

    Example:
        >>> from deconvviz.scenes import scene
        >>> drawn = scene(7)
        >>> drawn.name, drawn.image.shape, sorted(drawn.parts)
        ('fish', (96, 96, 3), ['body', 'eye', 'fin', 'gill', 'mouth', 'tail'])
    """
    _check(seed, size)
    complete = _draw(seed, label, size, NO_CHANGES)
    removed = _chosen(without, complete, "leave out")
    recoloured = _chosen(recolour, complete, "recolour")
    if both := [part for part in removed if part in recoloured]:
        raise ValueError(f"cannot both leave out and recolour a part: {', '.join(both)}")
    if not removed and not recoloured:
        return _finished(complete, complete.lit())
    turns = {part: SceneRng(seed, *part.encode()).between(*RECOLOURING) for part in recoloured}
    redrawn = _draw(seed, label, size, Changes(frozenset(removed), turns))
    masks = complete.masks(distractor=False)
    changed = _with_neighbours(np.logical_or.reduce([masks[part] for part in (*removed, *recoloured)]))
    image = np.where(changed[..., None], redrawn.lit(), complete.lit())
    return replace(_finished(redrawn, image), without=removed, recolour=recoloured)


def _finished(drawing: _Drawing, image: NDArray[np.uint8]) -> Scene:
    return Scene(
        image=image,
        label=drawing.label,
        name=CLASSES[drawing.label],
        parts=drawing.masks(distractor=False),
        distractors=drawing.masks(distractor=True),
        seed=drawing.seed,
    )


def _with_neighbours(mask: Mask) -> Mask:
    """Return the mask together with the eight neighbours of each of its pixels."""
    rows, columns = mask.shape
    padded = np.pad(mask, 1)
    grown = np.zeros_like(mask)
    for y in range(3):
        for x in range(3):
            grown |= padded[y : y + rows, x : x + columns]
    return grown


def _draw(seed: int, label: int | str | None, size: int, changes: Changes) -> _Drawing:
    rng = SceneRng(seed)
    random_class = rng.integer(0, len(CLASSES) - 1)
    number = random_class if label is None else _class_number(label)
    colours = palette(rng)
    canvas = Canvas(backgrounds.background(size, colours, rng), changes)
    backgrounds.clutter(canvas, colours, rng, rng.integer(0, 7), largest=0.16)
    for _ in range(max(0, rng.integer(-2, 2))):
        backgrounds.draw_distractor(canvas, colours, rng)
    object_class = OBJECT_CLASSES[CLASSES[number]]
    object_class.draw(_object_pen(canvas, colours, object_class.max_turn, rng), colours, rng)
    backgrounds.clutter(canvas, colours, rng, max(0, rng.integer(-1, 3)), largest=0.08)
    return _Drawing(seed, number, canvas, *canvas.render(), rng)


def _chosen(names: str | Collection[str], complete: _Drawing, what: str) -> tuple[str, ...]:
    """Return the names in the order of the parts."""
    wanted = {names} if isinstance(names, str) else set(names)
    parts = list(complete.masks(distractor=False))
    if unknown := sorted(wanted.difference(parts)):
        raise ValueError(
            f"cannot {what} {', '.join(map(repr, unknown))}: the parts of this {CLASSES[complete.label]} are "
            f"{', '.join(parts)}"
        )
    return tuple(part for part in parts if part in wanted)


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
