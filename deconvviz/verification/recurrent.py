"""Second implementation of recurrent layers: their gates and their tanh are constants, ReLU is rectified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deconvviz.verification.unverifiable import Unverifiable

Rectify = Callable[[Tensor, Tensor], Tensor]
"""Returns its second argument, with a projection to the first that rectifies the signal."""

LAYERS = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
CELLS = (torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell)


def recurrent_layer(
    call: Any,
    rectify: Rectify,
    input: Tensor,
    states: Any,
    weights: Any,
    has_biases: Any,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Tensor, ...]:
    """Return what `torch.lstm`, `torch.gru`, `torch.rnn_tanh` and `torch.rnn_relu` return."""
    if not isinstance(weights, (list, tuple)) or not isinstance(has_biases, bool):
        raise Unverifiable("there is no second implementation of recurrent layers for packed sequences")
    cell = CELLS[LAYERS.index(call)]
    first = tuple(states) if isinstance(states, (list, tuple)) else (states,)
    steps = list(input.unbind(1 if batch_first else 0))  # (B, F) each
    passes = num_layers * (2 if bidirectional else 1)
    each = len(weights) // passes
    projects = each == (5 if has_biases else 3)  # an LSTM with proj_size
    last = []
    for layer in range(num_layers):
        found = []
        for direction in range(passes // num_layers):
            number = layer * (passes // num_layers) + direction
            own = list(weights[number * each : (number + 1) * each])
            smaller = own.pop() if projects else None
            state, outputs = tuple(one[number] for one in first), []
            for x in steps[::-1] if direction else steps:
                state = recurrent_cell(cell, rectify, x, state, *own)
                if smaller is not None:
                    state = (state[0] @ smaller.T, *state[1:])
                outputs.append(state[0])
            found.append(outputs[::-1] if direction else outputs)
            last.append(state)
        steps = [torch.cat(parts, 1) for parts in zip(*found, strict=True)]
    return torch.stack(steps, 1 if batch_first else 0), *(
        torch.stack(list(s)) for s in zip(*last, strict=True)
    )


def recurrent_cell(
    call: Any,
    rectify: Rectify,
    input: Tensor,
    states: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return the next states: (h, c) of an LSTM, (h,) of the others."""
    given = tuple(states) if isinstance(states, (list, tuple)) else (states,)
    h = given[0]
    one = input @ w_ih.T + (0 if b_ih is None else b_ih)
    other = h @ w_hh.T + (0 if b_hh is None else b_hh)
    if call is torch.lstm_cell:
        i, f, g, o = _parts(one + other, 4)
        c = f.sigmoid().detach() * given[1] + (i.sigmoid() * g.tanh()).detach()
        return (o.sigmoid() * c.tanh()).detach(), c
    if call is torch.gru_cell:
        (r, z, n), (h_r, h_z, h_n) = _parts(one, 3), _parts(other, 3)
        new = (n + (r + h_r).sigmoid() * h_n).tanh().detach()
        update = (z + h_z).sigmoid().detach()
        return ((1 - update) * new + update * h,)
    total = one + other
    return (rectify(total, total.detach().relu()) if call is torch.rnn_relu_cell else total.tanh().detach(),)


def _parts(gates: Tensor, count: int) -> Sequence[Tensor]:
    return gates.chunk(count, 1)
