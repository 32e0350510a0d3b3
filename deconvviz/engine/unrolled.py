"""Recurrent layers (LSTM, GRU, RNN) as single steps, with the batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]
"""(h, c) of an LSTM, (h,) of the others; each (B, H)."""

Step = Callable[[Tensor, Tensor, State], State]
"""Returns the next state from the summands of the gates that the input and the state contribute."""


def recurrent(part: Any, input: Any, hx: Any = None) -> Any:
    """Return what the forward pass of `nn.LSTM`, `nn.GRU` or `nn.RNN` returns for the same arguments."""
    if not isinstance(input, Tensor) or input.dim() != 3:  # a packed sequence, or one without a batch
        return type(part).forward(part, input, hx)
    x = input if part.batch_first else input.transpose(0, 1)  # (B, T, F)
    given = hx if isinstance(hx, tuple) else (hx,)
    directions = 2 if part.bidirectional else 1
    finals: list[State] = []
    for layer in range(part.num_layers):
        found = []
        for direction in range(directions):
            number = layer * directions + direction
            first = _zeros(part, x) if hx is None else tuple([one[number] for one in given])
            outputs, final = _pass(
                part, x, f"l{layer}{'_reverse' * direction}", first, backwards=direction == 1
            )
            found.append(outputs)
            finals.append(final)
        x = torch.cat(found, -1) if directions > 1 else found[0]
    states = [torch.stack(list(some)) for some in zip(*finals, strict=True)]  # (layers * directions, B, H)
    return x if part.batch_first else x.transpose(0, 1), tuple(states) if len(states) > 1 else states[0]


def _zeros(part: Any, x: Tensor) -> State:
    """Return the first state: (h, c) for an LSTM, else (h,)."""
    h = x.new_zeros(len(x), part.proj_size or part.hidden_size)
    return (h, x.new_zeros(len(x), part.hidden_size)) if part.mode == "LSTM" else (h,)


def _pass(part: Any, x: Tensor, name: str, state: State, *, backwards: bool) -> tuple[Tensor, State]:
    """Run one layer in one direction. Return its outputs (B, T, H) and its last state."""
    weights = [getattr(part, f"weight_{kind}_{name}", None) for kind in ("ih", "hh", "hr")]
    biases = [getattr(part, f"bias_{kind}_{name}") if part.bias else None for kind in ("ih", "hh")]
    from_input = F.linear(x, weights[0], biases[0]).unbind(1)  # type: ignore[arg-type]
    step, outputs = STEPS[part.mode], []
    for one in reversed(from_input) if backwards else from_input:
        state = step(one, F.linear(state[0], weights[1], biases[1]), state)  # type: ignore[arg-type]
        if weights[2] is not None:
            state = (F.linear(state[0], weights[2]), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs, 1), state


def _lstm(from_input: Tensor, from_state: Tensor, state: State) -> State:
    entry, forget, new, out = (from_input + from_state).chunk(4, 1)
    c = forget.sigmoid() * state[1] + entry.sigmoid() * new.tanh()
    return out.sigmoid() * c.tanh(), c


def _gru(from_input: Tensor, from_state: Tensor, state: State) -> State:
    (reset, update, new), (h_reset, h_update, h_new) = from_input.chunk(3, 1), from_state.chunk(3, 1)
    n = (new + (reset + h_reset).sigmoid() * h_new).tanh()
    return (n + (update + h_update).sigmoid() * (state[0] - n),)


STEPS: dict[str, Step] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN_TANH": lambda one, other, state: ((one + other).tanh(),),
    "RNN_RELU": lambda one, other, state: ((one + other).relu(),),
}

MODULES = (nn.LSTM, nn.GRU, nn.RNN)
