"""Let a gradient through rectifiers that block it completely, as lucid does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.wrappers import named_parts


class _Redirected(torch.autograd.Function):
    """ReLU. If no gradient passes it, it passes the gradient that would raise its inputs in a descent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        passed = torch.where(x > 0, gradient, torch.zeros_like(gradient))
        if bool(passed.any()):
            return passed
        return gradient.clamp(max=0)


@contextmanager
def redirected_rectifiers(module: nn.Module) -> Iterator[None]:
    """Redirect gradients in the `nn.ReLU` modules of a network; the outputs stay the same.

    A unit that is 0 has no gradient, so a picture could not be changed to activate it. Rectifiers that
    `forward` calls as functions are not redirected.
    """
    inputs: dict[nn.Module, Tensor] = {}

    def before(part: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs[part] = args[0]
        return (args[0].clone(), *args[1:])  # the rectifier may work in place

    def after(part: nn.Module, args: Any, output: Any) -> Tensor:
        found: Tensor = _Redirected.apply(inputs.pop(part))
        return found

    with ExitStack() as hooks:
        for _, part in named_parts(module):
            if type(part) is nn.ReLU:
                hooks.callback(part.register_forward_pre_hook(before).remove)
                hooks.callback(part.register_forward_hook(after).remove)
        yield
