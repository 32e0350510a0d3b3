"""What stands around the object: textured grounds, clutter, and light."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from deconvviz.scenes import parts
from deconvviz.scenes.canvas import Canvas, Mask, Pen
from deconvviz.scenes.colours import Colour, Palette, darker, hsv, lighter, mix
from deconvviz.scenes.dice import Dice
from deconvviz.scenes.shapes import Pose, box, curve, oval

Share = NDArray[np.floating]  # (H, W), how much of the second colour: 0 .. 1
Texture = Callable[[int, Dice], Share]


def _grid(side: int, turn: float) -> tuple[Share, Share]:
    """Coordinates in 0 .. 1 pictures, turned by `turn` degrees."""
    axis: Share = (np.arange(side, dtype=np.float32) + 0.5) / side
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    x: Share = axis[None, :] * cos + axis[:, None] * sin
    y: Share = axis[:, None] * cos - axis[None, :] * sin
    return x, y


def clouds(side: int, dice: Dice) -> Share:
    """Smooth noise of three sizes."""
    total = np.zeros((side, side), np.float32)
    for cells, weight in ((3, 0.6), (7, 0.3), (15, 0.15)):
        coarse = Image.fromarray(dice.field(cells, cells).astype(np.float32))
        total += weight * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    np.clip(total, 0, 1, out=total)
    return total


def gradient(side: int, dice: Dice) -> Share:
    x, _ = _grid(side, dice.between(0, 360))
    share: Share = (x - x.min()) / (x.max() - x.min())
    return share


def stripes(side: int, dice: Dice) -> Share:
    x, _ = _grid(side, dice.between(0, 180))
    return _soft_steps(np.sin(x * math.tau * dice.between(4, 12)), side)


def checks(side: int, dice: Dice) -> Share:
    x, y = _grid(side, dice.between(0, 90))
    rate = math.tau * dice.between(2, 5)
    return _soft_steps(np.sin(x * rate) * np.sin(y * rate) * 2, side)


def dots(side: int, dice: Dice) -> Share:
    x, y = _grid(side, dice.between(0, 90))
    rate = math.tau * dice.between(4, 9)
    return _soft_steps(np.sin(x * rate) + np.sin(y * rate) - 0.9, side)


def ripples(side: int, dice: Dice) -> Share:
    x, y = _grid(side, dice.between(-25, 25))
    bend = dice.between(0.02, 0.05) * np.sin(x * math.tau * dice.between(1, 3))
    wave: Share = np.sin((y + bend) * math.tau * dice.between(5, 12))
    return 0.5 + 0.5 * wave


def bricks(side: int, dice: Dice) -> Share:
    x, y = _grid(side, dice.between(-8, 8))
    rows = y * dice.between(6, 10)
    columns = x * dice.between(3, 5) + 0.5 * (np.floor(rows) % 2)
    mortar: Share = ((rows % 1 < 0.16) | (columns % 1 < 0.09)).astype(np.float32)
    return mortar


def horizon(side: int, dice: Dice) -> Share:
    """Ground below, sky above, the border a little tilted and rough."""
    x, y = _grid(side, dice.between(-8, 8))
    rough = 0.03 * np.sin(x * math.tau * dice.between(1, 4) + dice.between(0, 6))
    return _soft_steps((y + rough - dice.between(0.45, 0.75)) * 8, side)


def _soft_steps(wave: Share, side: int) -> Share:
    """A wave cut to two levels with edges about one pixel wide."""
    return np.clip(0.5 + wave * side / 48, 0, 1)


GROUNDS: tuple[Texture, ...] = (clouds, gradient, stripes, checks, dots, ripples, bricks, horizon)
PATTERNS: tuple[Texture, ...] = (stripes, dots, checks)


def pattern(side: int, dice: Dice) -> Image.Image:
    """A mask (mode L) through which an object's body gets its second tint."""
    return Image.fromarray((dice.pick(PATTERNS)(side, dice) * 255).astype(np.uint8))


def ground(side: int, palette: Palette, dice: Dice) -> Image.Image:
    share = dice.pick(GROUNDS)(side, dice) * dice.between(0.5, 1.0)
    share = share + dice.between(0.1, 0.5) * (clouds(side, dice) - 0.5)
    one, two = np.array(palette.ground, np.float32), np.array(palette.ground_two, np.float32)
    return Image.fromarray(np.clip(one + share[..., None] * (two - one), 0, 255).astype(np.uint8))


