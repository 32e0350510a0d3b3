"""Run a network in evaluation mode, without gradients, no further than needed, and look at its outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from deconvviz.engine.preservation import Parts, preserved
from deconvviz.wrappers import eager, named_parts


class Stop(BaseException):
    """Leaves the network once everything that was asked for is there; no `except Exception` catches it."""


_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


@contextmanager
def exclusive(parts: Parts) -> Iterator[None]:
    """Let no other thread run a module with these parts, or any of them, through deconvviz at the same time.

    Flags, hooks and buffers belong to a module and not to a thread. A thread may enter several times.
    """
    # one order for all threads, so that none waits for another forever
    ordered = sorted((part for _, part in parts), key=id)
    with _locks_lock:
        locks = [_locks.get(part) or _locks.setdefault(part, threading.RLock()) for part in ordered]
    acquired: list[threading.RLock] = []
    try:
        for lock in locks:
            lock.acquire()
            acquired.append(lock)
        yield
    finally:
        for lock in reversed(acquired):
            lock.release()


@contextmanager
def evaluation(parts: Parts) -> Iterator[None]:
    """Set the flag `training` of every submodule to False, and back to its own value at the end.

    The flag alone: a module's own `train()` and `eval()` may do more, such as fold weights, and are not
    called.
    """
    flags = [(part, part.training) for _, part in parts]
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
def capture_outputs(
    module: nn.Module, names: Collection[str], on_output: Callable[[str, Tensor], None]
) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that runs the network on images (B, C, H, W), up to the deepest of the named modules.

    `names` are dotted, "" for the network itself; ``name:2`` is the second call of a module. `on_output` is
    called with each output as soon as it is there, because a later call may overwrite it in place. After each
    run, hooks, training flags, buffers and attributes are what they were, whatever happens.
    """
    watched = {*names, *(name.rpartition(":")[0] for name in names if ":" in name)}
    parts = named_parts(module)

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
                    on_output(key, plain(output))
                    if not pending:
                        raise Stop

            return hook

        # grad mode here, because it is that of a thread
        with (
            exclusive(parts),
            eager(module),
            torch.inference_mode(False),
            torch.no_grad(),
            preserved(parts, weights=True),
            evaluation(parts),
            ExitStack() as hooks,
            suppress(Stop),
        ):
            for name, part in ((name, part) for name, part in parts if name in watched):
                hooks.callback(part.register_forward_hook(hook_of(name)).remove)
            module(pictures)

    yield run


def plain(tensor: Tensor) -> Tensor:
    """The same tensor without a subclass of the user's, whose own functions would run with every call."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
