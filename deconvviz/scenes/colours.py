"""Colours of a scene: a background, and object colours that contrast with it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from deconvviz.scenes.dice import SceneRng

Colour = tuple[int, int, int]

WHITE: Colour = (250, 250, 246)
BLACK: Colour = (22, 22, 28)
SKINS: tuple[Colour, ...] = ((255, 219, 186), (241, 194, 150), (214, 158, 112), (165, 110, 72), (110, 70, 46))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return an RGB colour; all arguments are in [0, 1], and the hue wraps around."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return a blend of two colours: `a` for share 0, `b` for share 1."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def darker(colour: Colour, share: float) -> Colour:
    """Return the colour blended with black by `share`."""
    return mix(colour, BLACK, share)


def lighter(colour: Colour, share: float) -> Colour:
    """Return the colour blended with white by `share`."""
    return mix(colour, WHITE, share)


def other_hue(colour: Colour, turn: float) -> Colour:
    """Return a colour with another hue, clearly different for a turn from 1/3 to 2/3.

    A grey colour, black or white becomes a vivid colour of medium brightness.

    Args:
        colour: Colour to change.
        turn: How far the hue turns; 1 is a full turn.
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    return hsv(hue + turn, max(saturation, 0.75), min(max(value, 0.5), 0.9))


def brightness(colour: Colour) -> float:
    """Return the perceived brightness in [0, 1]."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def distance(a: Colour, b: Colour) -> float:
    """Return the difference of two colours: 0 for equal ones, 1 for black and white.

    Brightness counts more than hue.
    """
    spread = sum(abs(p - q) for p, q in zip(a, b, strict=True)) / 765
    return 0.5 * spread + 0.5 * abs(brightness(a) - brightness(b))


@dataclass(frozen=True)
class Palette:
    """Colours of one scene: two of its background, the others of its object."""

    background: Colour
    background_two: Colour
    main: Colour
    second: Colour
    accent: Colour
    glass: Colour
    metal: Colour
    rubber: Colour


def _contrasting(rng: SceneRng, against: tuple[Colour, ...]) -> Colour:
    """Draw six vivid colours and return the one that differs most from all of `against`."""
    candidates = [hsv(rng.between(0, 1), rng.between(0.5, 0.95), rng.between(0.45, 1.0)) for _ in range(6)]
    return max(candidates, key=lambda candidate: min(distance(candidate, other) for other in against))


def palette(rng: SceneRng) -> Palette:
    """Return random colours for one scene."""
    hue = rng.between(0, 1)
    pale = rng.chance(0.6)
    value = rng.between(0.72, 0.97) if pale else rng.between(0.2, 0.5)
    background = hsv(hue, rng.between(0.08, 0.5), value)
    background_two = hsv(
        hue + rng.between(-0.12, 0.12), rng.between(0.08, 0.55), min(1.0, value * rng.between(0.75, 1.2))
    )
    main = _contrasting(rng, (background, background_two))
    second = _contrasting(rng, (background, main))
    accent = _contrasting(rng, (main, second))
    glass = hsv(rng.between(0.48, 0.62), rng.between(0.12, 0.45), rng.between(0.82, 1.0))
    metal = hsv(rng.between(0, 1), rng.between(0.0, 0.12), rng.between(0.55, 0.85))
    rubber = hsv(rng.between(0, 1), rng.between(0.0, 0.3), rng.between(0.1, 0.28))
    return Palette(background, background_two, main, second, accent, glass, metal, rubber)
