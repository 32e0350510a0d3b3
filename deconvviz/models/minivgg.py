"""minivgg: a small VGG that ships with the package, trained by us on the pictures of `deconvviz.scenes`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from deconvviz.errors import WeightsError

SIZE = 96
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
BLOCKS = ((16, 16), (32, 32), (64, 64), (96, 96))  # channels of the convolutions between two pools
HIDDEN = 64
WEIGHTS = Path(__file__).with_name("minivgg.safetensors")


def _stored_classes() -> tuple[str, ...]:
    """The names of the classes, which the weights file has beside the weights."""
    if not WEIGHTS.is_file():
        return ()  # `load_minivgg` raises an error that says so
    with safe_open(WEIGHTS, "pt") as stored:
        return tuple(stored.metadata()["classes"].split(","))


CLASSES = _stored_classes()

__all__ = ["BLOCKS", "CLASSES", "MEAN", "SIZE", "STD", "WEIGHTS", "MiniVGG", "load_minivgg", "minivgg"]


class MiniVGG(nn.Module):
    """Laid out as torchvision's VGG without batch norm: `features`, `classifier`."""

    def __init__(self, classes: int = len(CLASSES), dropout: float = 0.3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block in BLOCKS:
            for width in block:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        side = SIZE // 2 ** len(BLOCKS)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)  # (B, 3, 96, 96) -> (B, 96, 6, 6)
        scores: Tensor = self.classifier(torch.flatten(maps, 1))  # (B, 96 * 6 * 6) -> (B, 12)
        return scores


def minivgg() -> MiniVGG:
    """The network with fresh weights from torch's global generator."""
    return MiniVGG()


def load_minivgg(path: Path = WEIGHTS) -> MiniVGG:
    """The trained network, in eval mode. Raises WeightsError for a file that is missing or not minivgg's."""
    network = MiniVGG()
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise WeightsError(f"minivgg's weights are not at {path}: install deconvviz again") from error
    except (RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{path} does not hold minivgg's weights: {error}") from error
    return network.eval()
