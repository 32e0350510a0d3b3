"""Drawing functions for vehicles: airplane, bicycle, boat, car and train.

Each vehicle faces right and fills about [-1, 1] on both axes.
"""

from __future__ import annotations

from deconvviz.scenes import parts
from deconvviz.scenes.canvas import Pen
from deconvviz.scenes.colours import Palette, darker, lighter
from deconvviz.scenes.dice import SceneRng


def airplane(pen: Pen, p: Palette, rng: SceneRng) -> None:
    rise = rng.between(0.45, 0.7)
    pen.fill("wing", [(-0.05, -0.1), (0.2, -0.1), (-0.2, -0.62), (-0.38, -0.62)], darker(p.second, 0.3))
    pen.fill("tail", [(-0.95, -rise), (-0.72, -rise), (-0.42, -0.06), (-0.88, -0.06)], p.second)
    thick = rng.between(0.19, 0.26)
    hull = [(-1.0, -0.12), (-0.5, -thick), (0.4, -thick), (0.85, -0.1), (1.0, 0.06), (0.8, 0.17)]
    pen.blob("body", [*hull, (0.2, 0.22), (-0.5, 0.17)], p.main, over=lighter(p.main, 0.5))
    pen.fill("tail", [(-0.98, -0.06), (-0.68, -0.06), (-0.92, 0.16), (-1.08, 0.16)], darker(p.second, 0.2))
    for i in range(rng.integer(4, 5)):
        parts.porthole(pen, -0.42 + 0.22 * i, -0.05, 0.08, p)
    pen.fill("window", [(0.68, -0.12), (0.8, -0.1), (0.93, 0.02), (0.7, 0.02)], p.glass)
    reach = rng.between(0.6, 0.8)
    pen.fill("wing", [(-0.12, 0.08), (0.32, 0.08), (-0.22, reach), (-0.46, reach)], p.second)
    for x, y in ((0.06, 0.34), (-0.12, 0.54)):
        pen.oval("engine", x, y, 0.17, 0.085, p.accent)
        pen.oval("engine", x + 0.12, y, 0.04, 0.075, darker(p.metal, 0.5))


def bicycle(pen: Pen, p: Palette, rng: SceneRng) -> None:
    r = rng.between(0.4, 0.46)
    back, front, crank = (-0.56, 0.32), (0.56, 0.32), (-0.05, 0.34)
    parts.open_wheel(pen, *back, r, p, rng)
    parts.open_wheel(pen, *front, r, p, rng)
    seat, head = (-0.24, -0.28), (0.36, -0.32)
    tube = rng.between(0.08, 0.12)
    for a, b in ((back, seat), (back, crank), (crank, seat), (seat, head), (crank, head), (head, front)):
        pen.line("frame", [a, b], tube, p.main)
    pen.line("frame", [seat, (-0.28, -0.46)], 0.06, p.metal)
    pen.blob("saddle", [(-0.5, -0.52), (-0.28, -0.56), (-0.08, -0.5), (-0.3, -0.43)], p.accent)
    pen.line("handlebar", [head, (0.3, -0.6)], 0.07, p.metal)
    dropped = [(0.3, -0.6), (0.52, -0.62), (0.6, -0.5), (0.5, -0.42)]
    straight = [(0.08, -0.62), (0.3, -0.6), (0.52, -0.66)]
    pen.arc("handlebar", dropped if rng.chance(0.5) else straight, 0.08, p.second)
    pen.line("pedal", [(crank[0] - 0.12, crank[1] + 0.16), (crank[0] + 0.12, crank[1] - 0.16)], 0.06, p.metal)
    pen.oval("pedal", *crank, 0.1, 0.1, p.second)


def boat(pen: Pen, p: Palette, rng: SceneRng) -> None:
    if rng.chance(0.6):
        _sails(pen, p, rng)
    else:
        _steamer(pen, p, rng)
    keel = rng.between(0.72, 0.85)
    hull = [(-0.95, 0.3), (1.0, 0.26), (0.66, keel), (-0.68, keel)]
    pen.fill("hull", hull, p.second, over=darker(p.second, 0.4))
    pen.fill("hull", [(-0.95, 0.3), (1.0, 0.26), (0.95, 0.38), (-0.9, 0.4)], lighter(p.second, 0.6))
    for x in (-0.42, 0.0, 0.42):
        parts.porthole(pen, x, 0.56, 0.1, p)


