"""Drawing functions for objects that do not move: flower and house."""

from __future__ import annotations

from deconvviz.scenes import parts
from deconvviz.scenes.canvas import Pen
from deconvviz.scenes.colours import Palette, darker, hsv, lighter
from deconvviz.scenes.dice import SceneRng


def flower(pen: Pen, p: Palette, rng: SceneRng) -> None:
    green = hsv(rng.between(0.24, 0.38), rng.between(0.5, 0.8), rng.between(0.4, 0.75))
    sway, y = rng.between(-0.15, 0.15), -0.34
    pen.arc("stem", [(sway, 1.0), (-sway, 0.5), (0.0, y)], 0.09, green)
    for side in (-1, 1):
        foot = (-0.6 * sway, rng.between(0.55, 0.8))
        parts.leaf(pen, foot, (side * rng.between(0.42, 0.6), foot[1] - rng.between(0.15, 0.35)), green)
    count, reach = rng.integer(5, 9), rng.between(0.58, 0.68)
    turn, wide = rng.between(0, 360), min(0.24, rng.between(1.1, 1.5) / count)
    for i in range(count):
        tint = p.main if i % 2 == 0 else lighter(p.main, 0.2)
        parts.petal(pen, 0.0, y, reach, wide, turn + 360 * i / count, tint)
    r = rng.between(0.18, 0.25)
    pen.oval("centre", 0.0, y, r, r, p.accent)
    for x, dy in ((-0.4, -0.2), (0.35, -0.35), (0.0, 0.4), (0.0, -0.05), (0.45, 0.25), (-0.4, 0.35)):
        pen.plain().oval("centre", x * r, y + dy * r, 0.13 * r, 0.13 * r, darker(p.accent, 0.5))


def house(pen: Pen, p: Palette, rng: SceneRng) -> None:
    half, eaves = rng.between(0.68, 0.8), rng.between(-0.22, -0.1)
    ridge = rng.between(-0.95, -0.8)
    if rng.chance(0.6):
        parts.smoke(pen, 0.4, -0.98, 0.1, rng)
    parts.chimney(pen, 0.46, -0.88, -0.3, 0.2, darker(p.accent, 0.15))
    pen.box("wall", -half, eaves, half, 0.88, lighter(p.main, 0.3), over=darker(p.main, 0.1))
    flat = rng.between(0.0, 0.35)
    roof = [(-half - 0.18, eaves + 0.04), (-flat, ridge), (flat, ridge), (half + 0.18, eaves + 0.04)]
    pen.fill("roof", roof, p.second)
    for share in (0.35, 0.7):
        y = ridge + share * (eaves - ridge)
        reach = flat + share * (half + 0.1 - flat)
        pen.line("roof", [(-reach, y), (reach, y)], 0.05, darker(p.second, 0.3))
    x = rng.pick((-0.18, 0.14, -0.5))
    parts.door(pen, x, 0.34, x + 0.34, 0.88, p.accent)
    cross = rng.chance(0.7)
    for left in (-0.58, -0.16, 0.26):
        if left + 0.34 < x - 0.02 or left > x + 0.36:
            parts.window(pen, left, 0.26, left + 0.32, 0.6, p, cross)
    for left in (-0.5, 0.18):
        parts.window(pen, left, eaves + 0.1, left + 0.28, eaves + 0.34, p, cross)
