"""Replace wrappers that only run their inner module, such as torch.compile, by that module."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def inner_of(module: nn.Module) -> nn.Module | None:
    """Return the inner module of a wrapper, or None for any other module.

    A user's own class that overrides the `forward` of a wrapper is an ordinary module.
    """
    name = _attribute_of_inner(module)
    return None if name is None else module._modules[name]


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the innermost module of nested wrappers, or `module` if it is not a wrapper."""
    while (inner := inner_of(module)) is not None:
        module = inner
    return module


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what `module.named_modules()` yields. Each recording needs it several times: this is faster."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[nn.Module] = set()
    waiting = [("", module)]
    while waiting:
        name, part = waiting.pop()
        if part in seen:
            continue
        seen.add(part)
        found.append((name, part))
        if part._modules:
            start = f"{name}." if name else ""
            own = list(part._modules.items())  # another thread's pass may add to it meanwhile
            inner = [(start + key, child) for key, child in own if child is not None]
            waiting += reversed(inner)
    return found


def named_parts(module: nn.Module, *, remove_duplicate: bool = True) -> list[tuple[str, nn.Module]]:
    """Return all submodules with the dotted names that they would have without wrappers."""
    named = named_modules(module) if remove_duplicate else list(module.named_modules(remove_duplicate=False))
    prefixes = _prefixes(named)
    if not prefixes:
        return named
    return [(_plain_name(name, prefixes), part) for name, part in named if inner_of(part) is None]


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with the names that it would have without wrappers."""
    weights: dict[str, Tensor] = module.state_dict()
    named = list(module.named_modules(remove_duplicate=False))
    if not (prefixes := _prefixes(named)):
        return weights
    of_wrappers = {
        f"{name}.{key}" if name else key
        for name, part in named
        if inner_of(part) is not None
        for key in (*part._parameters, *part._buffers)
    }
    return {_plain_name(name, prefixes): t for name, t in weights.items() if name not in of_wrappers}


@contextmanager
def eager(module: nn.Module) -> Iterator[None]:
    """Run every submodule uncompiled, and every wrapper as its inner module.

    Everything is restored at the end. The caller must prevent other threads from running the module at the
    same time.
    """
    with ExitStack() as undo:
        for _, part in named_modules(module):
            own = vars(part)
            if own.get("_compiled_call_impl") is not None:
                undo.callback(own.__setitem__, "_compiled_call_impl", own["_compiled_call_impl"])
                own["_compiled_call_impl"] = None
            if (inner := inner_of(part)) is not None:
                _replace_forward(own, inner, undo)
        undo.enter_context(_without_compiled_functions())
        yield


def _replace_forward(own: dict[str, Any], inner: nn.Module, undo: ExitStack) -> None:
    if "forward" in own:
        undo.callback(own.__setitem__, "forward", own["forward"])
    else:
        undo.callback(own.__delitem__, "forward")
    own["forward"] = inner.__call__


def _attribute_of_inner(module: nn.Module) -> str | None:
    own = vars(module).get("_modules")
    if not own or not isinstance(own, dict):  # without submodules, or scripted
        return None
    if own.get("_orig_mod") is not None and _is_compiled(type(module)):
        return "_orig_mod"
    if own.get("module") is not None and isinstance(module, _WRAPPERS):
        kind = next(kind for kind in _WRAPPERS if isinstance(module, kind))
        return "module" if type(module).forward is kind.forward else None
    return None


def _is_compiled(kind: type) -> bool:
    """Return whether a class is that of compiled modules. Compares names, because an import takes seconds."""
    return any(
        base.__name__ == "OptimizedModule" and base.__module__.startswith("torch._dynamo")
        for base in kind.__mro__
    )


def _prefixes(named: list[tuple[str, nn.Module]]) -> list[tuple[str, str]]:
    """Return prefixes of names that contain the attribute of a wrapper, and replacements, longest first."""
    found = []
    for name, part in named:
        if (attribute := _attribute_of_inner(part)) is not None:
            start = f"{name}." if name else ""
            found.append((f"{start}{attribute}", name))
    return sorted(found, key=lambda pair: -len(pair[0]))


def _plain_name(name: str, prefixes: list[tuple[str, str]]) -> str:
    for prefix, without in prefixes:
        if name == prefix:
            name = without
        elif name.startswith(f"{prefix}."):
            rest = name[len(prefix) + 1 :]
            name = f"{without}.{rest}" if without else rest
    return name


class _Stance:
    """Number of active uses of the stance `force_eager` of torch.compile, which all threads share."""

    lock = threading.Lock()
    entered = 0
    undo = ExitStack()


@contextmanager
def _without_compiled_functions() -> Iterator[None]:
    """Run functions that were passed to torch.compile uncompiled, while any thread is in this context."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with _Stance.lock:
        if _Stance.entered == 0:
            _Stance.undo.enter_context(torch.compiler.set_stance("force_eager"))
        _Stance.entered += 1
    try:
        yield
    finally:
        with _Stance.lock:
            _Stance.entered -= 1
            if _Stance.entered == 0:
                _Stance.undo.close()
