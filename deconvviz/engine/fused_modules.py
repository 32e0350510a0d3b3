"""Modules that PyTorch computes in one fused call, run as separate calls while a network is recorded.

The separate calls have rules. They keep the images of a batch apart, while the originals join the batch with
the sequence, (L, B, E) to (L * B, E). The results are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from deconvviz.engine import multihead, unrolled
from deconvviz.engine.preservation import Parts

SEPARATE = {nn.MultiheadAttention.forward: multihead.attention} | {
    kind.forward: unrolled.recurrent for kind in unrolled.MODULES
}
"""By the forward pass of a class, the function that replaces it."""


@contextmanager
def separate_calls(parts: Parts) -> Iterator[None]:
    """Replace the forward pass of these modules, and restore it at the end."""
    replaced: list[Any] = [part for _, part in parts if type(part).forward in SEPARATE]
    replaced = [part for part in replaced if "forward" not in vars(part)]
    try:
        for part in replaced:
            vars(part)["forward"] = partial(SEPARATE[type(part).forward], part)
        yield
    finally:
        for part in replaced:
            vars(part).pop("forward", None)
