"""Images cut into pieces: a network folds axes into the batch, and each piece is an image of its own.

Windows of attention, the time steps of a video and the boxes of a detector are such pieces. Most rules are
written for (B, C, H, W). `Pieces` applies such a rule to each piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.rule import Call, Rule


def rule_of(cls: type[Rule], call: Call) -> Rule:
    """Return the rule for one call. If the images are cut into pieces, the rule is applied to each piece."""
    if cls.handles_folded_batch or _lead(call) is None:
        return cls.of(call)
    return Pieces(cls, call)


def _lead(call: Call) -> tuple[int, ...] | None:
    """Return the lengths folded into the batch of all arguments; None if they differ or there are none."""
    known = [layout for layout in call.layouts if layout is not None]
    leads = {layout.shape[: layout.folded] for layout in known}
    if len(leads) != 1 or any(layout.batch_at for layout in known):
        return None
    return leads.pop() or None


class Pieces(Rule):
    """A rule for (B, C, H, W), applied to each of the P pieces of an image: B * P images, K * P signals."""

    handles_folded_batch = True

    def __init__(self, cls: type[Rule], call: Call) -> None:
        self.lead = _lead(call) or ()
        self.count = math.prod(self.lead)  # P
        self.below = [None if layout is None else self._of_a_piece(layout) for layout in call.layouts]
        inner = replace(call, layouts=tuple(self.below), batch=call.batch * self.count)
        self.inner = cls.of(inner)
        self.above = self.inner.output_layout(inner)
        self.support, self.note = self.inner.support, self.inner.note

    def _of_a_piece(self, layout: TensorLayout) -> TensorLayout:
        return layout.like(layout.shape[len(self.lead) :])

    @property
    def constants(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.inner.constants

    def keep_copies(self, memory: int) -> None:
        self.inner.keep_copies(memory)

    def unsupported(self) -> str:
        return self.inner.unsupported()

    def flows(self, argument: int) -> bool:
        return self.inner.flows(argument)

    def output_layout(self, call: Call) -> TensorLayout:
        return call.layout.unplaced((*self.lead, *self.above.shape), folded=len(self.lead))

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        images = (window.image_indices[:, None] * self.count + torch.arange(self.count)).flatten()  # (K * P,)
        arrived = self.inner.project(
            signal.flatten(0, len(self.lead)),  # (K, *lead, C, H, W) -> (K * P, C, H, W)
            Window.all_of(self.above, images),
            [Window.all_of(layout or self.above, images) for layout in self.below],
        )
        return [None if x is None else x.unflatten(0, (len(signal), *self.lead)) for x in arrived]
