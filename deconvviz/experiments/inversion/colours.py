"""Colours of a picture, and the network's input that belongs to them."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.network import Network

LUCID_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Square root of the covariance of the colours of ImageNet's pixels, as published in lucid
(``color_correlation_svd_sqrt``). A column is a direction of colour: brightness, red to blue, green to
violet."""


class InputColours:
    """Conversion of colours (B, C, H, W), 0 is black and 1 is white, to the input of a network."""

    def __init__(self, net: Network, dtype: torch.dtype) -> None:
        mean, std = net.preprocessing.mean, net.preprocessing.std
        self._mean, self._std = (
            torch.tensor(values, dtype=dtype, device=net.device).view(-1, 1, 1) for values in (mean, std)
        )

    def to_input(self, colours: Tensor) -> Tensor:
        """Return the network's input for colours."""
        return (colours - self._mean) / self._std


def correlated(values: Tensor) -> Tensor:
    """Return red, green and blue for three independent directions of colour, (B, 3, H, W).

    The directions are lucid's, and so is the scale: the longest column of the matrix has length 1.
    """
    matrix = torch.tensor(LUCID_COLOURS, dtype=torch.float64)
    matrix = (matrix / matrix.norm(dim=0).max()).to(values)
    return torch.einsum("rd,bdhw->brhw", matrix, values)


def working_type(net: Network) -> torch.dtype:
    """Return the type for parameters: that of the network, but at least 32 bits."""
    return torch.float64 if net.dtype == torch.float64 else torch.float32
