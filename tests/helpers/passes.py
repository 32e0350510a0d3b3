"""One forward pass through the bare engine, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deconvviz.engine import tape
from deconvviz.engine.projection_pass import project
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.recorder import record_tape
from deconvviz.engine.units import TensorSeed, Unit, UnitSeed, checked


@dataclass
class Pass:
    """A tape, and of every module's first output its value and its numbers, with channels first."""

    tape: tape.Tape = field(repr=False)
    values: dict[str, int] = field(repr=False)
    said: dict[str, Tensor] = field(repr=False)

    @property
    def maps(self) -> list[str]:
        """The modules that give (B, C, H, W), or that with channels last."""
        batch = self.tape.batch
        return [
            name
            for name, value in self.values.items()
            if self.tape.layouts[value].axes in ((2, 3), (1, 2)) and self.said[name].shape[0] == batch
        ]

    def laid_out(self, module: str, tensor: Tensor) -> Tensor:
        """(B, C, H, W) as the module itself gives it: some have their channels last."""
        return self.tape.layouts[self.values[module]].laid_out(tensor)

    def units(
        self, module: str, units: Sequence[Unit], memory: int | None = None
    ) -> tuple[Tensor, list[tuple[int, int, int, int]]]:
        """Projections (K, C, H, W) and receptive-field boxes."""
        said = self.said[module]
        seed = UnitSeed(said, checked(said, units, module))
        with torch.no_grad():
            fields = UnitFields(self.tape, self.values[module], seed.seen)
            return project(fields, seed, said, memory=memory), fields.boxes()

    def units_at_full_size(self, module: str, units: Sequence[Unit]) -> Tensor:
        """The same projections with every signal carried in the whole map: (K, C, H, W)."""
        said = self.said[module]
        seed = UnitSeed(said, checked(said, units, module)).everywhere()
        with torch.no_grad():
            return project(UnitFields(self.tape, self.values[module], seed.seen), seed, said)

    def signals(
        self, module: str, signals: Tensor, images: Sequence[int], memory: int | None = None
    ) -> Tensor:
        """Projections (K, C, H, W) of any tensors shaped like the layer."""
        seed = TensorSeed(self.said[module], signals, images, module)
        with torch.no_grad():
            fields = UnitFields(self.tape, self.values[module], seed.seen)
            return project(fields, seed, signals, memory=memory)


def run(network: nn.Module, pictures: Tensor, deepest: str | None = None) -> Pass:
    """Write down a forward pass, and remember what every module gave at its first call."""
    values: dict[str, int] = {}
    said: dict[str, Tensor] = {}

    def wanted(out: tape.Output, tensor: Tensor) -> bool:
        if out.value is not None and out.module not in values:
            values[out.module] = out.value
            said[out.module] = tensor.clone()
        return out.module != deepest

    written = record_tape(network, pictures, wanted)
    layouts = {name: written.layouts[value] for name, value in values.items()}
    return Pass(written, values, {name: layouts[name].channels_first(said[name]) for name in said})


def some_units(said: Tensor, generator: torch.Generator) -> list[Unit]:
    """Two corners, two borders, the middle, one at random, and each picture's peak; of (B, F) the peaks."""
    pictures, channels = said.shape[:2]
    peaks = said.flatten(1).argmax(1).tolist()
    if said.dim() == 2:
        return [Unit(b, peak) for b, peak in enumerate(peaks)]
    h, w = said.shape[2:]

    def strongest_at(image: int, y: int, x: int) -> Unit:
        return Unit(image, int(said[image, :, y, x].argmax()), y, x)

    def anywhere(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    units = [
        strongest_at(0, 0, 0),
        strongest_at(pictures - 1, h - 1, w - 1),
        strongest_at(0, h // 2, w - 1),
        strongest_at(pictures - 1, h - 1, w // 2),
        strongest_at(0, h // 2, w // 2),
        Unit(pictures - 1, anywhere(channels), anywhere(h), anywhere(w)),
    ]
    for b, peak in enumerate(peaks):
        channel, y, x = (int(n) for n in torch.unravel_index(torch.tensor(peak), said.shape[1:]))
        units.append(Unit(b, channel, y, x))
    return units


def by_picture(units: Sequence[Unit], pictures: int) -> list[list[int]]:
    """Numbers of units in groups with at most one of each picture: an oracle can take a group at once."""
    waiting = [[k for k, unit in enumerate(units) if unit.image == b] for b in range(pictures)]
    turns = range(max(map(len, waiting)))
    return [[numbers[turn] for numbers in waiting if turn < len(numbers)] for turn in turns]
