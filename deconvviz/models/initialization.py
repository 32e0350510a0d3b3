"""Build networks with random weights from a seed, with uninitialised weights, or on the meta device."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from deconvviz.errors import NetworkError


def build(construct: Callable[[bool], nn.Module], *, seed: int | None, device: str) -> nn.Module:
    """Return the network that `construct` builds, in evaluation mode.

    With a seed, the weights are random. With ``None`` they are left uninitialised, for networks whose weights
    are loaded next (initialising VGG19 takes seconds). On the device "meta" the network has shapes but no
    values. The argument of `construct` is True if it has to initialise the weights.
    """
    if device == "meta":
        return shapes_alone(lambda: construct(False)).eval()
    if seed is None:
        shaped = shapes_alone(lambda: construct(False))
        if _can_be_filled(shaped):
            return _allocated(shaped, device).eval()
    with seeded(seed or 0):
        return construct(True).to(device).eval()


def on_cpu(shaped: nn.Module) -> nn.Module:
    """Return a copy of a meta network that can be run on the CPU; its weights are zero."""
    copied = _allocated(copy.deepcopy(shaped), "cpu")
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.zero_()
    return copied


def _allocated(shaped: nn.Module, device: str) -> nn.Module:
    """Do the same as `nn.Module.to_empty`, whose first call is a second slower because it imports sympy."""
    shaped._apply(lambda t: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device=device))
    return shaped


def check_classes(classes: int | None, name: str) -> None:
    """Raise NetworkError for a number of classes below 1."""
    if classes is not None and classes < 1:
        raise NetworkError(f"{name} cannot be built with {classes} classes: give at least 1")


def _can_be_filled(shaped: nn.Module) -> bool:
    """Return True if loading a state dict sets all buffers, as for every classifier of torchvision 0.29."""
    return shaped.state_dict().keys() >= {name for name, _ in shaped.named_buffers()}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the context, and restore its state afterwards."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the generators of all accelerators
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_everywhere(seed: int) -> Iterator[None]:
    """Do the same as `seeded`, and seed the generators of Python and NumPy too, for a user's code."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        with seeded(seed):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def shapes_alone(construct: Callable[[], nn.Module]) -> nn.Module:
    """Return the network on the meta device, where it needs no initialisation and no memory."""
    with seeded(0), _ParametersOnMeta():
        return construct().to("meta")


class _ParametersOnMeta(TorchFunctionMode):
    """Allocate parameters on the meta device. (`torch.device("meta")` would affect RegNet's constants too.)

    Their initialisation is skipped, because PyTorch would import its compiler for it, which takes seconds.
    """

    ALLOCATORS = frozenset({torch.empty, torch.zeros, torch.ones})
    DRAWS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.ALLOCATORS:
            kwargs["device"] = "meta"
        if func in self.DRAWS or getattr(func, "__module__", "") == nn.init.__name__:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
