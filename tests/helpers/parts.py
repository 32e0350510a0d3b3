"""Reference for networks with several inputs, or whose modules return several tensors.

Nothing in this file uses the engine of deconvviz.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from helpers.semantics import Semantics, audit


class Parts:
    """Forward pass with gradients, which projects a signal at any tensor of any output to every input.

    `outputs` has each tensor by the name of the module's call and the place in its output: ``encoder``,
    ``encoder:2``, ``encoder/out``, ``/logits`` for the network itself.
    """

    def __init__(self, network: nn.Module, *inputs: Tensor, **named: Tensor) -> None:
        assert not network.training
        self.outputs: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}
        hooks = [part.register_forward_hook(self._keep(name)) for name, part in network.named_modules()]
        weights = [number for number in network.parameters() if number.requires_grad]
        try:
            for number in weights:
                number.requires_grad_(False)
            with torch.enable_grad(), Semantics():
                self.inputs = [self._leaf(one) for one in (*inputs, *named.values())]
                copies = [one.clone() for one in self.inputs]
                result = network(
                    *copies[: len(inputs)], **dict(zip(named, copies[len(inputs) :], strict=True))
                )
        finally:
            for hook in hooks:
                hook.remove()
            for number in weights:
                number.requires_grad_(True)
        self.result = result

    @staticmethod
    def _leaf(given: Tensor) -> Tensor:
        copy = given.detach().clone()
        return copy.requires_grad_(True) if copy.is_floating_point() else copy

    def _keep(self, name: str) -> Any:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            call = name if self.calls[name] == 1 else f"{name}:{self.calls[name]}"
            for path, tensor in _tensors(output, call):
                self.outputs[path] = tensor.clone()  # a later call may overwrite it

        return hook

    def unit(self, name: str, *index: int) -> list[Tensor]:
        """Project one entry of an output, with its own value as the signal, to each input: (B, ...) each."""
        return self.project(name, self.kept(name, *index))

    def kept(self, name: str, *index: Any) -> Tensor:
        """Return an output in which all other entries are zero."""
        output = self.outputs[name].detach()
        signal = torch.zeros_like(output)
        signal[index] = output[index]
        return signal

    def project(self, name: str, signal: Tensor) -> list[Tensor]:
        output = self.outputs[name]
        if not output.requires_grad:
            return [torch.zeros_like(one) for one in self.inputs if one.requires_grad]
        audit(output.grad_fn, set())
        leaves = [one for one in self.inputs if one.requires_grad]
        found = torch.autograd.grad(output, leaves, signal, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(one) if own is None else own for one, own in zip(leaves, found, strict=True)]


def _tensors(output: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, one in output.items():
            yield from _tensors(one, f"{path}/{key}")
    elif isinstance(output, tuple) and hasattr(output, "_asdict"):
        yield from _tensors(output._asdict(), path)
    elif isinstance(output, (tuple, list)):
        yield from _tensors(dict(enumerate(output)), path)
    elif dataclasses.is_dataclass(output):
        yield from _tensors(vars(output), path)
