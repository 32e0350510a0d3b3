"""Checkerboard artefacts (Odena et al. 2016): where they come from, five remedies, and projections.

A transposed convolution writes its kernel at every stride-th pixel. If the stride does not divide the kernel,
some pixels receive more terms than others. This script counts the terms, trains the same small decoder with
several ways of upsampling, and measures how far the spectrum of its pictures rises at the frequencies of the
stride. A projection through a strided convolution is a transposed convolution too, so the same measure is
applied to projections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stories.checkerboard_measure import overlap, rise, spectrum
from stories.story import as_image, options, pictures, show, write
from stories.strided_projections import measure, ties, zero_windows
from torch import Tensor, nn
from torch.nn import functional as F

from deconvviz.figures.spec import TileGrid
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile

NAME, SIZE = "checkerboard", 32


def icnr(layer: nn.Conv2d, factor: int) -> nn.Conv2d:
    """Start a sub-pixel convolution so that all pixels of a block are equal (Aitken et al. 2017)."""
    few = torch.empty(len(layer.weight) // factor**2, *layer.weight.shape[1:])
    nn.init.kaiming_normal_(few)
    with torch.no_grad():
        layer.weight.copy_(few.repeat_interleave(factor**2, 0))
        layer.bias.zero_()
    return layer


class Blur(nn.Module):
    """Blur each channel with the binomial kernel (1, 2, 1) / 4, in both directions."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
        padded = F.pad(x, [1] * 4, mode="replicate")
        return F.conv2d(padded, kernel.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])


def transposed(kernel: int, *after: nn.Module) -> Callable[[int, int], nn.Module]:
    padding, extra = (kernel - 1) // 2, kernel % 2
    return lambda a, b: nn.Sequential(nn.ConvTranspose2d(a, b, kernel, 2, padding, extra), *after)


def resized(mode: str) -> Callable[[int, int], nn.Module]:
    return lambda a, b: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(a, b, 3, padding=1))


WAYS: dict[str, Callable[[int, int], nn.Module]] = {
    "transposed, kernel 3": transposed(3),
    "transposed, kernel 5": transposed(5),
    "kernel 4 (divisible)": transposed(4),
    "resize nearest": resized("nearest"),
    "resize bilinear": resized("bilinear"),
    "sub-pixel": lambda a, b: nn.Sequential(nn.Conv2d(a, 4 * b, 3, padding=1), nn.PixelShuffle(2)),
    "sub-pixel, ICNR": lambda a, b: nn.Sequential(
        icnr(nn.Conv2d(a, 4 * b, 3, padding=1), 2), nn.PixelShuffle(2)
    ),
    "kernel 3, then blur": transposed(3, Blur()),
}


def autoencoder(way: Callable[[int, int], nn.Module], seed: int) -> nn.Sequential:
    """Return a network that squeezes a picture to an eighth of its side and draws it again."""
    torch.manual_seed(seed)
    encoder = [nn.Conv2d(3, 12, 4, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 4, 2, 1), nn.ReLU(),
               nn.Conv2d(24, 24, 4, 2, 1)]  # fmt: skip
    decoder = [way(24, 24), nn.ReLU(), way(24, 12), nn.ReLU(), way(12, 3)]
    return nn.Sequential(nn.Sequential(*encoder), nn.Sequential(*decoder))


def train(net: nn.Module, images: Tensor, count: int, seed: int) -> None:
    """Train a network for `count` steps to draw its input again."""
    if not count:
        return
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=count)
    order = torch.Generator().manual_seed(seed)
    for _ in range(count):
        batch = images[torch.randint(len(images), (16,), generator=order)]
        loss = F.mse_loss(net(batch), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def measured(net: nn.Module, fresh: Tensor) -> dict[str, float]:
    """Return the PSNR of fresh pictures, and the rise of the spectrum of what the decoder draws."""
    drawn = net(fresh)
    power = spectrum(drawn.numpy(), SIZE)
    psnr = -10 * float(F.mse_loss(drawn.clamp(0, 1), fresh).log10())
    return {"PSNR": psnr, **{f"rise {period}": rise(power, period) for period in (2, 4)}}


def compare(quick: bool) -> tuple[list[dict[str, Any]], TileGrid]:
    """Return a row for each way of upsampling with random and with trained weights, and a figure."""
    images, _ = pictures(20_000, 32 if quick else 600, SIZE)
    fresh, _ = pictures(90_000, 16 if quick else 100, SIZE)
    itself = spectrum(fresh.numpy(), SIZE)
    rows = [{"upsampling": "(the scenes)", "weights": "", "PSNR": "",
             **{f"rise {period}": rise(itself, period) for period in (2, 4)}}]  # fmt: skip
    tiles = []
    for name, way in WAYS.items():
        shown = []
        for weights, steps in (("random", 0), ("trained", 8 if quick else 400)):
            found = []
            for seed in range(1 if quick else 3):
                net = autoencoder(way, seed)
                train(net, images, steps, seed)
                found.append(measured(net, fresh))
            means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            rows.append({"upsampling": name, "weights": weights, **means})
            shown.append(net(fresh[:1])[0].detach())
        random, trained = shown
        detail = trained[:, 8:24, 8:24].repeat_interleave(3, 1).repeat_interleave(3, 2)
        tiles.append((GridTile((random - random.mean((1, 2), keepdim=True)).permute(1, 2, 0).numpy()),
                      GridTile(as_image(trained), "image"), GridTile(as_image(detail), "image")))  # fmt: skip
    columns = ("random weights", "trained", "16x16 px of it")
    style = TileGridStyle(scale="tile", limits=False)
    return rows, TileGrid(("One decoder, eight ways of upsampling",), tuple(zip(*tiles, strict=True)),
                          columns, tuple(WAYS), style=style, units="pixel values")  # fmt: skip


def main() -> None:
    chosen = options(__doc__, NAME, {"--squeezenet": "trained weights of SqueezeNet 1.0, for projections"})
    torch.set_num_threads(1)
    strides = (2, 3, 4)
    counts = [
        {"kernel": k, **{f"stride {s}": " ".join(map(str, overlap(k, s))) for s in strides}}
        for k in range(2, 12)
    ]
    show(counts)
    decoders, remedies = compare(chosen.quick)
    show(decoders)
    projections, shown = measure(chosen.squeezenet, chosen.quick)
    show(projections)
    pools, dead = zero_windows(chosen.quick), ties(chosen.quick)
    show(pools)
    show(dead)
    numbers = {
        "overlap": counts,
        "decoders": decoders,
        "projections": projections,
        "pools of zeros": pools,
        "ties": dead,
    }
    write(chosen.out, NAME, numbers, dpi=120, remedies=remedies, projections=shown)


if __name__ == "__main__":
    main()
