"""Independent reference implementations of the gradient and of guided backpropagation: plain autograd.

Nothing in this file uses deconvviz.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from helpers.origins import forms, is_zero, overwrites


class _GuidedReLU(torch.autograd.Function):
    """ReLU with the gradient of guided backpropagation (Springenberg et al. 2014)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        (positive,) = ctx.saved_tensors
        return signals[0].clamp_min(0) * positive


class Guided(TorchFunctionMode):
    """Mode that replaces every call of ReLU, also in place, functional or written as a clamp at 0."""

    RELU = (*forms("relu"), torch.nn.functional.relu_)
    CLAMPED = forms("clamp", "clamp_min", "clip")

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if call in self.RELU or (call in self.CLAMPED and self._at_zero(*args[1:], **kwargs)):
            x = args[0] if args else kwargs["input"]
            result = _GuidedReLU.apply(x.clone())
            in_place = overwrites(call) or kwargs.get("inplace") or (call is F.relu and True in args[1:])
            return x.copy_(result) if in_place else result
        return call(*args, **kwargs)

    @staticmethod
    def _at_zero(min: Any = None, max: Any = None, **options: Any) -> bool:
        return max is None and min is not None and is_zero(min)


class PlainAutograd:
    """Forward pass with gradients. Returns the gradient of any signal at the first output of any module.

    `mode` is a torch function mode for the forward pass, such as `Guided()`.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        layers: Collection[str] | None = None,
        mode: TorchFunctionMode | None = None,
    ) -> None:
        assert not network.training
        self.outputs: dict[str, Tensor] = {}
        parts = [(name, part) for name, part in network.named_modules() if layers is None or name in layers]
        hooks = [part.register_forward_hook(self._keep(name)) for name, part in parts]
        try:
            with torch.enable_grad():
                self.images = images.detach().clone().requires_grad_(True)
                if mode is None:
                    network(self.images.clone())  # a leaf cannot be overwritten
                else:
                    with mode:
                        network(self.images.clone())
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, output.clone())  # a later call may overwrite it

        return hook

    def project(self, module: str, signal: Tensor) -> Tensor:
        """Return the gradient (B, C, H, W) of a signal (B, *layer)."""
        output = self.outputs[module]
        if not output.requires_grad:
            return torch.zeros_like(self.images)
        (pixels,) = torch.autograd.grad(output, self.images, signal, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.images) if pixels is None else pixels
