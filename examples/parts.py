"""Test whether projections show the part that a channel detects, on scenes with a known mask for each part.

A search with minivgg over generated scenes finds the top nine images of each channel. In each of these
images, every part (wheel, eye, sail, ...) has a share of the area of the receptive field, and a share of the
energy of the projection (the sum of squares). The surplus of a part is its share of energy minus its share of
area. The top nine of a channel *agree* on a part if two conditions are true: the part is visible in the
receptive field in all nine images, and it has the largest surplus of all parts in at least four of the five
images of odd rank. The energy on this part is then measured on the four images of even rank, which were not
used to choose the part. The control uses the masks of the same part in other scenes. Its ratio is slightly
above 1, because energy and objects are more frequent at the centre of a receptive field.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

import deconvviz as dv
from deconvviz.scenes import scene
from deconvviz.topnine.result import ProjectedPeak

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.floating]
LAYERS = ("conv3_2", "conv4_2")
OTHERS = range(1_000_000, 1_000_060)
"""Seeds of the scenes for the control."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Energy of one projection inside its receptive field."""

    seed: int
    box: tuple[int, int, int, int]
    energy: Map  # (h, w), sums to 1

    def shares(self, mask: Mask) -> tuple[float, float]:
        """Return the shares of the energy and of the area that are inside a mask."""
        x0, y0, x1, y1 = self.box
        part = mask[y0:y1, x0:x1]
        return float(self.energy[part].sum()), float(part.mean())

    def contains(self, part: str) -> bool:
        """Return True if the part is visible in the receptive field."""
        mask = masks_of(self.seed).get(part)
        return mask is not None and self.shares(mask)[1] > 0


@dataclass(frozen=True)
class Agreement:
    """Part on which the top nine images of a channel agree, with its shares of energy and area."""

    layer: str
    channel: int
    part: str
    agree: int  # number of the nine images in which the part has the largest surplus
    energy: float
    area: float
    other_energy: float
    other_area: float

    @property
    def ratio(self) -> float:
        return self.energy / self.area

    @property
    def other_ratio(self) -> float:
        return self.other_energy / self.other_area


def agreements(count: int, layers: Sequence[str] = LAYERS, every: int = 1) -> list[Agreement]:
    """Search `count` scenes, and return an `Agreement` for each channel whose top nine agree on a part.

    Only every `every`-th channel is used.
    """
    found = dv.search(dv.load("minivgg"), f"scenes:{count}", layers)
    rows = []
    for layer in layers:
        nine = found.topnine(layer, channels=range(0, found.layers[layer], every))
        for channel, peaks in nine.shown[layer].items():
            shown = [shown_of(one) for one in peaks if one.pixels.any()]
            if len(shown) == 9 and (agreed := agreement(layer, channel, shown)):
                rows.append(agreed)
    return rows


def shown_of(one: ProjectedPeak) -> Shown:
    energy = np.square(one.pixels, dtype=np.float64).sum(axis=0)  # (C, h, w) -> (h, w)
    seed = int(one.peak.image_id.removeprefix("scene-"))
    return Shown(seed, one.peak.box or (0, 0, 96, 96), energy / energy.sum())


def agreement(layer: str, channel: int, shown: Sequence[Shown]) -> Agreement | None:
    """Return the part on which the top nine agree, or None."""
    choices = [choice(one) for one in shown]
    part, times = Counter(choices[::2]).most_common(1)[0]
    if part is None or times < 4 or not all(one.contains(part) for one in shown):
        return None
    measured = shown[1::2]
    own = [one.shares(masks_of(one.seed)[part]) for one in measured]
    others = [masks_of(seed)[part] for seed in OTHERS if part in masks_of(seed)]
    control = [one.shares(mask) for one in measured for mask in others]
    return Agreement(layer, channel, part, choices.count(part), *means(own), *means(control))


def choice(one: Shown) -> str | None:
    """Return the part with the largest surplus (share of energy minus share of area)."""
    surplus = {part: float(np.subtract(*one.shares(mask))) for part, mask in masks_of(one.seed).items()}
    return max(surplus, key=surplus.__getitem__, default=None)


def means(shares: Iterable[tuple[float, float]]) -> tuple[float, float]:
    energy, area = np.mean(list(shares), axis=0)
    return float(energy), float(area)


@cache
def masks_of(seed: int) -> Mapping[str, Mask]:
    """Return the masks of all parts of a scene; a mask includes distractors of the same name."""
    drawn = scene(seed)
    names = {*drawn.parts, *drawn.distractors}
    return {
        name: drawn.parts.get(name, empty_mask()) | drawn.distractors.get(name, empty_mask())
        for name in names
    }


def empty_mask() -> Mask:
    return np.zeros((96, 96), np.bool_)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=400, help="number of scenes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_table(agreements(options.scenes))


def print_table(rows: Sequence[Agreement]) -> None:
    """Print one line for each channel and a summary of each layer."""
    head = f"{'layer':<8} {'channel':>7} {'part':<9} {'agree':>7} {'energy':>7} {'area':>7}"
    print(f"{head} {'ratio':>6} {'control':>8}")
    for row in sorted(rows, key=lambda row: (row.layer, -row.ratio)):
        print(
            f"{row.layer:<8} {row.channel:>7} {row.part:<9} {row.agree:>2} of 9 {row.energy:>7.1%} "
            f"{row.area:>7.1%} {row.ratio:>6.2f} {row.other_ratio:>8.2f}"
        )
    for layer in LAYERS:
        of_layer = [row for row in rows if row.layer == layer]
        more = sum(row.ratio > 1 for row in of_layer)
        ratio, control = (
            np.median([getattr(r, name) for r in of_layer]) for name in ("ratio", "other_ratio")
        )
        print(
            f"{layer}: {len(of_layer)} channels agree on a part. The median ratio of energy to area is "
            f"{ratio:.2f} ({more} are above 1), and {control:.2f} in the control"
        )


if __name__ == "__main__":
    main()
