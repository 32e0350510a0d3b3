"""Recurrent layers (LSTM, GRU, RNN), which PyTorch computes in one call, or in one call for each time step.

They are constants. `unrolled` computes most recurrent layers in single steps instead, with the same result:
their gates and their tanh are constants.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.rules.activation import Constant, Gate
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call

aten = torch.ops.aten

OPERATIONS = [
    getattr(aten, name).default
    for name in (
        "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "_lstm_mps",
        "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell",
    )
    if hasattr(aten, name)
]  # fmt: skip


@rule(*OPERATIONS)
class Recurrent(Constant):
    """A recurrent layer over a sequence (time, B, features), or one step of it (B, features)."""

    note = f"a recurrent layer, {Gate.note}"

    def output_layout(self, call: Call) -> TensorLayout:
        layout, shape = call.layouts[0] or call.layout, tuple(call.output.shape)
        if layout.folded or len(shape) != 1 + len(layout.shape):
            return super().output_layout(call)
        rest = [n for dim, n in enumerate(shape) if dim != layout.batch_at]
        return replace(layout.unplaced(rest), batch_at=layout.batch_at)
