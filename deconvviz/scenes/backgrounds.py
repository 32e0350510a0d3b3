"""Everything in a scene except its object: textured background, clutter, distractors and light."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from deconvviz.scenes import parts
from deconvviz.scenes.canvas import Canvas, Mask, Pen
from deconvviz.scenes.colours import Colour, Palette, darker, hsv, lighter, mix
from deconvviz.scenes.dice import SceneRng
from deconvviz.scenes.shapes import Pose, box, curve, oval

Share = NDArray[np.floating]  # (H, W), weight of the second colour, in [0, 1]
Texture = Callable[[int, SceneRng], Share]


def _grid(side: int, turn: float) -> tuple[Share, Share]:
    """Return x and y of every pixel in units of the image side, rotated by `turn` degrees."""
    axis: Share = (np.arange(side, dtype=np.float32) + 0.5) / side
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    x: Share = axis[None, :] * cos + axis[:, None] * sin
    y: Share = axis[:, None] * cos - axis[None, :] * sin
    return x, y


def clouds(side: int, rng: SceneRng) -> Share:
    """Return the sum of smooth noise at three scales."""
    total = np.zeros((side, side), np.float32)
    for cells, weight in ((3, 0.6), (7, 0.3), (15, 0.15)):
        coarse = Image.fromarray(rng.array(cells, cells).astype(np.float32))
        total += weight * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    np.clip(total, 0, 1, out=total)
    return total


def gradient(side: int, rng: SceneRng) -> Share:
    x, _ = _grid(side, rng.between(0, 360))
    share: Share = (x - x.min()) / (x.max() - x.min())
    return share


def stripes(side: int, rng: SceneRng) -> Share:
    x, _ = _grid(side, rng.between(0, 180))
    return _soft_steps(np.sin(x * math.tau * rng.between(4, 12)), side)


def checks(side: int, rng: SceneRng) -> Share:
    x, y = _grid(side, rng.between(0, 90))
    rate = math.tau * rng.between(2, 5)
    return _soft_steps(np.sin(x * rate) * np.sin(y * rate) * 2, side)


def dots(side: int, rng: SceneRng) -> Share:
    x, y = _grid(side, rng.between(0, 90))
    rate = math.tau * rng.between(4, 9)
    return _soft_steps(np.sin(x * rate) + np.sin(y * rate) - 0.9, side)


def ripples(side: int, rng: SceneRng) -> Share:
    x, y = _grid(side, rng.between(-25, 25))
    bend = rng.between(0.02, 0.05) * np.sin(x * math.tau * rng.between(1, 3))
    wave: Share = np.sin((y + bend) * math.tau * rng.between(5, 12))
    return 0.5 + 0.5 * wave


def bricks(side: int, rng: SceneRng) -> Share:
    x, y = _grid(side, rng.between(-8, 8))
    rows = y * rng.between(6, 10)
    columns = x * rng.between(3, 5) + 0.5 * (np.floor(rows) % 2)
    mortar: Share = ((rows % 1 < 0.16) | (columns % 1 < 0.09)).astype(np.float32)
    return mortar


def horizon(side: int, rng: SceneRng) -> Share:
    """Return two areas, one above the other, with a slightly tilted wavy border."""
    x, y = _grid(side, rng.between(-8, 8))
    rough = 0.03 * np.sin(x * math.tau * rng.between(1, 4) + rng.between(0, 6))
    return _soft_steps((y + rough - rng.between(0.45, 0.75)) * 8, side)


def _soft_steps(wave: Share, side: int) -> Share:
    """Clip a wave to two levels, with edges about one pixel wide."""
    return np.clip(0.5 + wave * side / 48, 0, 1)


TEXTURES: tuple[Texture, ...] = (clouds, gradient, stripes, checks, dots, ripples, bricks, horizon)
PATTERNS: tuple[Texture, ...] = (stripes, dots, checks)


def pattern(side: int, rng: SceneRng) -> Image.Image:
    """Return a mask (mode L) through which the second colour of an object is painted."""
    return Image.fromarray((rng.pick(PATTERNS)(side, rng) * 255).astype(np.uint8))


def background(side: int, palette: Palette, rng: SceneRng) -> Image.Image:
    """Return a textured image of `side` x `side` pixels in the two background colours of the palette."""
    share = rng.pick(TEXTURES)(side, rng) * rng.between(0.5, 1.0)
    share = share + rng.between(0.1, 0.5) * (clouds(side, rng) - 0.5)
    one, two = np.array(palette.background, np.float32), np.array(palette.background_two, np.float32)
    return Image.fromarray(np.clip(one + share[..., None] * (two - one), 0, 255).astype(np.uint8))


def clutter(canvas: Canvas, palette: Palette, rng: SceneRng, count: int, largest: float) -> None:
    """Draw `count` random shapes; the largest half width is the fraction `largest` of the image side."""
    side = canvas.image.width
    for _ in range(count):
        pose = Pose.at(
            rng.between(0, side),
            rng.between(0, side),
            side * rng.between(0.25, 1) * largest,
            rng.between(0, 360),
            rng.between(0.7, 1.4),
        )
        vivid = hsv(rng.between(0, 1), 0.6, rng.between(0.3, 0.95))
        tint = mix(palette.background, vivid, rng.between(0.3, 0.8))
        _shape(Pen(canvas, pose), tint, rng)


def _shape(pen: Pen, tint: Colour, rng: SceneRng) -> None:
    kind = rng.integer(0, 5)
    if kind == 0:
        pen.fill(None, oval(0, 0, 1, 0.8), tint)
    elif kind == 1:
        pen.fill(None, box(-1, -0.6, 1, 0.6, rng.between(0, 0.3)), tint)
    elif kind == 2:
        pen.fill(None, [(0, -1), (0.9, 0.7), (-0.9, 0.7)], tint)
    elif kind == 3:
        ring = [rng.between(0.5, 1.0) for _ in range(7)]
        angles = [math.tau * i / 7 for i in range(7)]
        lump = [(r * math.cos(a), r * math.sin(a)) for r, a in zip(ring, angles, strict=True)]
        pen.fill(None, curve(lump), tint)
    elif kind == 4:
        pen.arc(None, [(-1, 0.2), (-0.3, -0.4), (0.3, 0.4), (1, -0.2)], rng.between(0.15, 0.35), tint)
    else:
        for step in (-0.6, 0.0, 0.6):
            pen.line(None, [(-0.9, step), (0.9, step)], 0.18, tint)


def draw_distractor(canvas: Canvas, palette: Palette, rng: SceneRng) -> None:
    """Draw a part that does not belong to the object, such as a wheel or an eye, at a random position."""
    side = canvas.image.width
    x, y = (rng.between(0.06, 0.94) * side for _ in range(2))
    pose = Pose.at(x, y, side * rng.between(0.06, 0.1), rng.between(-40, 40))
    pen, tint = Pen(canvas, pose, distractor=True), rng.pick((palette.main, palette.second, palette.accent))
    kind = rng.integer(0, 5)
    if kind == 0:
        parts.wheel(pen, 0, 0, 1, palette, rng)
    elif kind == 1:
        parts.eye(pen, 0, 0, 0.9, tint)
    elif kind == 2:
        parts.window(pen, -0.9, -1, 0.9, 1, palette, cross=rng.chance(0.5))
    elif kind == 3:
        parts.petal(pen, -0.8, 0, 1.8, 0.45, 0.0, tint)
    elif kind == 4:
        parts.leaf(pen, (-1, 0), (1, 0), hsv(0.3, 0.6, 0.6))
    else:
        parts.door(pen, -0.6, -1, 0.6, 1, tint)


def outline_of(palette: Palette, rng: SceneRng) -> tuple[Colour | None, float]:
    """Return the colour (None: no outline) and the width of the outlines of an object's parts."""
    width = rng.between(0.02, 0.045)
    colours: tuple[Colour | None, ...] = (
        None,
        darker(palette.main, 0.88),
        darker(palette.second, 0.6),
        lighter(palette.main, 0.85),
    )
    return rng.pick(colours), width


