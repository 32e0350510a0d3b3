"""Does a projection lie on what its channel looks for? In scenes we can tell: we know where each part is.

A search of minivgg over generated scenes finds each channel's nine strongest pictures. In each of them every
part (wheel, eye, sail ...) has a share of the receptive field's area, and a share of the energy (the sum of
squares) of the projection. A channel's top nine *agree* on a part if it is in sight in all of them, and has
the most energy beyond its area in four at least of the five of odd rank. It is then measured on the four of
even rank, whose energy had no say in the choice. The control takes the masks of other scenes with this part,
at the same place; it lies a little above 1, because projections and objects gather in the middle of a field.
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
"""Seeds of the control's scenes."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A projection's energy within its receptive field, and the same piece of any mask."""

    seed: int
    box: tuple[int, int, int, int]
    energy: Map  # (h, w), adds up to 1

    def shares(self, mask: Mask) -> tuple[float, float]:
        """Of the energy, and of the field's area."""
        x0, y0, x1, y1 = self.box
        part = mask[y0:y1, x0:x1]
        return float(self.energy[part].sum()), float(part.mean())

    def sees(self, part: str) -> bool:
        mask = masks_of(self.seed).get(part)
        return mask is not None and self.shares(mask)[1] > 0


@dataclass(frozen=True)
class Agreement:
    """A part on which a channel's strongest pictures agree, and how much of the energy lies on it."""

    layer: str
    channel: int
    part: str
    agree: int  # of nine
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
    """Of those channels that agree on a part, in `count` scenes; only each `every`-th channel is asked."""
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
    seed = int(one.peak.image.removeprefix("scene-"))
    return Shown(seed, one.peak.box or (0, 0, 96, 96), energy / energy.sum())


def agreement(layer: str, channel: int, shown: Sequence[Shown]) -> Agreement | None:
    """None if the pictures do not agree."""
    choices = [choice(one) for one in shown]
    part, times = Counter(choices[::2]).most_common(1)[0]
    if part is None or times < 4 or not all(one.sees(part) for one in shown):
        return None
    measured = shown[1::2]
    own = [one.shares(masks_of(one.seed)[part]) for one in measured]
    others = [masks_of(seed)[part] for seed in OTHERS if part in masks_of(seed)]
    control = [one.shares(mask) for one in measured for mask in others]
    return Agreement(layer, channel, part, choices.count(part), *means(own), *means(control))


def choice(one: Shown) -> str | None:
    """The part that has the most energy beyond its area."""
    beyond = {part: float(np.subtract(*one.shares(mask))) for part, mask in masks_of(one.seed).items()}
    return max(beyond, key=beyond.__getitem__, default=None)


def means(shares: Iterable[tuple[float, float]]) -> tuple[float, float]:
    energy, area = np.mean(list(shares), axis=0)
    return float(energy), float(area)


@cache
def masks_of(seed: int) -> Mapping[str, Mask]:
    """Where each part is, that of the object and strays alike."""
    drawn = scene(seed)
    names = {*drawn.parts, *drawn.strays}
    return {name: drawn.parts.get(name, nowhere()) | drawn.strays.get(name, nowhere()) for name in names}


def nowhere() -> Mask:
    return np.zeros((96, 96), np.bool_)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=400)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = agreements(asked.scenes)
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
            f"{layer}: {len(of_layer)} channels agree on a part. Energy over area is {ratio:.2f} in the "
            f"median, above 1 for {more} of them, and {control:.2f} with the parts of other scenes"
        )


if __name__ == "__main__":
    main()
