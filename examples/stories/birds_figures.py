"""Figures of `birds.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import deconvviz as dv
from deconvviz.figures import draw
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.models.minivgg import STD
from stories.birds_pixels import INSIDE, PLACES, Deletion, Views
from stories.scene_data import Pictures
from stories.scene_figures import colours, saved

SHOWN = 6  # pictures in the figure of masks
COLUMNS = 5  # largest number of epochs in the figure of projections


def training(measured: Mapping[str, Any], out: Path) -> None:
    """Draw the loss and the IoU of each epoch."""
    epochs = measured["epochs"]
    steps = np.array([one["epoch"] for one in epochs], float)
    loss = np.array([np.nan if one["loss"] is None else one["loss"] for one in epochs])
    iou = np.array([one["validation"] for one in epochs])
    panels = (
        CurvePanel((Curve("training loss", steps, loss),), "epoch", "cross-entropy"),
        CurvePanel((Curve("validation mean IoU", steps, iou),), "epoch", "mean IoU", y_range=(0, 1)),
    )
    title = (f"Training on {measured['pictures']} pictures",)
    saved(draw(Curves(title, panels, CurvesStyle(shared_y=False, columns=2))), out / "birds-training.png")


def segmented(fresh: Pictures, found: np.ndarray, out: Path) -> None:
    """Draw pictures with their true and found masks: the median case, the best, the worst and others."""
    chosen = _chosen(fresh.masks, found)
    rows = [
        tuple(GridTile(colours(fresh.images[n]), "image") for n in chosen),
        tuple(GridTile(fresh.masks[n].astype(np.float32), "image") for n in chosen),
        tuple(
            GridTile(found[n].astype(np.float32), "image", caption=(_caption(fresh.masks[n], found[n]),))
            for n in chosen
        ),
    ]
    title = (
        "Pictures that training never saw",
        "from the best bird to the worst; at the right without a bird",
    )
    grid = TileGrid(title, tuple(rows), row_labels=("picture", "true mask", "found mask"))
    saved(draw(grid), out / "birds-segmented.png")


def _chosen(masks: np.ndarray, found: np.ndarray) -> list[int]:
    """Return pictures with an object, from the best IoU to the worst, and two without one."""
    shows = np.flatnonzero(masks.any((1, 2)))
    scores = [(masks[n] & found[n]).sum() / (masks[n] | found[n]).sum() for n in shows]
    ordered = shows[np.argsort(scores)[::-1]]
    places = np.linspace(0, len(ordered) - 1, min(SHOWN - 2, len(ordered))).round().astype(int)
    without = np.flatnonzero(~masks.any((1, 2)))
    worst = without[np.argsort(-found[without].sum((1, 2)), kind="stable")][:1]
    return [*ordered[places].tolist(), *dict.fromkeys([*without[:1].tolist(), *worst.tolist()])]


def _caption(mask: np.ndarray, found: np.ndarray) -> str:
    if not mask.any():
        return f"{found.mean():.1%} of the pixels"
    return f"IoU {(mask & found).sum() / (mask | found).sum():.2f}"


def channels(layer: str, counts: Sequence[int], iou: Mapping[str, Sequence[float]], out: Path) -> None:
    """Draw the IoU if several channels are set to zero, for each order."""
    numbers = np.array(counts, float)
    curves = tuple(Curve(order, numbers, np.array(values)) for order, values in iou.items())
    panel = CurvePanel(curves, "channels set to zero", "mean IoU", y_range=(0, 1))
    saved(draw(Curves((f"Channels of {layer} set to zero",), (panel,))), out / "birds-channels-removed.png")


def projections(
    pictures: Pictures,
    labels: Sequence[str],
    all_views: Sequence[Views],
    numbers: Mapping[str, Any],
    out: Path,
) -> None:
    """Draw projections of output pixels at several epochs, and what was measured at each epoch."""
    last = len(all_views) - 1
    steps = sorted(set(np.linspace(0, last, min(COLUMNS, last + 1)).round().astype(int).tolist()))
    rows, names = [], []
    for n in range(min(2, len(pictures))):
        for place in PLACES:
            y, x = (int(v) for v in all_views[-1].places[place][n])
            size = pictures.images.shape[1]
            mark = Mark((max(0, x - 3), max(0, y - 3), min(size, x + 4), min(size, y + 4)), 1)
            row = [GridTile(colours(pictures.images[n]), "image", marks=(mark,))]
            for step in steps:
                shown = np.moveaxis(all_views[step].projections[place][n], 0, -1) * STD[0]
                row.append(GridTile(shown, "signed"))
            rows.append(tuple(row))
            names.append("pixel inside" if place == INSIDE else "pixel outside")
    columns = ("picture", *(labels[step] for step in steps))
    style = TileGridStyle(scale="tile", limits=False)
    title = ("Projections of one pixel of the score to the picture", "each tile has its own colour scale")
    grid = TileGrid(title, tuple(rows), tuple(names), columns, style, units="in pixel values")
    saved(draw(grid), out / "birds-projections.png")
    if len(labels) > 1:
        saved(draw(_measured(labels, numbers)), out / "birds-masking.png")


def _measured(labels: Sequence[str], numbers: Mapping[str, Any]) -> Curves:
    steps = np.array([float(label.split()[1]) for label in labels])
    on, seen = "energy on the object (median)", "pixels with 95 % of the energy (median share)"
    curves = {
        key: tuple(Curve(f"pixel {place}", steps, np.array(numbers[place][key])) for place in PLACES)
        for key in (on, seen)
    }
    area = Reference(numbers["median area of the object"], "area of the object")
    panels = (
        CurvePanel(curves[on], "epoch", "share on the object", "Energy", y_range=(0, 1), references=(area,)),
        CurvePanel(
            curves[seen], "epoch", "share of the picture", "Pixels with 95 % of the energy", y_range=(0, 1)
        ),
    )
    title = (f"Projections of pixels of the score: medians of {numbers['pictures']} pictures",)
    return Curves(title, panels, CurvesStyle(columns=2))


def deletion(
    shown: Pictures,
    left: Mapping[float, Tensor],
    masks: Mapping[float, np.ndarray],
    removed: Deletion,
    net: dv.Network,
    out: Path,
) -> None:
    """Draw pictures without their least important pixels, and the IoU for each order of removal."""
    rows = []
    for n in range(len(shown)):
        rows.append(tuple(GridTile(net.preprocessing.view(inputs[n]), "image") for inputs in left.values()))
        rows.append(
            tuple(
                GridTile(found[n].astype(np.float32), "image", caption=(_caption(shown.masks[n], found[n]),))
                for found in masks.values()
            )
        )
    columns = tuple("complete" if share == 0 else f"{share:.0%} removed" for share in left)
    names = ("picture", "found mask") * len(shown)
    grid = TileGrid(("Pixels of least projection removed",), tuple(rows), names, columns)
    curves = tuple(
        Curve(order, 100 * removed.shares, values, markers=False) for order, values in removed.iou.items()
    )
    panel = CurvePanel(curves, "removed pixels", "IoU of the object", x_units="%", y_range=(0, 1))
    whole = Panels(("Which pixels the masks do not need",), ((grid,), (Curves((), (panel,)),)))
    saved(draw(whole), out / "birds-deletion.png")
