"""Colours of one scene: a ground, and paints that stand out against it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from deconvviz.scenes.dice import Dice

Colour = tuple[int, int, int]

WHITE: Colour = (250, 250, 246)
BLACK: Colour = (22, 22, 28)
SKINS: tuple[Colour, ...] = ((255, 219, 186), (241, 194, 150), (214, 158, 112), (165, 110, 72), (110, 70, 46))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` of it replaced by `b`."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, BLACK, share)


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, WHITE, share)


def brightness(colour: Colour) -> float:
    """Perceived brightness in [0, 1]."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def distance(a: Colour, b: Colour) -> float:
    """0 for equal colours, about 1 for black and white; brightness counts more than hue."""
    spread = sum(abs(p - q) for p, q in zip(a, b, strict=True)) / 765
    return 0.5 * spread + 0.5 * abs(brightness(a) - brightness(b))


@dataclass(frozen=True)
class Palette:
    ground: Colour
    ground_two: Colour
    main: Colour
    second: Colour
    accent: Colour
    glass: Colour
    metal: Colour
    rubber: Colour


def _paint(dice: Dice, against: tuple[Colour, ...]) -> Colour:
    """The best of six vivid colours: the one farthest from all of `against`."""
    offers = [hsv(dice.between(0, 1), dice.between(0.5, 0.95), dice.between(0.45, 1.0)) for _ in range(6)]
    return max(offers, key=lambda offer: min(distance(offer, other) for other in against))


def palette(dice: Dice) -> Palette:
    hue = dice.between(0, 1)
    pale = dice.chance(0.6)
    value = dice.between(0.72, 0.97) if pale else dice.between(0.2, 0.5)
    ground = hsv(hue, dice.between(0.08, 0.5), value)
    ground_two = hsv(
        hue + dice.between(-0.12, 0.12), dice.between(0.08, 0.55), min(1.0, value * dice.between(0.75, 1.2))
    )
    main = _paint(dice, (ground, ground_two))
    second = _paint(dice, (ground, main))
    accent = _paint(dice, (main, second))
    glass = hsv(dice.between(0.48, 0.62), dice.between(0.12, 0.45), dice.between(0.82, 1.0))
    metal = hsv(dice.between(0, 1), dice.between(0.0, 0.12), dice.between(0.55, 0.85))
    rubber = hsv(dice.between(0, 1), dice.between(0.0, 0.3), dice.between(0.1, 0.28))
    return Palette(ground, ground_two, main, second, accent, glass, metal, rubber)
