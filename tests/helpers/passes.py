"""Recording and projection with the engine alone, for engine tests."""

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
    """A tape with the first output of every module.

    `values` are the numbers of the outputs on the tape, `outputs` the tensors with channels first.
    """

    tape: tape.Tape = field(repr=False)
    values: dict[str, int] = field(repr=False)
    outputs: dict[str, Tensor] = field(repr=False)

    def by(self, method: str) -> Pass:
        """Return the same pass with the tape of another method."""
        return Pass(self.tape.variants[method], self.values, self.outputs)

    @property
    def maps(self) -> list[str]:
        """Names of the modules whose output is (B, C, H, W) or (B, H, W, C)."""
        batch = self.tape.batch
        return [
            name
            for name, value in self.values.items()
            if self.tape.layouts[value].axes in ((2, 3), (1, 2)) and self.outputs[name].shape[0] == batch
        ]

    def in_module_layout(self, module: str, tensor: Tensor) -> Tensor:
        """Convert (B, C, H, W) to the layout of the module's output, which may have channels last."""
        return self.tape.layouts[self.values[module]].from_channels_first(tensor)

    def units(
        self, module: str, units: Sequence[Unit], memory: int | None = None
    ) -> tuple[Tensor, list[tuple[int, int, int, int]]]:
        """Return the projections (K, C, H, W) of units and their receptive fields."""
        output = self.outputs[module]
        seed = UnitSeed(output, checked(output, units, module), self.tape.layouts[self.values[module]])
        with torch.no_grad():
            fields = UnitFields(self.tape, self.values[module], seed.seen)
            return project(fields, seed, output, memory=memory), fields.boxes()

    def units_at_full_size(self, module: str, units: Sequence[Unit]) -> Tensor:
        """Return the projections (K, C, H, W), computed with whole feature maps instead of windows."""
        output = self.outputs[module]
        seed = UnitSeed(
            output, checked(output, units, module), self.tape.layouts[self.values[module]]
        ).everywhere()
        with torch.no_grad():
            return project(UnitFields(self.tape, self.values[module], seed.seen), seed, output)

    def signals(
        self, module: str, signals: Tensor, images: Sequence[int], memory: int | None = None
    ) -> Tensor:
        """Return the projections (K, C, H, W) of signals with the shape of the layer."""
        seed = TensorSeed(
            self.outputs[module], signals, images, module, self.tape.layouts[self.values[module]]
        )
        with torch.no_grad():
            fields = UnitFields(self.tape, self.values[module], seed.seen)
            return project(fields, seed, signals, memory=memory)


def run(network: nn.Module, images: Tensor, deepest: str | None = None, methods: Sequence[str] = ()) -> Pass:
    """Record a forward pass with the first output of every module, up to the module `deepest`."""
    values: dict[str, int] = {}
    outputs: dict[str, Tensor] = {}

    def wanted(out: tape.Output, tensor: Tensor) -> bool:
        if out.value is not None and out.module not in values and not out.keys:
            values[out.module] = out.value
            outputs[out.module] = tensor.clone()
        return out.module != deepest

    recorded = record_tape(network, images, wanted, methods=methods)
    layouts = {name: recorded.layouts[value] for name, value in values.items()}
    return Pass(recorded, values, {name: layouts[name].channels_first(outputs[name]) for name in outputs})


def some_units(output: Tensor, generator: torch.Generator) -> list[Unit]:
    """Return units at two corners, two borders, the centre and a random place, and each image's peak.

    For an output (B, F), return only the peaks.
    """
    count, channels = output.shape[:2]
    peaks = output.flatten(1).argmax(1).tolist()
    if output.dim() == 2:
        return [Unit(b, peak) for b, peak in enumerate(peaks)]
    h, w = output.shape[2:]

    def strongest_at(image: int, y: int, x: int) -> Unit:
        return Unit(image, int(output[image, :, y, x].argmax()), y, x)

    def anywhere(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    units = [
        strongest_at(0, 0, 0),
        strongest_at(count - 1, h - 1, w - 1),
        strongest_at(0, h // 2, w - 1),
        strongest_at(count - 1, h - 1, w // 2),
        strongest_at(0, h // 2, w // 2),
        Unit(count - 1, anywhere(channels), anywhere(h), anywhere(w)),
    ]
    for b, peak in enumerate(peaks):
        channel, y, x = (int(n) for n in torch.unravel_index(torch.tensor(peak), output.shape[1:]))
        units.append(Unit(b, channel, y, x))
    return units


def groups_by_image(units: Sequence[Unit], count: int) -> list[list[int]]:
    """Return the numbers of units in groups with at most one unit of each of `count` images.

    An oracle can project a group in one pass.
    """
    waiting = [[k for k, unit in enumerate(units) if unit.image == b] for b in range(count)]
    turns = range(max(map(len, waiting)))
    return [[numbers[turn] for numbers in waiting if turn < len(numbers)] for turn in turns]
