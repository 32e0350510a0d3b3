"""A network watched while it runs: in evaluation mode, without gradients, no further than it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from deconvviz.engine.preservation import preserved


class Stop(BaseException):
    """Leaves the network once everything that was asked for is there; no `except Exception` catches it."""


_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


@contextmanager
def exclusive(module: nn.Module) -> Iterator[None]:
    """Let no other thread run this module, or any part of it, through deconvviz at the same time.

    Flags, hooks and buffers belong to a module and not to a thread. A thread may enter several times.
    """
    parts = sorted(
        module.modules(), key=id
    )  # one order for all threads, so that none waits for another forever
    with _locks_lock:
        locks = [_locks.setdefault(part, threading.RLock()) for part in parts]
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Set the flag `training` of every submodule to False, and back to its own value at the end.

    The flag alone: a module's own `train()` and `eval()` may do more, such as fold weights, and are not
    called.
    """
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, training in flags:
            if training:
                _set_training(part, False)
        yield
    finally:
        for part, training in flags:
            if part.training != training:
                _set_training(part, training)


def _set_training(part: nn.Module, flag: bool) -> None:
    if "training" in vars(part):
        vars(part)["training"] = flag  # also where `__setattr__` of the user's does more
    else:
        with suppress(AttributeError):  # a property without a setter decides by itself
            part.training = flag


@contextmanager
def watching(
    module: nn.Module, names: Collection[str], see: Callable[[str, Tensor], None]
) -> Iterator[Callable[[Tensor], None]]:
    """A function that runs the network on pictures (B, C, H, W) up to the deepest of the modules named.

    `names` are dotted, "" for the network itself; ``name:2`` is the second call of a module. `see` is shown
    what each gave at the very moment, because a call in place may overwrite it right after. Nothing is kept;
    after each run hooks, training flags, buffers and attributes are what they were, whatever happens.
    """
    watched = {*names, *(name.rpartition(":")[0] for name in names if ":" in name)}
    parts = [(name, part) for name, part in module.named_modules() if name in watched]

    def run(pictures: Tensor) -> None:
        calls: dict[str, int] = {}
        pending = set(names)
        owner = threading.get_ident()

        def hook_of(name: str) -> Callable[..., None]:
            def hook(part: nn.Module, args: Any, output: Any) -> None:
                if threading.get_ident() != owner:
                    return
                calls[name] = calls.get(name, 0) + 1
                key = name if calls[name] == 1 else f"{name}:{calls[name]}"
                if key in pending and isinstance(output, Tensor):
                    pending.discard(key)
                    see(key, plain(output))
                    if not pending:
                        raise Stop

            return hook

        # grad mode here, because it is that of a thread
        with (
            exclusive(module),
            torch.inference_mode(False),
            torch.no_grad(),
            preserved(module, weights=True),
            evaluation(module),
            ExitStack() as hooks,
            suppress(Stop),
        ):
            for name, part in parts:
                hooks.callback(part.register_forward_hook(hook_of(name)).remove)
            module(pictures)

    yield run


def plain(tensor: Tensor) -> Tensor:
    """The same tensor without a subclass of the user's, whose own functions would run with every call."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
