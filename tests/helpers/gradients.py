"""Independent reference implementations of the gradient and of guided backpropagation: plain autograd.

Nothing in this file uses the engine. `Guided` is the package's second implementation (`--verify` uses it).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvviz.verification.guided import Guided as Guided


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
