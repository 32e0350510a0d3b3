"""What each pixel adds to a unit, and what sets the unit apart from the other strong units of its place.

The *detail* of a picture is the picture minus the blurred picture. Each value of both maps belongs to the
detail of one pixel in one colour. It is positive if this detail raises the activation.

- **contribution**: the mean of two estimates for the activation a of a unit. The first is the mean gradient
  of a at three pictures, times the detail. The three pictures have one third, two thirds and all of the
  detail: this is integrated gradients (Sundararajan et al. 2017) from the blurred picture in three steps. The
  second is guided backpropagation (Springenberg et al. 2014) times the detail, scaled so that its absolute
  values add up to |a|. The first estimate tells the units of a place apart, the second finds parts better.
- **contrast**: c - a * mean(c_j / a_j), where c is the contribution to the unit and c_j that to other units
  of its place: the five strongest other channels above zero at the same position. Each contribution is
  relative to the activation of its unit, and the result is in the size of a.

A contribution divided by a estimates the share of the activation that is lost without this detail. The
page docs/explanation/contribution-and-contrast.md says what else was tried, and how it was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from deconvviz.engine.units import Unit, strongest_others
from deconvviz.methods.blur import blurred
from deconvviz.methods.method import Method, Report, Subject, register
from deconvviz.methods.unit_function import checked_units
from deconvviz.recording import Recording
from deconvviz.wording import counted

SHARES = (1 / 3, 2 / 3, 1.0)
"""Shares of the detail in the pictures at which gradients are taken. The last one is the picture itself."""

OTHERS = 5
"""Number of other units that a contrast compares a unit with."""

_NEEDS = ("gradient", "guided")
_SIGNAL_BYTES = 2**26  # for the signals of one batch, which have the size of the layer

_Place: TypeAlias = "tuple[int, int | None, int | None]"  # channel, row and column


class _Signed(Method):
    """A map of signed contributions, computed from recordings of the picture with less detail."""

    signed = True
    needs = _NEEDS

    def unsupported(self, subject: Subject) -> str:
        for name in _NEEDS:
            if uses := subject.recording.coverage(subject.layer, name).unsupported:
                return f"{uses[0].short} is unsupported: {uses[0].note}"
        return ""


class Contribution(_Signed):
    """What each pixel adds to the activation of a unit, compared to the blurred picture."""

    name = "contribution"
    title = "contribution"
    source = "defined here, after Sundararajan et al. 2017 and Springenberg et al. 2014"
    meaning = "what the detail of each pixel adds to the activation, compared to the blurred picture"

    def cost(self, units: int) -> str:
        return f"{len(SHARES)} recorded passes, {counted(units * (len(SHARES) + 1), 'projection')} in batches"

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        return _on_cpu(_contributions(subject, checked_units(subject, units), report))


class Contrast(_Signed):
    """What sets a unit apart from the other strong units of its place.

    Without another unit above zero at its place, the contrast of a unit is its contribution.
    """

    name = "contrast"
    title = "contrast"
    source = "defined here, from the contribution"
    meaning = "contribution minus the mean of other strong units of the place, relative to the activations"

    def cost(self, units: int) -> str:
        most = counted(units * (OTHERS + 1) * (len(SHARES) + 1), "projection")
        return f"{len(SHARES)} recorded passes, at most {most} in batches"

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        asked = checked_units(subject, units)
        activations = subject.activations().cpu()
        others = [strongest_others(activations, unit, OTHERS) for unit in asked]
        groups = [[unit, *rest] for unit, rest in zip(asked, others, strict=True)]
        every = {_place(unit): unit for group in groups for unit in group}
        row = {place: number for number, place in enumerate(every)}
        found = _contributions(subject, list(every.values()), report)
        maps = torch.stack([found[row[_place(unit)]] for unit in asked])
        for number, (unit, rest) in enumerate(zip(asked, others, strict=True)):
            for other in rest:
                share = unit.activation / other.activation / len(rest)
                maps[number] -= share * found[row[_place(other)]]
        return _on_cpu(maps)


def _contributions(subject: Subject, units: Sequence[Unit], report: Report | None) -> Tensor:
    """Return the contribution to each unit, (K, C, H, W), in the network's dtype or float32."""
    layer, inputs = subject.layer, subject.inputs.detach()
    soft = blurred(inputs)
    detail = inputs - soft
    steps, done = len(SHARES) + 1, 0

    def step() -> None:
        nonlocal done
        done += 1
        if report is not None:
            report(done, steps)

    guided = subject.recording.project(layer, units, method="guided").pixels * detail
    size = guided.abs().sum(dim=(1, 2, 3), keepdim=True)
    activations = guided.new_tensor([abs(unit.activation) for unit in units]).view(-1, 1, 1, 1)
    found = guided * torch.where(size > 0, activations / size, 0)
    step()
    for share in SHARES:
        recording = subject.recording
        if share != 1:
            recording = subject.network.record(soft + share * detail, layer, methods=("gradient",))
        found += _gradients(recording, subject, units) * detail / len(SHARES)
        step()
    return found / 2


def _gradients(recording: Recording, subject: Subject, units: Sequence[Unit]) -> Tensor:
    """Return the gradient of each unit at the picture of a recording, (K, C, H, W).

    The signal is 1, not the activation, which can be zero in this picture.
    """
    one = subject.activations()
    batch = max(1, _SIGNAL_BYTES // (one.numel() * one.element_size()))
    found = []
    for start in range(0, len(units), batch):
        part = units[start : start + batch]
        signals = one.new_zeros((len(part), *one.shape[1:]))
        for signal, unit in zip(signals, part, strict=True):
            signal[_place(unit)[: one.dim() - 1]] = 1
        pixels = recording.project(
            subject.layer, signals, method="gradient", image_indices=[0] * len(part)
        ).pixels
        found.append(pixels)
    return torch.cat(found)


def _place(unit: Unit) -> _Place:
    return unit.channel, unit.y, unit.x


def _on_cpu(maps: Tensor) -> Tensor:
    """Return maps on the CPU, at least in single precision."""
    own = maps.detach().cpu()
    return own if own.dtype == torch.float64 else own.float()


register(Contribution())
register(Contrast())
