"""The second implementation of guided backpropagation finds ReLU in every form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import noise
from helpers.gradients import PlainAutograd
from torch import Tensor, nn

from deconvviz.verification.guided import Guided


def _set_to_zero(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


RELU: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu_": torch.relu_,
    "F.relu in place": lambda x: F.relu(x, True),
    "module in place": nn.ReLU(inplace=True),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_ with a tensor": lambda x: x.clamp_(min=x.new_zeros(())),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "threshold in place": lambda x: F.threshold(x, 0, 0, inplace=True),
    "maximum": lambda x: torch.maximum(torch.zeros_like(x), x),
    "max": lambda x: torch.max(x, x.new_zeros(())),
    "where": lambda x: torch.where(x > 0, x, 0),
    "where below": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "product with a mask": lambda x: x * (x > 0),
    "product with a mask in place": lambda x: x.mul_(x > 0),
    "masked fill": lambda x: x.masked_fill(x < 0, 0),
    "masked write": lambda x: _set_to_zero(x.clone()),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp at another value": lambda x: x.clamp(min=0.1),
    "clamp on both sides": lambda x: x.clamp(0, 1),
    "threshold at another value": lambda x: F.threshold(x, 0.1, 0),
    "leaky": lambda x: torch.where(x > 0, x, 0.2 * x),
    "product with another mask": lambda x: x * (x.flip(1) > 0),
    "silu": F.silu,
}


def _map(function: Callable[[Tensor], Tensor], signal: Tensor, *, guided: bool) -> Tensor:
    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x * 1)

    return PlainAutograd(Calls().eval(), noise(1, 4, 5, 6), None, Guided() if guided else None).project(
        "", signal
    )


@pytest.mark.parametrize("name", RELU)
def test_relu_rectifies_the_signal_and_masks_it(name: str) -> None:
    signal = noise(1, 4, 5, 6, seed=1)
    expected = signal.clamp_min(0) * (noise(1, 4, 5, 6) > 0)
    torch.testing.assert_close(_map(RELU[name], signal, guided=True), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_keep_their_gradient(name: str) -> None:
    signal = noise(1, 4, 5, 6, seed=1)
    found, plain = (_map(OTHERS[name], signal, guided=guided) for guided in (True, False))
    torch.testing.assert_close(found, plain)
