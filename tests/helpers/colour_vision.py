"""Simulation of colours in grey print and with colour-vision deficiencies."""

from __future__ import annotations

import numpy as np

# Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
DEFICIENCIES = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
VIEWS = ("normal", "grey", *DEFICIENCIES)
_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                 [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
_WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    """Convert '#rrggbb' to linear RGB from 0 to 1."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def simulated(colour: str, view: str) -> np.ndarray:
    """Return a colour in a view, as linear RGB."""
    rgb = linear(colour)
    if view == "grey":
        return np.repeat(_XYZ[1] @ rgb, 3)
    return np.clip(np.array(DEFICIENCIES[view]) @ rgb, 0, 1) if view in DEFICIENCIES else rgb


def difference(one: str, other: str, view: str) -> float:
    """Return the distance of two colours in CIELAB. A distance of about 2 is just noticeable."""
    return float(np.linalg.norm(_lab(simulated(one, view)) - _lab(simulated(other, view))))


def contrast(one: str, other: str, view: str) -> float:
    """Return the WCAG contrast ratio, from 1 to 21. Text should have at least 4.5."""
    low, high = sorted(float(_XYZ[1] @ simulated(colour, view)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _lab(rgb: np.ndarray) -> np.ndarray:
    xyz = (_XYZ @ rgb) / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
