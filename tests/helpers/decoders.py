"""Small seeded networks with an expanding path: decoders, segmentation networks and generators."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _block(into: int, out: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(into, out, kernel, padding=padding)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _up(into: int, out: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    layer = nn.ConvTranspose2d(into, out, kernel, padding=padding)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Unpooling(nn.Module):
    """Deconvolution network with pooling and unpooling, as in Noh et al., ICCV 2015."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = _block(3, 6), _block(6, 8)
        self.pool1 = nn.MaxPool2d(2, 2, return_indices=True)
        self.pool2 = nn.MaxPool2d(3, 2, padding=1, return_indices=True)
        self.fc6 = _block(8, 12, 5, padding=0)
        self.fc6_up = _up(12, 8, 5, padding=0)
        self.unpool2, self.unpool1 = nn.MaxUnpool2d(3, 2, padding=1), nn.MaxUnpool2d(2, 2)
        self.up2, self.up1 = _up(8, 6), _up(6, 6)
        self.score = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 21, 26)
        below1 = self.conv1(x)
        x, places1 = self.pool1(below1)
        below2 = self.conv2(x)
        x, places2 = self.pool2(below2)
        x = self.fc6_up(self.fc6(x))
        x = self.up2(self.unpool2(x, places2, output_size=below2.shape))
        x = self.up1(self.unpool1(x, places1, output_size=below1.shape))
        return self.score(x)


def bilinear_(layer: nn.ConvTranspose2d) -> None:
    """Set weights of bilinear upsampling by the layer's stride, as FCN initialises them."""
    length = layer.kernel_size[0]
    factor = (length + 1) // 2
    middle = factor - 1 if length % 2 else factor - 0.5
    line = 1 - (torch.arange(length, dtype=layer.weight.dtype) - middle).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(layer.in_channels):
            layer.weight[channel, channel] = line[:, None] * line


class FullyConvolutional(nn.Module):
    """Small FCN-8s: large padding, sum of scores from two depths, and crops to the input size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=9), nn.Conv2d(6, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.score1, self.score2 = nn.Conv2d(6, 4, 1), nn.Conv2d(8, 4, 1)
        self.upscore2 = nn.ConvTranspose2d(4, 4, 4, stride=2, bias=False)
        self.upscore = nn.ConvTranspose2d(4, 4, 5, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 15, 18)
        h, w = x.shape[2:]
        one = self.pool(F.relu(self.conv1(x)))
        two = self.pool(F.relu(self.conv2(one)))
        two = self.upscore2(self.score2(two))
        one = self.score1(one)[:, :, 1 : 1 + two.shape[2], 1 : 1 + two.shape[3]]
        x = self.upscore(one + two[:, :, : one.shape[2], : one.shape[3]])
        return x[:, :, 8 : 8 + h, 8 : 8 + w].contiguous()


class UNet(nn.Module):
    """U-Net with skip connections: valid convolutions with crops, or padded convolutions."""

    def __init__(self, padded: bool) -> None:
        super().__init__()
        p = int(padded)
        self.down1, self.down2 = _block(3, 4, padding=p), _block(4, 6, padding=p)
        self.bottom = _block(6, 8, padding=p)
        self.up2 = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.up1: nn.Module = nn.ConvTranspose2d(6, 4, 2, stride=2)
        if padded:
            self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.join2 = _block(12, 6, padding=p)
        self.join1 = _block(10 if padded else 8, 4, padding=p)
        self.score = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 30, 33)
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.up2(self.bottom(F.max_pool2d(two, 2)))
        x = self.join2(_concatenated(two, x))
        return self.score(self.join1(_concatenated(one, self.up1(x))))


def _concatenated(skipped: Tensor, x: Tensor) -> Tensor:
    """Concatenate a skip connection with `x`, cropping its centre or padding `x` by at most one pixel."""
    more = [n - m for n, m in zip(skipped.shape[2:], x.shape[2:], strict=True)]
    if max(more) <= 1:
        x = F.pad(x, (0, more[1], 0, more[0]))
    else:
        top, left = more[0] // 2, more[1] // 2
        skipped = skipped[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return torch.cat([skipped, x], 1)


def sub_pixel() -> nn.Module:
    """Return an ESPCN as in Shi et al., CVPR 2016, with ReLU instead of tanh."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6, 3 * 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip


def resize_convolution() -> nn.Module:
    """Return a resize-convolution network as in Odena et al., Distill 2016: upsample, then convolve."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="replicate"), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1), nn.Conv2d(6, 6, 3),
        nn.LeakyReLU(0.1), nn.Upsample(scale_factor=(1.5, 2), mode="bicubic"),
        nn.ReflectionPad2d((1, 2, 0, 1)), nn.Conv2d(6, 3, 3),
    )  # fmt: skip


def dcgan() -> nn.Module:
    """Return a generator as in Radford et al., 2016: from (B, 100, 1, 1) to (B, 3, 32, 32)."""
    parts: list[nn.Module] = []
    for into, out, stride, padding in ((100, 12, 1, 0), (12, 8, 2, 1), (8, 6, 2, 1)):
        parts += [
            nn.ConvTranspose2d(into, out, 4, stride, padding, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(True),
        ]
    return nn.Sequential(*parts, nn.ConvTranspose2d(6, 3, 4, 2, 1, bias=False), nn.Tanh())


def auto_encoder() -> nn.Module:
    """Return an auto-encoder with strided convolutions, a fully connected code and output padding."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 4 * 5, 9), nn.Linear(9, 8 * 4 * 5), nn.ReLU(), nn.Unflatten(1, (8, 4, 5)),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=(1, 0)), nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
    )  # fmt: skip


def auto_encoder_of_convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 4, stride=2, padding=1), nn.ELU(), nn.Conv2d(6, 8, 5, stride=3, padding=2), nn.ELU(),
        nn.ConvTranspose2d(8, 6, 5, stride=3, padding=2, output_padding=2), nn.ELU(),
        nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, groups=2, dilation=2),
        nn.ELU(),
        nn.PixelUnshuffle(2), nn.Conv2d(16, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 3, 1),
    )  # fmt: skip


DECODERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "unpooling": (Unpooling, (3, 21, 26)),
    "fcn": (FullyConvolutional, (3, 15, 18)),
    "unet": (lambda: UNet(padded=False), (3, 38, 44)),
    "unet padded": (lambda: UNet(padded=True), (3, 21, 26)),
    "sub-pixel": (sub_pixel, (3, 9, 11)),
    "resize-convolution": (resize_convolution, (3, 8, 7)),
    "dcgan": (dcgan, (100, 1, 1)),
    "auto-encoder": (auto_encoder, (3, 14, 18)),
    "auto-encoder of convolutions": (auto_encoder_of_convolutions, (3, 16, 21)),
}


def build(name: str) -> nn.Module:
    """Return a network in float64 and evaluation mode, with the same weights each time."""
    torch.manual_seed(3)
    network = DECODERS[name][0]().double().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for number in (*part.parameters(), part.running_mean, part.running_var):
                nn.init.uniform_(number, 0.5, 2)  # type: ignore[arg-type]
    if isinstance(network, FullyConvolutional):
        bilinear_(network.upscore2)
        bilinear_(network.upscore)
    return network


def images(name: str) -> Tensor:
    """Return two noise images for a network, the same each time."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, *DECODERS[name][1], generator=generator, dtype=torch.float64)
