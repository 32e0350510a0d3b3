"""A network watched while it runs: in evaluation mode, without gradients, no further than it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn


class Stop(BaseException):
    """Leaves the network once everything that was asked for is there; no `except Exception` catches it."""


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Every submodule in evaluation mode, and each back to its own flag."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        if any(training for _, training in flags):
            module.eval()
        yield
    finally:
        for part, training in flags:
            if part.training != training:
                part.training = training


@contextmanager
def watching(
    module: nn.Module, names: Collection[str], see: Callable[[str, Tensor], None]
) -> Iterator[Callable[[Tensor], None]]:
    """A function that runs the network on pictures (B, C, H, W) up to the deepest of the modules named.

    `names` are dotted, "" for the network itself; ``name:2`` is the second call of a module. `see` is shown
    what each gave at the very moment, because a call in place may overwrite it right after. Nothing is kept,
    and hooks and training flags are put back whatever happens.
    """
    calls: dict[str, int] = {}
    pending: set[str] = set()

    def hook_of(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            key = name if calls[name] == 1 else f"{name}:{calls[name]}"
            if key in pending and isinstance(output, Tensor):
                pending.discard(key)
                see(key, output)
                if not pending:
                    raise Stop

        return hook

    def run(pictures: Tensor) -> None:
        calls.clear()
        pending.clear()
        pending.update(names)
        # here, because grad mode is that of a thread
        with torch.inference_mode(False), torch.no_grad(), suppress(Stop):
            module(pictures)

    watched = {*names, *(name.rpartition(":")[0] for name in names if ":" in name)}
    handles = [
        part.register_forward_hook(hook_of(name)) for name, part in module.named_modules() if name in watched
    ]
    try:
        with evaluation(module):
            yield run
    finally:
        for handle in handles:
            handle.remove()
