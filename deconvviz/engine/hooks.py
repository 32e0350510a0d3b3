"""Run a network in evaluation mode, without gradients, up to the deepest requested layer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from deconvviz.engine.output_parts import module_of, output_parts, with_keys
from deconvviz.engine.preservation import Parts, preserved
from deconvviz.engine.wrappers import eager, named_parts


class Stop(BaseException):
    """Raised to leave a network after the last requested output. No `except Exception` catches it."""


_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


@contextmanager
def exclusive(module: nn.Module) -> Iterator[Parts]:
    """Prevent other threads from running a network through deconvviz at the same time. Yields its parts.

    Training flags, hooks, buffers and attributes belong to a module, not to a thread, so that whoever only
    reads them needs this too. A thread may enter several times.
    """
    acquired: list[threading.RLock] = []
    try:
        parts = named_parts(module)
        _acquire(parts, acquired)
        while parts != (now := named_parts(module)):
            _release(acquired)  # another thread's pass had other modules when the parts were listed
            parts = now
            _acquire(parts, acquired)
        yield parts
    finally:
        _release(acquired)


def _acquire(parts: Parts, acquired: list[threading.RLock]) -> None:
    """Acquire a lock for each part. All threads do so in the same order, which prevents deadlocks."""
    ordered = sorted([part for _, part in parts], key=id)
    with _locks_lock:
        locks = [_locks.get(part) or _locks.setdefault(part, threading.RLock()) for part in ordered]
    for lock in locks:
        lock.acquire()
        acquired.append(lock)


def _release(acquired: list[threading.RLock]) -> None:
    while acquired:
        acquired.pop().release()


@contextmanager
def evaluation(parts: Parts) -> Iterator[None]:
    """Set the flag `training` of every submodule to False, and restore its value at the end.

    `train()` and `eval()` are not called, because those of a user's module may do more, such as fold weights.
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
        vars(part)["training"] = flag  # bypasses a `__setattr__` of the user's class
    else:
        with suppress(AttributeError):  # the class may define a property without a setter
            part.training = flag


@contextmanager
def without_gradients_of_weights(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of weights."""
    with ExitStack() as undo:
        for weight in module.parameters():
            if weight.requires_grad:
                weight.requires_grad_(False)
                undo.callback(weight.requires_grad_, True)
        yield


@contextmanager
def capture_outputs(
    module: nn.Module, names: Collection[str], on_output: Callable[[str, Tensor], None]
) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that runs the network on images (B, C, H, W), up to the deepest named module.

    `names` are dotted; "" is the network itself, ``name:2`` the second call of a module, and ``name[key]`` a
    part of its output. `on_output` is called with each output immediately, because a later call may overwrite
    it in place. After each run, hooks, training flags, buffers and attributes are restored, also if an
    exception is raised.
    """
    watched = {*names, *map(module_of, names)}

    def run(images: Tensor) -> None:
        calls: dict[str, int] = {}
        pending = set(names)
        owner = threading.get_ident()

        def hook_of(name: str) -> Callable[..., None]:
            def hook(part: nn.Module, args: Any, output: Any) -> None:
                if threading.get_ident() != owner:
                    return
                calls[name] = calls.get(name, 0) + 1
                call = name if calls[name] == 1 else f"{name}:{calls[name]}"
                for keys, tensor in output_parts(output):
                    key = with_keys(call, keys)
                    if key in pending:
                        pending.discard(key)
                        on_output(key, plain(tensor))
                        if not pending:
                            raise Stop

            return hook

        # The grad mode is set here, because it belongs to the running thread.
        with (
            exclusive(module) as parts,
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
            module(images)

    yield run


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor as a plain `Tensor`. A user's subclass would run its own functions in every call."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
