"""Building a network: from a seed that disturbs nobody, or its shapes alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn inside comes from the seed, on the CPU; outside, torch's generator stays where it was."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would move the generators of every accelerator too
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_everywhere(seed: int) -> Iterator[None]:
    """As `seeded`, and also for Python's and NumPy's generators, which a user's code may draw from."""
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
    """The network on the meta device: nothing is drawn, and no memory taken."""
    with seeded(0), _ParametersOnMeta():
        return construct().to("meta")


class _ParametersOnMeta(TorchFunctionMode):
    """What layers allocate has shape only. (`torch.device("meta")` would also catch RegNet's arithmetic.)"""

    ALLOCATORS = frozenset({torch.empty, torch.zeros, torch.ones})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.ALLOCATORS:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
