"""One training loop for the small networks of the examples."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

WARM_UP = 0.1  # share of the steps


def fit(
    what: str,
    network: nn.Module,
    count: int,
    loss_of: Callable[[np.ndarray], Tensor],
    *,
    epochs: int,
    batch: int = 32,
    rate: float = 2e-3,
    seed: int = 0,
) -> list[float]:
    """Train a network, and return the mean loss of each epoch.

    The learning rate rises during a tenth of the steps and then falls to zero along a cosine.

    Args:
        what: Name of the network for the progress on stderr.
        network: The network. It is in evaluation mode afterwards.
        count: Number of examples.
        loss_of: Function of the numbers of the examples of one batch, with gradients.
        epochs: How often each example is used.
        batch: Number of examples in a batch.
        rate: Highest learning rate.
        seed: Seed of the order of the examples.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    dice, steps, step = np.random.default_rng(seed), epochs * math.ceil(count / batch), 0
    started, means = time.process_time(), []
    network.train()
    for epoch in range(1, epochs + 1):
        order, losses = dice.permutation(count), []
        for first in range(0, count, batch):
            for group in optimizer.param_groups:
                group["lr"] = rate * _factor(step, steps)
            optimizer.zero_grad()
            loss = loss_of(order[first : first + batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        means.append(float(np.mean(losses)))
        seconds = time.process_time() - started
        text = f"{what}: epoch {epoch} of {epochs}, loss {means[-1]:.4f}, {seconds:.0f} s of processor time"
        print(text, file=sys.stderr, flush=True)
    network.eval()
    return means


def _factor(step: int, steps: int) -> float:
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2
