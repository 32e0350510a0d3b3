"""Drawing functions for creatures: bird, butterfly, face, fish and robot."""

from __future__ import annotations

from deconvviz.scenes import parts
from deconvviz.scenes.canvas import Pen
from deconvviz.scenes.colours import BLACK, SKINS, Palette, darker, hsv, lighter, mix
from deconvviz.scenes.dice import SceneRng

ORANGE = (244, 160, 40)


def bird(pen: Pen, p: Palette, rng: SceneRng) -> None:
    for x in (-0.1, 0.14):
        foot = [(x, 0.4), (x + 0.02, 0.82), (x + 0.16, 0.9)]
        pen.line("leg", foot, 0.06, darker(ORANGE, 0.25))
    lift = rng.between(-0.35, 0.1)
    tail = [(-0.42, 0.0), (-1.04, lift - 0.12), (-1.0, lift + 0.16), (-0.4, 0.3)]
    pen.fill("tail", tail, darker(p.main, 0.35))
    body = [(-0.62, 0.05), (-0.1, -0.32), (0.4, -0.36), (0.56, 0.05), (0.2, 0.5), (-0.34, 0.42)]
    pen.blob("body", body, p.main, over=lighter(p.main, 0.45))
    r = rng.between(0.3, 0.36)
    beak = rng.between(0.28, 0.42)
    pen.fill("beak", [(0.5 + 0.8 * r, -0.56), (0.5 + r + beak, -0.4), (0.5 + 0.8 * r, -0.3)], ORANGE)
    pen.oval("head", 0.5, -0.46, r, r, p.main)
    parts.eye(pen, 0.58, -0.54, 0.13, p.accent, (0.5, 0.0))
    tip = rng.between(-0.1, 0.4)
    pen.blob("wing", [(0.3, -0.12), (-0.1, -0.24), (-0.74, tip), (-0.2, 0.3), (0.2, 0.2)], p.second)
    for i in range(3):
        start = (0.12 - 0.12 * i, 0.14 - 0.1 * i)
        pen.line("wing", [start, (-0.36 - 0.08 * i, tip * 0.7 + 0.1 - 0.1 * i)], 0.04, darker(p.second, 0.4))


def butterfly(pen: Pen, p: Palette, rng: SceneRng) -> None:
    spread, high, low = rng.between(0.85, 1.0), rng.between(-0.85, -0.65), rng.between(0.7, 0.9)
    spot = rng.between(0.12, 0.18)
    for side in (-1, 1):
        lower = [(0.04, 0.05), (0.62 * spread, 0.1), (0.72 * spread, 0.5), (0.4, low), (0.1, 0.5)]
        upper = [(0.04, -0.12), (0.3, high + 0.1), (0.85 * spread, high), (spread, -0.3), (0.62, 0.12)]
        pen.blob("wing", [(side * x, y) for x, y in lower], p.second)
        pen.blob("wing", [(side * x, y) for x, y in upper], p.main, over=lighter(p.main, 0.5))
        pen.oval("spot", side * 0.64 * spread, -0.38, spot, spot, p.accent)
        pen.plain().oval("spot", side * 0.64 * spread, -0.38, 0.5 * spot, 0.5 * spot, lighter(p.accent, 0.7))
        pen.oval("spot", side * 0.42 * spread, 0.4, 0.75 * spot, 0.75 * spot, p.accent)
        bend, tip = (side * 0.12, -0.6), (side * rng.between(0.24, 0.4), rng.between(-0.95, -0.8))
        parts.antenna(pen, (side * 0.03, -0.36), bend, tip, darker(p.accent, 0.7))
    dark = darker(p.accent, 0.7)
    pen.oval("body", 0.0, 0.12, 0.1, 0.5, dark)
    for y in (0.08, 0.24, 0.4):
        pen.line("body", [(-0.06, y), (0.06, y)], 0.05, lighter(p.accent, 0.3))
    pen.oval("head", 0.0, -0.4, 0.13, 0.13, dark)


def face(pen: Pen, p: Palette, rng: SceneRng) -> None:
    skin = rng.pick(SKINS) if rng.chance(0.8) else lighter(p.main, 0.4)
    hair = rng.pick((BLACK, (96, 56, 28), (222, 178, 84), (176, 74, 34), (150, 150, 156), p.second))
    wide, long = rng.between(0.64, 0.76), rng.between(0.84, 0.94)
    if rng.chance(0.4):
        pen.box("hair", -wide - 0.12, -0.5, wide + 0.12, rng.between(0.4, 0.85), hair, corner=0.3)
    for side in (-1, 1):
        pen.oval("ear", side * (wide + 0.03), 0.05, 0.15, 0.2, darker(skin, 0.1))
    pen.oval("head", 0.0, 0.06, wide, long, skin)
    fringe = rng.between(-0.5, -0.3)
    crown = [(-wide, -0.1), (-wide - 0.04, -0.55), (-0.35, -0.98), (0.35, -0.98), (wide + 0.04, -0.55)]
    parting = (0.0, fringe - rng.between(-0.1, 0.15))
    hairline = [(wide, -0.1), (0.5 * wide, fringe), parting, (-0.5 * wide, fringe)]
    pen.blob("hair", [*crown, *hairline], hair)
    gap, look = rng.between(0.26, 0.33), (rng.between(-1, 1), rng.between(-0.6, 0.6))
    iris = hsv(rng.pick((0.06, 0.09, 0.3, 0.56, 0.6)), 0.65, rng.between(0.3, 0.75))
    brow = rng.between(-0.08, 0.08)
    for side in (-1, 1):
        parts.eye(pen, side * gap, -0.06, rng.between(0.14, 0.18), iris, look)
        inner, outer = (side * (gap - 0.15), -0.29 + brow), (side * (gap + 0.15), -0.29 - brow)
        pen.line("brow", [inner, outer], 0.07, hair)
    pen.arc("nose", [(0.02, 0.04), (0.1, 0.26), (-0.07, 0.29)], 0.06, darker(skin, 0.35))
    _mouth(pen, 0.0, rng.between(0.5, 0.56), rng.between(0.22, 0.34), rng)


