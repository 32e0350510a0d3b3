"""Channels that a convolution or a fully connected layer connects to those of other searched layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deconvviz.engine.recorder import record_tape
from deconvviz.engine.rules import Rule
from deconvviz.engine.rules.activation import ReLU
from deconvviz.engine.rules.concatenate import Concat
from deconvviz.engine.rules.convolution import Convolution
from deconvviz.engine.rules.linear import Linear, LinearModule
from deconvviz.engine.rules.normalisation import BatchNorm
from deconvviz.engine.rules.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool
from deconvviz.engine.rules.resampling import Interpolation
from deconvviz.engine.rules.reshape import Same
from deconvviz.engine.tape import Step, Tape
from deconvviz.network import Network

SHOWN = 6
"""Number of relatives of one kind on a page."""

_APART = (
    ReLU, MaxPool, AveragePool, AdaptiveMaxPool, AdaptiveAveragePool, BatchNorm, Interpolation, Same
)  # fmt: skip
"""Rules of operations that keep channels apart and in their order."""

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Relative:
    """Channel of another layer, with the norm of the kernel between both channels."""

    layer: str
    channel: int
    norm: float

    def to_json(self) -> dict[str, Any]:
        return {"layer": self.layer, "channel": self.channel, "norm": self.norm}


@dataclass(frozen=True)
class _Range:
    """Consecutive channels of a value, which are channels of another value from `first` on."""

    value: int
    first: int  # first channel in `value`
    start: int  # first channel in the value that is asked for
    count: int


@dataclass(frozen=True, eq=False)
class Link:
    """Kernel norms (above, below) between some channels of two layers."""

    above: str
    below: str
    first_above: int
    first_below: int
    norms: Numbers


class Relatives:
    """Connections between the searched layers of a network.

    Two layers are connected if the upper one is the output of a convolution that reads the lower one, each
    directly or through operations that keep channels apart (ReLU, pooling, batch normalisation) or
    concatenate them. A fully connected layer that reads another one counts as a convolution.
    """

    def __init__(self, network: Network, layers: Sequence[str]) -> None:
        self._network, self._layers = network, tuple(layers)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        blank = torch.zeros(1, *self._network.preprocessing.shape, device=self._network.device)
        tape = record_tape(self._network.module, blank.to(self._network.dtype), lambda output, tensor: True)
        values = {output.name: output.value for output in tape.outputs}
        names: dict[int, str] = {}
        for name in self._layers:
            value = values.get(self._network.layers.find(name).module)
            if value is not None:
                names.setdefault(value, name)
        return tuple(_links(_Flow(tape, names)))

    def below(self, layer: str, channel: int, k: int = SHOWN) -> list[Relative]:
        """Return the channels below with the largest kernel norms, the largest first."""
        found = [
            Relative(link.below, link.first_below + number, float(norm))
            for link in self.links
            if link.above == layer and 0 <= channel - link.first_above < len(link.norms)
            for number, norm in enumerate(link.norms[channel - link.first_above])
        ]
        return _largest(found, k)

    def above(self, layer: str, channel: int, k: int = SHOWN) -> list[Relative]:
        """Return the channels above that read this one with the largest kernel norms, the largest first."""
        found = [
            Relative(link.above, link.first_above + number, float(norm))
            for link in self.links
            if link.below == layer and 0 <= channel - link.first_below < link.norms.shape[1]
            for number, norm in enumerate(link.norms[:, channel - link.first_below])
        ]
        return _largest(found, k)

    def of(self, layer: str) -> tuple[list[str], list[str]]:
        """Return the names of the layers that are connected below and above."""
        below = dict.fromkeys(link.below for link in self.links if link.above == layer)
        above = dict.fromkeys(link.above for link in self.links if link.below == layer)
        return list(below), list(above)


def _largest(found: Sequence[Relative], k: int) -> list[Relative]:
    nonzero = [one for one in found if one.norm > 0]
    return sorted(nonzero, key=lambda one: (-one.norm, one.layer, one.channel))[:k]


class _Flow:
    """Steps of a tape by their output, and the names of values that are layers."""

    def __init__(self, tape: Tape, names: Mapping[int, str]) -> None:
        self.steps: dict[int, Step] = {step.output: step for step in tape.steps}
        self.names = names
        self._shapes = {value: layout.shape for value, layout in tape.layouts.items()}

    def channels(self, value: int) -> int:
        return self._shapes[value][0] if self._shapes.get(value) else 0

    def norms(self, step: Step) -> Numbers | None:
        """Return the norms (out, in) of the kernels of a step that mixes channels; None for other steps."""
        rank = 1 if isinstance(step.rule, (Linear, LinearModule)) else 3
        return _norms(step.rule) if len(self._shapes[step.output]) == rank else None

    def origins(self, value: int, *, through_layers: bool) -> Iterator[_Range]:
        """Yield where the channels of a value come from, if they stay apart on the way.

        The walk ends at a step that mixes channels, and at the first layer unless `through_layers`.
        """
        waiting = [_Range(value, 0, 0, self.channels(value))]
        while waiting:
            part = waiting.pop()
            step = self.steps.get(part.value)
            at_layer = part.value in self.names and not through_layers
            rule = None if step is None else step.rule
            if step is None or at_layer or not isinstance(rule, (*_APART, Concat)):
                yield part
            elif isinstance(rule, Concat):
                waiting += self._parts(part, step, rule)
            elif step.inputs and step.inputs[0] is not None:
                waiting.append(_Range(step.inputs[0], part.first, part.start, part.count))

    def _parts(self, part: _Range, step: Step, rule: Concat) -> Iterator[_Range]:
        """Yield the parts of a concatenation along the channels; nothing along other dimensions."""
        begin = 0
        for value, length in zip(step.inputs, rule.lengths, strict=True):
            low, high = max(begin, part.first), min(begin + length, part.first + part.count)
            if rule.dim == 1 and value is not None and low < high:
                yield _Range(value, low - begin, part.start + low - part.first, high - low)
            begin += length


def _links(flow: _Flow) -> Iterator[Link]:
    for value, name in flow.names.items():
        for upper in flow.origins(value, through_layers=True):
            step = flow.steps.get(upper.value)
            if step is None or (norms := flow.norms(step)) is None:
                continue
            source = next((one for one in step.inputs if one is not None), None)
            if source is None:
                continue
            for lower in flow.origins(source, through_layers=False):
                if lower.value in flow.names:
                    yield Link(
                        name,
                        flow.names[lower.value],
                        upper.start,
                        lower.first,
                        norms[
                            upper.first : upper.first + upper.count, lower.start : lower.start + lower.count
                        ],
                    )


def _norms(rule: Rule | None) -> Numbers | None:
    """Return the norms (out, in) of the kernels of a convolution or fully connected layer, else None."""
    if isinstance(rule, (Linear, LinearModule)):
        weights: Numbers = rule.weight.detach().abs().T.float().cpu().numpy()  # (in, out) -> (out, in)
        return weights
    if not isinstance(rule, Convolution) or rule.weight.dim() != 4:
        return None
    norms: Numbers = rule.weight.detach().flatten(2).norm(dim=2).float().cpu().numpy()  # (out, in / groups)
    if rule.groups == 1:
        return norms
    outputs, inputs = norms.shape
    whole = np.zeros((outputs, inputs * rule.groups), np.float32)
    for group in range(rule.groups):
        rows = slice(group * outputs // rule.groups, (group + 1) * outputs // rule.groups)
        whole[rows, group * inputs : (group + 1) * inputs] = norms[rows]
    return whole
