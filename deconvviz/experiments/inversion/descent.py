"""Gradient descent on the parameters of a picture, with a curve of the loss and a check for divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.errors import MethodError
from deconvviz.layers import Layer
from deconvviz.methods.unit_function import Function, network_function
from deconvviz.network import Network
from deconvviz.wording import counted

Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = Mapping[str, Tensor]
"""Parts of the loss by name; ``loss`` is the whole loss."""
OnStep: TypeAlias = Callable[[int], None]

LOSS = "loss"


@dataclass(frozen=True, eq=False)
class _At:
    network: Network
    layer: Layer


@contextmanager
def layer_function(net: Network, layer: Layer) -> Iterator[Function]:
    """Yield a function from the network's input (B, C, H, W) to the features of a layer, with gradients.

    The network stops after the layer, and is left as it was (see `network_function`).
    """
    with network_function(_At(net, layer), up_to_layer=True) as run:
        yield lambda inputs: run(inputs.to(net.device, net.dtype))


def descend(
    parameters: Tensor,
    terms_of: Callable[[Tensor], Terms],
    *,
    steps: int,
    lr: float,
    most: float = math.inf,
    on_step: OnStep = lambda done: None,
) -> dict[str, Floats]:
    """Lower the loss with Adam; the learning rate falls to zero as half a period of a cosine.

    Args:
        parameters: Numbers to change, in place.
        terms_of: Return the parts of the loss for the parameters.
        steps: Number of steps.
        lr: Learning rate of the first step.
        most: A loss above this multiple of the first one is an error.
        on_step: Called with the number of finished steps.

    Returns:
        The values of each part, (steps + 1,): before each step, and after the last one.

    Raises:
        MethodError: If the loss is not finite, or rises too far.
    """
    parameters.requires_grad_(True)
    optimiser = torch.optim.Adam([parameters], lr)
    curve: dict[str, list[float]] = {}
    for step in range(steps + 1):
        terms = terms_of(parameters)
        for name, value in terms.items():
            curve.setdefault(name, []).append(float(value.detach()))
        _check(curve[LOSS], most, lr)
        if step == steps:
            break
        (parameters.grad,) = torch.autograd.grad(terms[LOSS], [parameters])
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.step()
        on_step(step + 1)
    parameters.requires_grad_(False)
    return {name: np.array(values) for name, values in curve.items()}


def _check(losses: Sequence[float], most: float, lr: float) -> None:
    """Raise MethodError if the last loss is not finite, or above `most` times the first one."""
    loss, step = losses[-1], len(losses) - 1
    if math.isfinite(loss) and (most == math.inf or loss <= most * losses[0]):
        return
    value = f"{loss:.3g}, and it was {losses[0]:.3g} at the start" if math.isfinite(loss) else "not finite"
    raise MethodError(
        f"the optimisation diverged: after {counted(step, 'step')}, the loss is {value}. Use a learning rate "
        f"below {lr:g} ({{option}}), and check that the weights of the network are finite",
        option=f"lr={lr / 10:g}",
    )
