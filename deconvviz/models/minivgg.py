"""minivgg: a small VGG that ships with the package, trained on the images of `deconvviz.scenes`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.models import initialization

SIZE = 96
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
BLOCKS = ((16, 16), (32, 32), (64, 64), (96, 96))  # channels of the convolutions between two pools
HIDDEN = 64
WEIGHTS = Path(__file__).with_name("minivgg.safetensors")


def _stored_classes() -> tuple[str, ...]:
    """Return the class names, which are in the metadata of the weights file."""
    if not WEIGHTS.is_file():
        return ()  # `load_minivgg` raises the error
    with safe_open(WEIGHTS, "pt") as stored:
        return tuple(stored.metadata()["classes"].split(","))


CLASSES = _stored_classes()

__all__ = [
    "BLOCKS",
    "CLASSES",
    "MEAN",
    "SIZE",
    "STD",
    "WEIGHTS",
    "MiniVGG",
    "build",
    "load_minivgg",
    "minivgg",
    "stored_weights",
]


class MiniVGG(nn.Module):
    """VGG without batch normalisation, structured like torchvision's: `features` and `classifier`."""

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
    """Return the network with random weights from torch's global generator."""
    return MiniVGG()


def build(*, seed: int | None = 0, classes: int | None = None, device: str = "cpu") -> nn.Module:
    """Return the network with random weights; see `initialization.build`."""
    initialization.check_classes(classes, "minivgg")
    count = len(CLASSES) if classes is None else classes
    return initialization.build(lambda drawn: MiniVGG(classes=count), seed=seed, device=device)


def stored_weights(path: Path = WEIGHTS) -> dict[str, Tensor]:
    """Return the trained weights. Raises WeightsError for a file that is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"minivgg's weights are missing: no file {path}. Reinstall deconvviz") from error
    except SafetensorError as error:
        raise WeightsError(f"{path} does not contain minivgg's weights: {error}") from error


def load_minivgg(path: Path = WEIGHTS) -> MiniVGG:
    """Return the trained network, in evaluation mode.

    Raises WeightsError for a file that is missing or does not have the weights of minivgg.
    """
    network = MiniVGG()
    try:
        network.load_state_dict(stored_weights(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} does not contain minivgg's weights: {error}") from error
    return network.eval()
