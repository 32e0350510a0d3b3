"""Content of the figure of invariance: pictures, curves of the layers and of the class probability."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from deconvviz.experiments.invariance.canvas import Floats
from deconvviz.experiments.invariance.findings import middle
from deconvviz.experiments.invariance.measured import Example, Measured
from deconvviz.experiments.invariance.names import TRANSFORMS
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.figures.spec.validation import check_choice
from deconvviz.printable_names import printable
from deconvviz.wording import counted

LINES = 5
"""Number of images that have a line of their own, as in the paper."""
BAND = (10, 90)
"""Percentiles of the images that limit the band. Our choice; the paper has five images and no band."""
SHOWN = ("normalised", "distance", "cosine")

_LABELS = {"normalised": "distance / length", "distance": "distance", "cosine": "1 − cosine"}
_MOVED = "map moved, too"
_SYNTHETIC = {
    "reflect": "beyond: reflected pixels",
    "grey": "beyond: grey pixels",
}
_PICTURES, _PANEL = 1.45, 1.4  # shares of the width for the pictures and for each panel of curves
_COLUMNS = 3  # pictures side by side


@dataclass(frozen=True)
class InvarianceStyle:
    """The style of a figure of invariance.

    Args:
        measure: ``normalised``: Euclidean distance over the length of the original's features, so that layers
            can be compared; ``distance``: not divided, as in the paper; ``cosine``: 1 minus the cosine.
    """

    measure: str = "normalised"

    def __post_init__(self) -> None:
        check_choice(self.measure, SHOWN, "measure")


def figure_of(one: Measured, style: InvarianceStyle) -> Panels:
    """Return the content of the figure."""
    rows = []
    for number, name in enumerate(one.transforms):
        last = number == len(one.transforms) - 1
        rows.append((_pictures(one, name), _curves(one, name, style, legend=last)))
    panels = len(one.layers) + bool(one.classes)
    several = f"median and {BAND[0]}-{BAND[1]} % of {counted(len(one.images), 'image')}; "
    names = ", ".join(layer.name for layer in one.layers)
    return Panels(
        title=(
            f"{one.network.name} · invariance of {names}",
            f"{several if len(one.images) > LINES else ''}{_what(one, style)}",
        ),
        rows=tuple(rows),
        shares=((_PICTURES, _PANEL * panels),) * len(rows),
        footer=_footer(one),
    )


def _what(one: Measured, style: InvarianceStyle) -> str:
    what = {
        "normalised": "Euclidean distance from the features of the original, over their length",
        "distance": "Euclidean distance from the features of the original",
        "cosine": "1 minus the cosine of the angle to the features of the original",
    }[style.measure]
    return f"{what} · probability of the class of the original" if one.classes else what


def _footer(one: Measured) -> str:
    outside = any(found.outside.any() for found in one.values.values())
    border = {"reflect": "reflected", "grey": "grey"}[one.border]
    parts = []
    if outside:
        parts.append(f"pixels that the image files do not have are {border}")
    if any(np.isfinite(one.measure("equivariance", name)).any() for name in one.transforms):
        parts.append(
            f"{_MOVED}: median distance after the map of the original is moved like the picture "
            "(equivariance; only positions inside the map)"
        )
    return " · ".join(parts)


def _pictures(one: Measured, transform: str) -> TileGrid:
    described = TRANSFORMS[transform]
    tiles: list[GridTile | None] = [_tile(example) for example in one.examples[transform]]
    tiles += [None] * (-len(tiles) % _COLUMNS)
    return TileGrid(
        title=(f"{described.title} ({described.units})",),
        tiles=tuple(tuple(tiles[first : first + _COLUMNS]) for first in range(0, len(tiles), _COLUMNS)),
        style=TileGridStyle("tile", limits=False),
    )


def _tile(example: Example) -> GridTile:
    text = f"{example.amount:.2f}".rstrip("0").rstrip(".").replace("-", "−")
    return GridTile(example.colours, "image", caption=(text,))


def _curves(one: Measured, transform: str, style: InvarianceStyle, *, legend: bool) -> Curves:
    x = one.amounts[transform]
    references = _references(one, transform)
    units = TRANSFORMS[transform].units
    values = one.measure(style.measure, transform)
    equivariance = one.measure("equivariance", transform)
    shared = _top([values, equivariance]) if style.measure == "normalised" else None
    panels = []
    for number, layer in enumerate(one.layers):
        curves = _lines(one, x, values[:, :, number])
        moved = middle(equivariance[:, :, number])
        if np.isfinite(moved).any() and style.measure == "normalised":
            curves.append(Curve(_MOVED, x, moved, markers=False))
        top = shared or _top([values[:, :, number]])
        panels.append(
            CurvePanel(tuple(curves), units, _LABELS[style.measure], title=layer.name, y_range=(0.0, top),
                       references=references)
        )  # fmt: skip
    if one.classes:
        panels.append(
            CurvePanel(tuple(_lines(one, x, one.values[transform].probability)), units, "",
                       title="class probability", y_range=(0.0, 1.02), references=references)
        )  # fmt: skip
    return Curves((), tuple(panels), CurvesStyle(shared_y=False, columns=len(panels), legend=legend))


def _top(values: list[Floats]) -> float:
    known = np.concatenate([one[np.isfinite(one)] for one in values])
    return 1.05 * float(known.max()) if known.size and known.max() > 0 else 1.0


def _lines(one: Measured, x: Floats, values: Floats) -> list[Curve]:
    """Return thin lines of the first images, and with more images their median with a band."""
    count = len(one.images)
    many = count > LINES
    labels = _names(one)
    curves = [
        Curve(labels[image], x, values[image], markers=False, thin=many) for image in range(min(count, LINES))
    ]
    if many and np.isfinite(values).any():
        low, high = np.nanpercentile(values, BAND, axis=0)
        curves.insert(0, Curve(f"median of {count} images", x, middle(values), (low, high), markers=False))
    return curves


def _names(one: Measured) -> list[str]:
    """Return a label for each of the first images: its class, or its name where that is not unique."""
    first = range(min(len(one.images), LINES))
    classes = [one.class_name(image).split(",")[0] for image in first]
    files = [printable(PurePosixPath(one.images[image]).name) for image in first]
    if all(classes) and len(set(classes)) == len(classes):
        return classes
    return files if len(set(files)) == len(files) else [f"{name} ({n + 1})" for n, name in enumerate(files)]


def _references(one: Measured, transform: str) -> tuple[Reference, ...]:
    """Return lines at the amounts beyond which half of the images have pixels outside the file."""
    x, identity = one.amounts[transform], TRANSFORMS[transform].identity
    if identity is None or not one.values[transform].outside.any():
        return ()
    often = (one.values[transform].outside > 0).mean(axis=0) >= 0.5
    found = []
    for side in (x < identity, x > identity):
        at = x[often & side]
        free = x[~often & side]
        if at.size and free.size:  # otherwise pixels come from outside at every amount
            nearest = at[np.argmin(np.abs(at - identity))]
            found.append(Reference(float(nearest), _SYNTHETIC[one.border], axis="x"))
    return tuple(found)