def clutter(canvas: Canvas, palette: Palette, dice: Dice, count: int, largest: float) -> None:
    """`count` meaningless shapes; `largest` is the greatest half width in parts of the picture."""
    side = canvas.picture.width
    for _ in range(count):
        pose = Pose.at(
            dice.between(0, side),
            dice.between(0, side),
            side * dice.between(0.25, 1) * largest,
            dice.between(0, 360),
            dice.between(0.7, 1.4),
        )
        vivid = hsv(dice.between(0, 1), 0.6, dice.between(0.3, 0.95))
        tint = mix(palette.ground, vivid, dice.between(0.3, 0.8))
        _shape(Pen(canvas, pose), tint, dice)


def _shape(pen: Pen, tint: Colour, dice: Dice) -> None:
    kind = dice.whole(0, 5)
    if kind == 0:
        pen.fill(None, oval(0, 0, 1, 0.8), tint)
    elif kind == 1:
        pen.fill(None, box(-1, -0.6, 1, 0.6, dice.between(0, 0.3)), tint)
    elif kind == 2:
        pen.fill(None, [(0, -1), (0.9, 0.7), (-0.9, 0.7)], tint)
    elif kind == 3:
        ring = [dice.between(0.5, 1.0) for _ in range(7)]
        angles = [math.tau * i / 7 for i in range(7)]
        lump = [(r * math.cos(a), r * math.sin(a)) for r, a in zip(ring, angles, strict=True)]
        pen.fill(None, curve(lump), tint)
    elif kind == 4:
        pen.arc(None, [(-1, 0.2), (-0.3, -0.4), (0.3, 0.4), (1, -0.2)], dice.between(0.15, 0.35), tint)
    else:
        for step in (-0.6, 0.0, 0.6):
            pen.line(None, [(-0.9, step), (0.9, step)], 0.18, tint)


def stray_part(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    """A part that belongs to no object: a wheel, an eye, a window ... lying about."""
    side = canvas.picture.width
    x, y = (dice.between(0.06, 0.94) * side for _ in range(2))
    pose = Pose.at(x, y, side * dice.between(0.06, 0.1), dice.between(-40, 40))
    pen, tint = Pen(canvas, pose, stray=True), dice.pick((palette.main, palette.second, palette.accent))
    kind = dice.whole(0, 5)
    if kind == 0:
        parts.wheel(pen, 0, 0, 1, palette, dice)
    elif kind == 1:
        parts.eye(pen, 0, 0, 0.9, tint)
    elif kind == 2:
        parts.window(pen, -0.9, -1, 0.9, 1, palette, cross=dice.chance(0.5))
    elif kind == 3:
        parts.petal(pen, -0.8, 0, 1.8, 0.45, 0.0, tint)
    elif kind == 4:
        parts.leaf(pen, (-1, 0), (1, 0), hsv(0.3, 0.6, 0.6))
    else:
        parts.door(pen, -0.6, -1, 0.6, 1, tint)


def outline_of(palette: Palette, dice: Dice) -> tuple[Colour | None, float]:
    """The outline of one object's parts: none, nearly black, or a shade of its paint."""
    width = dice.between(0.02, 0.045)
    colours: tuple[Colour | None, ...] = (
        None,
        darker(palette.main, 0.88),
        darker(palette.second, 0.6),
        lighter(palette.main, 0.85),
    )
    return dice.pick(colours), width


def lit(picture: Image.Image, object_mask: Mask, dice: Dice) -> NDArray[np.uint8]:
    """Cast shadow, soft relief on the object, light across the picture, sensor noise. -> uint8 (H, W, 3)"""
    side = picture.width
    soft = Image.fromarray(object_mask.astype(np.uint8) * 255)
    soft = soft.filter(ImageFilter.GaussianBlur(side * dice.between(0.015, 0.035)))
    angle = dice.between(0, math.tau)
    dx, dy = round(side * 0.035 * math.cos(angle)), round(side * 0.035 * math.sin(angle))
    moved = soft.transform(soft.size, Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy))
    smooth, shifted = (np.asarray(layer, np.float32) / 255 for layer in (soft, moved))
    shadow = 1 - dice.between(0.1, 0.55) * shifted
    relief = 1 + dice.between(0.1, 0.4) * (smooth - shifted)
    x, _ = _grid(side, math.degrees(angle) + 180)
    light = 1 + dice.between(0.0, 0.3) * (x - x.mean())
    gain = np.where(object_mask, relief, shadow) * light * dice.between(0.88, 1.08)
    values = np.asarray(picture, np.float32) * gain[..., None].astype(np.float32)
    values += dice.between(2, 22) * (dice.field(side, side, 3).astype(np.float32) - 0.5)
    pixels: NDArray[np.uint8] = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return pixels
