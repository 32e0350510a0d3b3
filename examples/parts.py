"""Measure whether maps show the parts that a unit depends on, on scenes that are redrawn without each part.

The true effect of a part on a unit is the fall of the unit's activation if the scene is redrawn without this
part, and everything else is the same. First, the strongest unit of each layer in one scene that sees at least
three parts: the area of each part in its receptive field, the share of the energy of its projection (the sum
of squares) on the part, and the true effect. Then `dv.trust`, which compares the maps of several methods with
the true effects on many scenes:

finds        rank correlation of what a map says of each part with the true effect, for each unit
tells apart  the same between units of one place, after what they share is taken out
energy/area  energy on the part of largest effect, over its share of the area
pointing     share of units whose highest pixel is on the part of largest effect

In brackets: the 95 % interval, and what a map has that says nothing (in the first column, the area of parts).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import deconvviz as dv
from deconvviz.methods.method import DEFAULT_METHODS
from deconvviz.scenes import Scene, scene

LAYERS = ("conv3_2", "conv4_2")
MEASURES = {
    "finds": "finds",
    "tells_apart": "tells apart",
    "energy_over_area": "energy/area",
    "pointing": "pointing",
}


@dataclass(frozen=True)
class PartOfUnit:
    """What one part means for one unit."""

    part: str
    area: float  # share of the pixels of the receptive field
    energy: float  # share of the energy of the projection
    fall: float  # of the activation without the part, relative to the activation


def parts_of_unit(net: dv.Network, drawn: Scene, layer: str, unit: dv.Unit) -> list[PartOfUnit]:
    """Return the parts of a scene inside the receptive field of a unit, that of the largest effect first."""
    projection = net.record(drawn.image, layer).project(layer, unit)
    x0, y0, x1, y1 = projection.boxes[0]
    energy = projection.pixels[0].square().sum(dim=0)[y0:y1, x0:x1].numpy()
    masks = {part: mask[y0:y1, x0:x1] for part, mask in drawn.parts.items()}
    masks = {part: mask for part, mask in masks.items() if mask.any()}
    if not masks:
        return []
    redrawn = net.record([drawn.redrawn(without=part).image for part in masks], layer)
    without = redrawn.activations(layer)[:, unit.channel, unit.y, unit.x].tolist()
    rows = [
        PartOfUnit(
            part, float(mask.mean()), float(energy[mask].sum() / energy.sum()), 1 - left / unit.activation
        )
        for (part, mask), left in zip(masks.items(), without, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.fall)


def print_unit(net: dv.Network, drawn: Scene, layer: str) -> None:
    """Print what each part means for the strongest unit of a layer that sees three parts or more."""
    for unit in net.record(drawn.image, layer).strongest(layer, k=9):
        rows = parts_of_unit(net, drawn, layer, unit)
        if len(rows) >= 3:
            break
    print(f"{layer}, {drawn.name} of seed {drawn.seed}, channel {unit.channel} at ({unit.y}, {unit.x}):")
    print(f"  {'part':<10} {'area':>7} {'energy':>7} {'fall':>7}")
    for row in rows:
        print(f"  {row.part:<10} {row.area:>7.1%} {row.energy:>7.1%} {row.fall:>7.1%}")


def print_trust(found: dv.Trust) -> None:
    """Print one line for each method, and the sentences of the summary."""
    print(f"{found.layer.name}, {found.units} units of {len(found.pictures)} scenes:")
    print(f"  {'method':<14} " + " ".join(f"{title:>24}" for title in MEASURES.values()) + "  read as")
    for name, measures in found.measures.items():
        parts = measures["parts"]
        if parts is not None:
            cells = " ".join(f"{cell(parts[measure]):>24}" for measure in MEASURES)
            print(f"  {name:<14} {cells}  {parts['reading']}")
    for sentence in found.summary():
        print(f"  {sentence}")


def cell(measure: Mapping[str, Any]) -> str:
    """Return a value, its 95 % interval and its baseline, such as ``0.62 [0.44 0.75; 0.52]``."""
    numbers = [measure[key] for key in ("value", "low", "high", "baseline")]
    value, low, high, baseline = ("-" if number is None else f"{number:.2f}" for number in numbers)
    return f"{value} [{low} {high}; {baseline}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=20, help="number of scenes (default 20)")
    parser.add_argument("--seed", type=int, default=11, help="seed of the scene that is shown (default 11)")
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="LAYER")
    parser.add_argument("--methods", nargs="+", default=DEFAULT_METHODS, metavar="METHOD")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    net = dv.load("minivgg")
    for layer in options.layers:
        print_unit(net, scene(options.seed), layer)
    for layer in options.layers:
        print_trust(dv.trust(net, f"scenes:{options.scenes}", layer, methods=options.methods))


if __name__ == "__main__":
    main()