def apply_lighting(image: Image.Image, object_mask: Mask, rng: SceneRng) -> NDArray[np.uint8]:
    """Return the image with a cast shadow, relief on the object, a light gradient and noise.

    The result is uint8 (H, W, 3).
    """
    side = image.width
    soft = Image.fromarray(object_mask.astype(np.uint8) * 255)
    soft = soft.filter(ImageFilter.GaussianBlur(side * rng.between(0.015, 0.035)))
    angle = rng.between(0, math.tau)
    dx, dy = round(side * 0.035 * math.cos(angle)), round(side * 0.035 * math.sin(angle))
    moved = soft.transform(soft.size, Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy))
    smooth, shifted = (np.asarray(layer, np.float32) / 255 for layer in (soft, moved))
    shadow = 1 - rng.between(0.1, 0.55) * shifted
    relief = 1 + rng.between(0.1, 0.4) * (smooth - shifted)
    x, _ = _grid(side, math.degrees(angle) + 180)
    light = 1 + rng.between(0.0, 0.3) * (x - x.mean())
    gain = np.where(object_mask, relief, shadow) * light * rng.between(0.88, 1.08)
    values = np.asarray(image, np.float32) * gain[..., None].astype(np.float32)
    values += rng.between(2, 22) * (rng.array(side, side, 3).astype(np.float32) - 0.5)
    pixels: NDArray[np.uint8] = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return pixels