def _mouth(pen: Pen, x: float, y: float, half: float, rng: SceneRng) -> None:
    red, smile = (196, 58, 62), rng.between(-0.06, 0.14)
    if rng.chance(0.5):
        pen.arc("mouth", [(x - half, y - smile), (x, y + smile), (x + half, y - smile)], 0.1, red)
    else:
        drop = rng.between(0.14, 0.26)
        lips = [(x - half, y - 0.05), (x, y), (x + half, y - 0.05), (x, y + drop)]
        pen.blob("mouth", lips, darker(red, 0.35))
        pen.line("mouth", [(x - 0.6 * half, y + 0.02), (x + 0.6 * half, y + 0.02)], 0.06, (250, 250, 250))


def fish(pen: Pen, p: Palette, rng: SceneRng) -> None:
    tall, fork = rng.between(0.4, 0.58), rng.between(0.4, 0.6)
    pen.fill("tail", [(-0.5, 0.0), (-1.02, -fork), (-0.84, 0.0), (-1.02, fork)], p.second)
    peak = rng.between(-0.25, 0.15)
    pen.fill("fin", [(-0.4, -0.3), (peak - 0.2, -tall - 0.34), (0.45, -0.3)], p.second)
    pen.fill("fin", [(-0.2, 0.3), (-0.3, tall + 0.3), (0.2, 0.3)], p.second)
    outline = [(-0.66, 0.0), (-0.2, -0.8 * tall), (0.35, -tall), (0.86, -0.22), (0.98, 0.04), (0.84, 0.26)]
    pen.blob("body", [*outline, (0.35, tall), (-0.2, 0.8 * tall)], p.main, over=lighter(p.main, 0.5))
    pen.arc("gill", [(0.4, -0.3), (0.28, 0.0), (0.4, 0.3)], 0.06, darker(p.main, 0.5))
    pen.fill("fin", [(0.26, 0.1), (-0.12, rng.between(0.0, 0.4)), (-0.02, 0.3)], darker(p.second, 0.15))
    parts.eye(pen, 0.62, -0.12, rng.between(0.12, 0.16), p.accent, (0.4, 0.0))
    pen.arc("mouth", [(0.96, 0.1), (0.84, 0.16), (0.74, 0.12)], 0.07, (176, 52, 60))


def robot(pen: Pen, p: Palette, rng: SceneRng) -> None:
    steel, joint = mix(p.main, p.metal, 0.35), darker(p.metal, 0.35)
    parts.antenna(pen, (0.0, -0.7), (0.0, -0.82), (rng.between(-0.08, 0.08), -0.98), p.accent)
    raised = rng.chance(0.4)
    for side in (-1, 1):
        hand = (side * 0.84, -0.42 if raised and side == 1 else 0.46)
        pen.line("arm", [(side * 0.42, 0.0), (side * 0.72, 0.06), hand], 0.14, joint)
        pen.oval("arm", *hand, 0.13, 0.13, p.second)
        pen.box("leg", side * 0.22 - 0.1, 0.5, side * 0.22 + 0.1, 0.92, joint)
        pen.box("leg", side * 0.24 - 0.2, 0.82, side * 0.24 + 0.2, 1.0, p.second, corner=0.06)
    wide = rng.between(0.42, 0.54)
    pen.box("body", -0.46, -0.1, 0.46, 0.6, steel, corner=0.08, over=darker(steel, 0.3))
    pen.box("panel", -0.28, 0.04, 0.28, 0.4, lighter(p.metal, 0.5), corner=0.05)
    for x, colour in ((-0.16, p.accent), (0.0, p.second), (0.16, ORANGE)):
        pen.plain().oval("panel", x, 0.14, 0.06, 0.06, colour)
        pen.line("panel", [(x, 0.34), (x, 0.34 - rng.between(0.03, 0.1))], 0.08, colour)
    pen.box("head", -wide, -0.74, wide, -0.16, steel, corner=0.1)
    glow = hsv(rng.between(0, 1), 0.7, 0.95)
    for side in (-1, 1):
        parts.eye(pen, side * 0.5 * wide, -0.52, 0.14, glow)
    pen.box("mouth", -0.24, -0.33, 0.24, -0.21, darker(p.metal, 0.6))
    for i in range(4):
        x = -0.18 + 0.12 * i
        pen.line("mouth", [(x, -0.31), (x, -0.23)], 0.035, lighter(p.metal, 0.7))
