"""Filters of one network, with their measures in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.experiments.filters_measures import DEAD, DOMINANT, DOUBLE, Measures, peak_at_stride
from deconvviz.experiments.filters_second import Seen
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.wording import counted

PEAK = 2.0
"""A peak of this height in the spectrum of projections is called visible aliasing (ours)."""

ORIENTATIONS = ("horizontal", "vertical", "rising", "falling")
BANDS = ("low", "middle", "high")


@dataclass(frozen=True, eq=False)
class Bank:
    """Filters of one network.

    Attributes:
        network: Facts about the network.
        layer: The convolution.
        weights: (F, C, h, w).
        stride: Stride of the convolution (rows, columns).
        measures: Measures of the F filters.
        second: The projected layer; None without images.
        seen: Projections, and filters that are silent; None without images.
    """

    network: NetworkInfo
    layer: Layer
    weights: npt.NDArray[Any]
    stride: tuple[int, int]
    measures: Measures
    second: Layer | None = None
    seen: Seen | None = None

    @property
    def peak(self) -> float | None:
        """Rise of the spectrum of the projections at the frequency of the stride (see `peak_at_stride`)."""
        return None if self.seen is None else peak_at_stride(list(self.seen.pixels), self.stride)

    def order(self, by_size: bool) -> npt.NDArray[np.int64]:
        """Return the numbers of the filters in the order of the figure."""
        if by_size:
            return np.argsort(-self.measures.rms, kind="stable")
        return np.arange(len(self.weights))

    def to_json(self) -> dict[str, Any]:
        """Return counts and numbers as plain JSON values."""
        found = self.measures
        flags: dict[str, Any] = {
            name: np.flatnonzero(getattr(found, name)).tolist() for name in ("dead", "dominant", "aliased")
        }
        pairs = [(number, int(found.nearest[number])) for number in np.flatnonzero(found.doubles).tolist()]
        return {
            "layer": self.layer.name,
            "filters": len(self.weights),
            "kernel": list(self.weights.shape[2:]),
            "stride": list(self.stride),
            "median_rms": float(np.median(found.rms)),
            "largest_rms": float(found.rms.max()),
            **flags,
            "doubles": sorted({(min(pair), max(pair)) for pair in pairs}),
            "silent": None if self.seen is None else np.flatnonzero(self.seen.silent).tolist(),
            "colour": float((found.colour > 0.5).mean()),
            "bands": dict(zip(BANDS, found.bands.mean(0).tolist(), strict=True)),
            "energy_above_nyquist": float(found.above_nyquist.mean()),
            "second_layer": None if self.second is None else self.second.name,
            "peak_at_stride": self.peak,
        }


def rows_of(which: str, bank: Bank) -> list[dict[str, Any]]:
    found = bank.measures
    rows = []
    for number in range(len(bank.weights)):
        double = bool(found.doubles[number])
        rows.append(
            {
                "network": which,
                "layer": bank.layer.name,
                "filter": number,
                "rms": float(found.rms[number]),
                **dict(zip(BANDS, found.bands[number].tolist(), strict=True)),
                **dict(zip(ORIENTATIONS, found.orientations[number].tolist(), strict=True)),
                "colour": float(found.colour[number]),
                "above_nyquist": float(found.above_nyquist[number]),
                "dead": bool(found.dead[number]),
                "dominant": bool(found.dominant[number]),
                "aliased": bool(found.aliased[number]),
                "double_of": int(found.nearest[number]) if double else None,
                "correlation": float(found.correlation[number]) if double else None,
                "silent": None if bank.seen is None else bool(bank.seen.silent[number]),
            }
        )
    return rows


def sentences_of(bank: Bank, named: bool) -> list[str]:
    numbers = bank.to_json()
    name = f"{bank.layer.name} ({bank.network.origin.short})" if named else bank.layer.name
    found = []
    if numbers["dominant"]:
        found.append(
            f"{name}: {_count(numbers['dominant'], 'filter')} dominant (RMS above {DOMINANT:g} times the "
            f"median {numbers['median_rms']:.3g}). The paper scales such filters down during training "
            "(dv.clip_filters)"
        )
    if numbers["dead"]:
        found.append(
            f"{name}: {_count(numbers['dead'], 'filter')} dead (RMS below {100 * DEAD:g} % of the median)"
        )
    if numbers["silent"]:
        found.append(f"{name}: {_count(numbers['silent'], 'filter')} never above zero on these images")
    if numbers["doubles"]:
        pairs = [f"{one} = {other}" for one, other in numbers["doubles"]]
        found.append(f"{name}: {_count(pairs, 'pair')} of doubles (correlation above {DOUBLE:g})")
    if numbers["aliased"]:
        found.append(
            f"{name}: {_count(numbers['aliased'], 'filter')} aliased: more than half of the energy is above "
            f"the Nyquist frequency of stride {max(bank.stride)}. The paper uses smaller filters (7 instead "
            "of 11) and a smaller stride (2 instead of 4)"
        )
    if (peak := numbers["peak_at_stride"]) is not None:
        seen = "visible" if peak >= PEAK else "not visible"
        found.append(
            f"{name}: aliasing is {seen} in the projections of {numbers['second_layer']}: at the frequency "
            f"of the stride, their spectrum is {peak:.2g} times that around it"
        )
    return found or [f"{name}: no dead, dominant, double or aliased filters"]


def _count(items: list[Any], noun: str, shown: int = 6) -> str:
    """Return a count and its first members, such as ``2 filters (3, 17)``."""
    more = ", ..." if len(items) > shown else ""
    return f"{counted(len(items), noun)} ({', '.join(map(str, items[:shown]))}{more})"
