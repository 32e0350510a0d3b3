"""Small networks whose tensors all differ from their initial values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Two convolutions with batch normalisation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.bn(self.conv1(x)).relu()).relu()
        return out


class Classifier(nn.Module):
    """The backbone and a head of two fully connected layers."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, classes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.backbone(x).mean((2, 3)))
        return out


def drawn(seed: int, make: Callable[[], nn.Module] = Classifier) -> nn.Module:
    """Return a network with random weights and statistics, so that no tensor has its initial values."""
    module = make().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
            else:
                tensor.fill_(seed + 3)
    return module


def state(seed: int = 1, prefix: str = "", make: Callable[[], nn.Module] = Classifier) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in drawn(seed, make).state_dict().items()}


def without(values: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    """Return the tensors whose names do not begin with any of these strings."""
    return {key: value for key, value in values.items() if not key.startswith(beginnings)}
