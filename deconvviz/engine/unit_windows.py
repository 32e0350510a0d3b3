"""The window of every value for a batch of units: what `projection_pass` computes of a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.pixel_fields import Hull
from deconvviz.engine.receptive_fields import UnitFields


@dataclass(frozen=True)
class Spans:
    """The first position of a value that each of K units depends on, and the lengths up to the last."""

    first: Tensor  # (K, axes)
    length: Tensor  # (K, axes)
    layout: TensorLayout

    @classmethod
    def of(cls, own: Hull, layout: TensorLayout) -> Spans:
        first, past = own
        return cls(first, past - first, layout)

    @classmethod
    def whole(cls, layout: TensorLayout, count: int) -> Spans:
        length = torch.tensor([layout.lengths] * count)
        return cls(torch.zeros_like(length), length, layout)


def spans_of(fields: UnitFields, count: int) -> dict[int, Spans]:
    """Return the span of every value that the units depend on; all of it if a rule needs whole maps."""
    layouts, hulls = fields.tape.layouts, fields.extent.hulls
    whole = {value for value in hulls if layouts[value].axes is None}
    for step in fields.path:
        if step.rule is not None and not step.rule.supports_windows:
            whole.update((step.output, *(below for below in step.inputs if below is not None)))
    spans: dict[tuple[object, ...], Spans] = {}  # neighbours on a path often have the same positions
    found = {}
    for value, own in hulls.items():
        layout = layouts[value]
        one = layout, None if value in whole else id(own)
        if one not in spans:
            spans[one] = Spans.whole(layout, count) if value in whole else Spans.of(own, layout)
        found[value] = spans[one]
    return found


class AllSpans:
    """The spans of all values, so that the windows of a batch are computed at once."""

    def __init__(self, spans: Mapping[int, Spans]) -> None:
        different = {id(one): one for one in spans.values()}  # several values may have the same spans
        numbers = {key: number for number, key in enumerate(different)}
        self.number = {value: numbers[id(one)] for value, one in spans.items()}
        self.each = list(different.values())
        self.first = torch.stack([one.first for one in self.each])  # (spans, K, axes)
        self.length = torch.stack([one.length for one in self.each])
        self.whole = torch.tensor([one.layout.lengths for one in self.each])


class Windows(dict[int, Window]):
    """The window of every value for one batch of units: the smallest of a common size, inside the map."""

    def __init__(self, spans: AllSpans, units: Tensor, images: Tensor) -> None:
        super().__init__()
        self._spans, self._images = spans, images
        size = spans.length[:, units].amax(1).clamp_min(1)  # (spans, axes)
        self._sizes = size.tolist()
        self._starts = torch.minimum(spans.first[:, units], (spans.whole - size)[:, None])
        self._found: dict[int, Window] = {}

    def __missing__(self, value: int) -> Window:
        number = self._spans.number[value]
        if number not in self._found:
            layout, size = self._spans.each[number].layout, tuple(self._sizes[number])
            self._found[number] = Window(self._starts[number], size, layout, self._images)
        window = self[value] = self._found[number]
        return window
