"""Random programs of views and in-place writes, as modules. autograd is their oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor, nn

Draw = Callable[[st.SearchStrategy[Any]], Any]
Action = Callable[[list[Tensor]], None]
"""An action reads and writes tensors of a list; the first is the map, the others are views or copies."""

CHANNELS, SIDE = 4, 6


class Program(nn.Module):
    """Convolution, a list of actions on its map and on views of it, and a convolution of the result."""

    def __init__(self, actions: list[tuple[str, Action]], shown: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.last = nn.Conv2d(CHANNELS, 3, 3)
        self.actions, self.shown = actions, shown

    def forward(self, x: Tensor) -> Tensor:
        found = [self.first(x)]
        for _, act in self.actions:
            act(found)
        y = found[0]
        if self.shown < len(found):  # also read a view that may have been taken before a write
            y = y + found[self.shown].flatten(1).sum(1)[:, None, None, None]
        return self.last(y)

    def extra_repr(self) -> str:
        return "\n".join(name for name, _ in self.actions)


def programs(batch: int) -> st.SearchStrategy[Program]:
    """Return programs for maps of a number of images."""

    @st.composite
    def drawn(draw: Any) -> Program:
        torch.manual_seed(draw(st.integers(0, 9)))
        shapes = [(batch, CHANNELS, SIDE, SIDE)]
        actions: list[tuple[str, Action]] = []
        for _ in range(draw(st.integers(3, 8))):
            here = max(draw(st.integers(0, len(shapes) - 1)) for _ in range(2))  # rarely the whole map
            kind = draw(st.sampled_from([_view, _view, _write, _write, _move])) if here else _view
            actions.append(kind(draw, here, shapes))
        return Program(actions, draw(st.integers(1, 8)))

    return drawn()


def _view(draw: Draw, here: int, shapes: list[tuple[int, ...]]) -> tuple[str, Action]:
    """Append a view of a tensor."""
    name, make = draw(st.sampled_from(sorted(VIEWS.items(), key=lambda pair: pair[0])))
    view = make(draw, shapes[here])
    old = torch.arange(float(torch.Size(shapes[here]).numel())).reshape(shapes[here])
    new = view(old)
    if not new.numel():
        view, new = (lambda x: x[:]), old
    shapes.append(tuple(new.shape))

    def act(found: list[Tensor]) -> None:
        found.append(view(found[here]))

    return f"{name} of {here}: {tuple(new.shape)}", act


def _slice(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    dim = draw(st.integers(1, max(1, len(shape) - 1)))
    if len(shape) == 1:
        return lambda x: x[:]
    first = draw(st.integers(0, shape[dim] - 1))
    last, step = draw(st.integers(first + 1, shape[dim])), draw(st.integers(1, 3))
    return lambda x: x[(slice(None),) * dim + (slice(first, last, step),)]


def _select(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    if len(shape) < 3:
        return lambda x: x[:]
    dim = draw(st.integers(1, len(shape) - 1))
    at = draw(st.integers(0, shape[dim] - 1))
    return lambda x: x.select(dim, at)


def _permute(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    order = draw(st.permutations(range(1, len(shape))))
    return lambda x: x.permute(0, *order)


def _split(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Split an even dimension in two by a reshape. It is a view for any strides."""
    even = [dim for dim, length in enumerate(shape) if dim and length % 2 == 0]
    if not even or len(shape) > 5:
        return lambda x: x[:]
    dim = draw(st.sampled_from(even))
    return lambda x: x.unflatten(dim, (2, -1))


def _joined(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Join the last two dimensions, which is a view or a copy."""
    return (lambda x: x.flatten(-2)) if len(shape) > 2 else (lambda x: x[:])


def _unsqueezed(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    at = draw(st.integers(1, len(shape)))
    return (lambda x: x.unsqueeze(at)) if len(shape) < 6 else (lambda x: x[:])


def _half(draw: Draw, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    wide = [dim for dim, length in enumerate(shape) if dim and length > 1]
    if not wide:
        return lambda x: x[:]
    dim, last = draw(st.sampled_from(wide)), draw(st.booleans())
    half = shape[dim] // 2
    return lambda x: x.narrow(dim, half if last else 0, half)  # autograd forbids writes into chunks


VIEWS = {
    "slice": _slice, "select": _select, "permutation": _permute, "unflatten": _split, "flatten": _joined,
    "unsqueeze": _unsqueezed, "half": _half,
}  # fmt: skip


def _write(draw: Draw, here: int, shapes: list[tuple[int, ...]]) -> tuple[str, Action]:
    """Overwrite a tensor by a number, or multiply it."""
    name = draw(st.sampled_from(["mul_", "add_", "zero_", "fill_", "masked_fill_", "square branch"]))
    mask = torch.rand(shapes[here][1:]) < 0.4

    def act(found: list[Tensor]) -> None:
        x = found[here]
        if name == "mul_":
            x.mul_(1.5)
        elif name == "add_":
            x.add_(0.5)
        elif name == "zero_":
            x.zero_()
        elif name == "fill_":
            x.fill_(2.0)
        elif name == "masked_fill_":
            x.masked_fill_(mask, 1.0)
        else:
            x += 0.5 * x.mean(-1, keepdim=True)

    return f"{name} to {here}", act


def _move(draw: Draw, here: int, shapes: list[tuple[int, ...]]) -> tuple[str, Action]:
    """Write a copy of another tensor into a tensor, or add it. Without one of the right shape, its mirror."""
    shape = shapes[here]
    alike = [n for n, other in enumerate(shapes) if other == shape]
    source, name = draw(st.sampled_from(alike)), draw(st.sampled_from(["copy", "sum", "assignment"]))

    def act(found: list[Tensor]) -> None:
        new = found[source].flip(-1) if found[source].dim() > 1 else found[source].clone()
        if name == "copy":
            found[here].copy_(new)
        elif name == "sum":
            found[here].add_(new, alpha=0.5)
        else:
            found[here][...] = 2 * new

    return f"{name} from {source} to {here}", act
