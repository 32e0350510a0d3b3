"""Probabilities of classes from the scores of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCE = 5e-3  # rounding error of the sum of 1000 probabilities in half precision


def probabilities(scores: Tensor) -> Tensor:
    """Return probabilities (B, N) for the scores of N classes, by the rule of `Recording.top_class`.

    Scores that are probabilities already, because they are not negative and their sum is 1, are returned as
    they are. Other scores go through a softmax.
    """
    exact = scores.double()
    are = (exact >= 0).all(1) & ((exact.sum(1) - 1).abs() <= _TOLERANCE)  # (B,)
    return torch.where(are[:, None], exact, torch.softmax(exact, dim=1))