def _sails(pen: Pen, p: Palette, rng: SceneRng) -> None:
    pen.line("mast", [(0.0, 0.3), (0.0, -0.95)], 0.07, darker(p.metal, 0.5))
    high = rng.between(-0.85, -0.7)
    pen.fill("sail", [(0.07, high), (0.8, 0.14), (0.07, 0.14)], p.main, over=lighter(p.main, 0.6))
    pen.fill("sail", [(-0.07, high + 0.15), (-0.07, 0.14), (-0.62, 0.14)], lighter(p.main, 0.5))
    pen.fill("flag", [(0.0, -1.0), (-0.34, -0.92), (0.0, -0.82)], p.accent)


def _steamer(pen: Pen, p: Palette, rng: SceneRng) -> None:
    parts.smoke(pen, 0.06, -0.72, 0.13, rng)
    parts.chimney(pen, 0.1, -0.72, -0.05, 0.24, p.accent)
    pen.line("mast", [(0.66, 0.3), (0.66, -0.6)], 0.05, darker(p.metal, 0.5))
    pen.fill("flag", [(0.66, -0.62), (0.36, -0.52), (0.66, -0.42)], p.accent)
    pen.box("cabin", -0.6, -0.15, 0.46, 0.3, p.main, corner=0.05)
    for x in (-0.5, -0.18, 0.14):
        parts.window(pen, x, -0.05, x + 0.24, 0.18, p)


def car(pen: Pen, p: Palette, rng: SceneRng) -> None:
    top, slope = rng.between(-0.58, -0.46), rng.between(0.2, 0.36)
    back = rng.between(-0.85, -0.62)
    pen.fill("roof", [(back, 0.0), (back + 0.18, top), (0.24, top), (0.24 + slope, 0.0)], p.main)
    glass = [(back + 0.14, -0.05), (back + 0.26, top + 0.1), (-0.2, top + 0.1), (-0.2, -0.05)]
    pen.fill("window", glass, p.glass)
    pen.fill("window", [(-0.08, -0.05), (-0.08, top + 0.1), (0.2, top + 0.1), (0.15 + slope, -0.05)], p.glass)
    pen.line("window", [(-0.4, -0.1), (-0.28, top + 0.16)], 0.05, lighter(p.glass, 0.7))
    body = [(-1.0, 0.02), (-0.8, -0.06), (0.5, -0.06), (0.92, 0.05), (1.0, 0.2), (1.0, 0.42), (-1.0, 0.42)]
    pen.fill("body", body, p.main, over=darker(p.main, 0.4))
    pen.box("door", -0.2, -0.02, 0.26, 0.36, lighter(p.main, 0.2), corner=0.04)
    pen.line("door", [(-0.12, 0.1), (0.0, 0.1)], 0.05, darker(p.metal, 0.4))
    pen.box("bumper", 0.84, 0.3, 1.06, 0.44, p.metal, corner=0.05)
    pen.box("bumper", -1.06, 0.3, -0.84, 0.44, p.metal, corner=0.05)
    parts.lamp(pen, 0.9, 0.14, 0.1)
    for x in (-0.56, 0.56):
        parts.wheel(pen, x, 0.42, rng.between(0.24, 0.29), p, rng)


def train(pen: Pen, p: Palette, rng: SceneRng) -> None:
    parts.smoke(pen, 0.5, -0.78, 0.14, rng)
    parts.chimney(pen, 0.55, -0.72, -0.2, 0.22, darker(p.accent, 0.3))
    pen.oval("body", 0.1, -0.3, 0.14, 0.14, p.accent)
    pen.box("body", -0.4, -0.3, 0.88, 0.3, p.main, corner=0.08, over=lighter(p.main, 0.4))
    for x in (0.0, 0.34):
        pen.line("body", [(x, -0.28), (x, 0.28)], 0.05, p.accent)
    pen.box("cab", -0.98, -0.72, -0.34, 0.34, p.second)
    pen.box("roof", -1.06, -0.84, -0.26, -0.7, darker(p.accent, 0.2), corner=0.06)
    parts.window(pen, -0.84, -0.58, -0.48, -0.18, p, cross=rng.chance(0.5))
    parts.lamp(pen, 0.9, -0.12, 0.12)
    pen.box("bumper", -1.0, 0.28, 0.92, 0.42, darker(p.metal, 0.45))
    pen.fill("bumper", [(0.86, 0.3), (1.08, 0.72), (0.74, 0.72)], p.accent)
    count = rng.integer(3, 4)
    for i in range(count):
        parts.wheel(pen, -0.76 + 1.36 * i / (count - 1), 0.52, 0.22, p, rng)
    pen.line("rod", [(-0.76, 0.56), (0.6, 0.56)], 0.07, lighter(p.metal, 0.3))
