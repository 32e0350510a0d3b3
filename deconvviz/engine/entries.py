"""Single entries of tensors of any shape as signals, such as the class score of one anchor of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window, signal_dtype
from deconvviz.engine.receptive_fields import everything
from deconvviz.engine.units import Seed, Unit
from deconvviz.errors import UnitError


@dataclass(frozen=True)
class Entry(Unit):
    """One entry of the network's own tensor, with the batch: `index` has a number for each dimension."""

    index: tuple[int, ...] = ()


class EntrySeed(Seed):
    """Signals of entries: their recorded values. `values` is the network's own tensor for one image."""

    def __init__(self, values: Tensor, layout: TensorLayout, units: Sequence[Entry], layer: str) -> None:
        if layout.batch_at or tuple(values.shape) != layout.network_shape(1):
            raise UnitError(
                f"entries of {layer} cannot be projected: it returns {tuple(values.shape)}, in which the "
                "image is not the first dimension"
            )
        self.values, self.units = values, units
        super().__init__(everything(layout, len(units)), torch.tensor([0] * len(units)))

    def check(self) -> None:
        for unit in self.units:
            if not bool(self.values[unit.index].isfinite()):
                raise UnitError(f"unit ({unit}) cannot be projected: its activation is not finite")

    def signal(self, part: Tensor, window: Window) -> Tensor:
        chosen = [self.units[number] for number in part.tolist()]
        dtype = signal_dtype(self.values.dtype)
        signals = []
        for unit in chosen:
            whole = torch.zeros_like(self.values, dtype=dtype)
            whole[unit.index] = self.values[unit.index].to(dtype)
            signals.append(whole.reshape(window.layout.shape))
        return torch.stack(signals)


def recorded_entries(values: Tensor, units: Sequence[Entry], layer: str) -> list[Entry]:
    """Return the entries with their recorded values. Raise UnitError if one does not exist."""
    for unit in units:
        lengths = values.shape
        inside = len(unit.index) == len(lengths) and all(
            0 <= number < length for number, length in zip(unit.index, lengths, strict=True)
        )
        if not inside:
            raise UnitError(f"no entry {unit.index} in {layer}: it has the shape {tuple(lengths)}")
    return [replace(unit, activation=float(values[unit.index])) for unit in units]
