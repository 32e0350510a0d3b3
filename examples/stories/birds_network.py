"""A deconvolution network for segmentation, after Noh, Hong & Han (2015), on the trunk of a VGG.

The encoder has the convolutions and max-pools of a VGG. The decoder is its mirror image: each unpooling puts
the values back at the switches of its max-pool, and learned transposed convolutions fill the gaps. The two
fully connected layers in the middle of the original are left out, as in SegNet (Badrinarayanan et al. 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from deconvviz.errors import NetworkError
from deconvviz.models.minivgg import BLOCKS

BACKGROUND, BIRD = 0, 1  # channels of the scores


@dataclass(frozen=True)
class Layout:
    """Channels of the convolutions of each block of a VGG, and the size of its input."""

    blocks: tuple[tuple[int, ...], ...]
    size: int

    def check(self, size: int) -> None:
        """Raise NetworkError for a size of the input that the pools cannot halve without a rest."""
        step = 2 ** len(self.blocks)
        if size < 2 * step or size % step:
            raise NetworkError(
                f"the size {size} does not fit this trunk: give a multiple of {step}, at least {2 * step}"
            )


LAYOUTS = {
    "minivgg": Layout(BLOCKS, 96),
    "vgg19": Layout(((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4), 224),
}


class DeconvolutionNetwork(nn.Module):
    """Encoder with the layers of a VGG (`conv1_1` ...), decoder (`deconv4_2` ... `deconv1_1`) and `score`.

    A layer `deconvN_M` mirrors the layer `convN_M`: a transposed convolution, batch norm and a ReLU.
    """

    def __init__(self, blocks: tuple[tuple[int, ...], ...] = BLOCKS) -> None:
        super().__init__()
        self.depths = tuple(len(block) for block in blocks)
        channels = 3
        mirrored: list[tuple[str, nn.Module]] = []
        for b, block in enumerate(blocks, 1):
            for i, width in enumerate(block, 1):
                self.add_module(f"conv{b}_{i}", nn.Conv2d(channels, width, 3, padding=1))
                self.add_module(f"relu{b}_{i}", nn.ReLU())
                below = channels if channels > 3 else width  # the last layer keeps its channels for the score
                mirrored.append((f"deconv{b}_{i}", _deconvolution(width, below)))
                channels = width
            self.add_module(f"pool{b}", nn.MaxPool2d(2, return_indices=True))
            mirrored.append((f"unpool{b}", nn.MaxUnpool2d(2)))
        for name, module in reversed(mirrored):
            self.add_module(name, module)
        self.score = nn.Conv2d(blocks[0][0], 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(*self.encode(images))

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the maps of the last pool, and the switches of all pools."""
        x, switches = images, []
        for b, depth in enumerate(self.depths, 1):
            for i in range(1, depth + 1):
                x = self._run(f"relu{b}_{i}", self._run(f"conv{b}_{i}", x))
            x, places = self.get_submodule(f"pool{b}")(x)  # (B, C, h, w) -> (B, C, h / 2, w / 2)
            switches.append(places)
        return x, switches

    def decode(self, x: Tensor, switches: list[Tensor]) -> Tensor:
        """Return the scores (B, 2, H, W) for the result of `encode`."""
        for b in range(len(self.depths), 0, -1):
            x = self.get_submodule(f"unpool{b}")(x, switches[b - 1])  # (B, C, h, w) -> (B, C, 2h, 2w)
            for i in range(self.depths[b - 1], 0, -1):
                x = self._run(f"deconv{b}_{i}", x)
        return self._run("score", x)

    def _run(self, name: str, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(name)(x)
        return found

    @property
    def trunk(self) -> list[str]:
        """Names of the convolutions of the encoder, in order."""
        return [f"conv{b}_{i}" for b, depth in enumerate(self.depths, 1) for i in range(1, depth + 1)]

    @property
    def top_layer(self) -> str:
        """Name of the last layer of the encoder before its last pool."""
        return f"relu{len(self.depths)}_{self.depths[-1]}"

    def load_trunk(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights `features.N` of a VGG of this layout into the encoder."""
        numbers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("features.")})
        for name, number in zip(self.trunk, numbers, strict=True):
            own = {part: weights[f"features.{number}.{part}"] for part in ("weight", "bias")}
            self.get_submodule(name).load_state_dict(own)


def _deconvolution(channels: int, below: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, below, 3, padding=1, bias=False), nn.BatchNorm2d(below), nn.ReLU()
    )
