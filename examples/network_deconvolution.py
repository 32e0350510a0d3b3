"""Network deconvolution (Ye et al. 2020): a layer that takes the correlations out of its input.

Neighbouring pixels, and channels, are alike. Gradient descent learns slowly from such inputs. This layer
measures the covariance of the patches that it reads, over channels and kernel positions, and multiplies them
by its inverse square root before the weights. The script trains the same network with this layer and with
batch norm, on drawn scenes, and compares the filters of the first layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stories.story import options, pictures, show, write
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures.spec import Curves, TileGrid
from deconvviz.figures.spec.curves import Curve, CurvePanel
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile
from deconvviz.scenes import CLASSES, scene

NAME, SIZE, MEAN, STD = "network_deconvolution", 32, 0.5, 0.25


def inverse_root(covariance: Tensor, iterations: int) -> Tensor:
    """Return the inverse square root of a positive definite matrix, by coupled Newton-Schulz iterations.

    Each iteration multiplies the smallest eigenvalue by about 2.25 at first, so that a few iterations leave
    directions with very little variance small. The paper uses 5 iterations.
    """
    size = covariance.norm()
    y, z, one = (
        covariance / size,
        torch.eye(len(covariance)).to(covariance),
        torch.eye(len(covariance)).to(covariance),
    )
    for _ in range(iterations):
        step = 1.5 * one - 0.5 * z @ y
        y, z = y @ step, step @ z
    return z / size.sqrt()


class Decorrelated(nn.Conv2d):
    """Convolution of patches whose covariance is the identity. The statistics are those of the batch.

    In evaluation mode, running means of the patches and of the matrix are used. The patches are not changed:
    the matrix is multiplied into the weights.
    """

    def __init__(self, *shape: Any, eps: float = 1e-3, iterations: int = 5, **settings: Any) -> None:
        super().__init__(*shape, **settings)
        self.eps, self.iterations, self.momentum = eps, iterations, 0.1
        length = self.weight[0].numel()
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("matrix", torch.eye(length))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (d,) of the patches and the matrix (d, d) that takes their correlations out.

        Large maps are sampled at some positions only, as in the paper. There must be more patches than `d`.
        """
        step = max(1, x.shape[-1] // 8)
        patches = F.unfold(x, self.kernel_size, self.dilation, self.padding, step)
        patches = patches.transpose(0, 1).flatten(1)  # (B, d, n) -> (d, B * n)
        mean = patches.mean(1)
        centred = patches - mean[:, None]
        covariance = centred @ centred.T / patches.shape[1]
        return mean, inverse_root(covariance + self.eps * torch.eye(len(mean)).to(x), self.iterations)

    def folded(self, mean: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and bias of an ordinary convolution with the same output."""
        weight = self.weight.flatten(1) @ matrix
        return weight.view_as(self.weight), self.bias - weight @ mean

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean, matrix = self.statistics(x)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.matrix.lerp_(matrix, self.momentum)
        else:
            mean, matrix = self.mean, self.matrix
        return F.conv2d(x, *self.folded(mean, matrix), self.stride, self.padding, self.dilation)


def decorrelated(a: int, b: int, kernel: int, stride: int) -> nn.Module:
    return Decorrelated(a, b, kernel, stride, kernel // 2)


def normalised(a: int, b: int, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b))


def plain(a: int, b: int, kernel: int, stride: int) -> nn.Module:
    return nn.Conv2d(a, b, kernel, stride, kernel // 2)


KINDS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "network deconvolution": decorrelated,
    "batch norm": normalised,
    "neither": plain,
}


def classifier(kind: str, seed: int) -> nn.Sequential:
    """Return the network: four convolutions and a linear layer."""
    torch.manual_seed(seed)
    layer, parts, channels = KINDS[kind], [], 3
    for width, kernel, stride in ((16, 5, 1), (16, 3, 2), (24, 3, 2), (32, 3, 2)):
        parts += [layer(channels, width, kernel, stride), nn.ReLU()]
        channels = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(32 * 9, len(CLASSES)))


def train(net: nn.Module, data: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor], epochs: int, rate: float,
          seed: int) -> np.ndarray[Any, Any]:  # fmt: skip
    """Train with momentum, and return the accuracy on training and fresh scenes by epoch, (epochs, 2)."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    batches = len(data[0]) // 64
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    order, found = torch.Generator().manual_seed(seed), []
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(data[0]), generator=order)[: batches * 64].split(64):
            loss = F.cross_entropy(net(data[0][chosen]), data[1][chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        known = (data[0][: len(fresh[0])], data[1][: len(fresh[0])])
        found.append([accuracy(net, *known), accuracy(net, *fresh)])
    return np.array(found)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    right = torch.cat([net.eval()(part).argmax(1) for part in images.split(100)]) == labels
    return float(right.float().mean())


def as_convolutions(net: nn.Sequential) -> nn.Sequential:
    """Return the trained network with ordinary convolutions only, with the same output in evaluation mode."""
    parts = []
    for part in net:
        if isinstance(part, Decorrelated):
            weight, bias = part.folded(part.mean, part.matrix)
            conv = nn.Conv2d(part.in_channels, part.out_channels, part.kernel_size, part.stride, part.padding)
            conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
            part = conv
        elif isinstance(part, nn.Sequential):
            part = nn.utils.fuse_conv_bn_eval(part[0].eval(), part[1].eval())
        parts.append(part)
    return nn.Sequential(*parts)


def row(name: str, rate: float, last: np.ndarray[Any, Any], ms: float) -> dict[str, Any]:
    """Return the accuracy at the end of training of several seeds, (seeds, 2), as a row of the table."""
    training, fresh = last.T
    return {"layer": name, "rate": rate, "training": training.mean(), "fresh": fresh.mean(),
            "lowest": fresh.min(), "highest": fresh.max(), "ms/step": ms}  # fmt: skip


def compare(quick: bool) -> tuple[list[dict[str, Any]], list[CurvePanel], dict[str, nn.Sequential]]:
    """Train all kinds, each at its best learning rate, and return numbers, curves and networks."""
    counts = (128, 64) if quick else (1600, 600)
    drawn = [pictures(first, count, SIZE) for first, count in zip((10_000, 900_000), counts, strict=True)]
    data, fresh = (((images - MEAN) / STD, labels) for images, labels in drawn)
    seeds, epochs, rates = (range(1), 1, (0.1,)) if quick else (range(3), 8, (0.03, 0.1, 0.3))
    rows, nets, curves = [], {}, ([], [])
    for kind in KINDS:
        tried = {}
        for rate in rates if len(rates) > 1 else ():
            tried[rate] = train(classifier(kind, 100), data, fresh, 3, rate, 100)[-1, 1]
        best = max(tried, key=tried.__getitem__, default=rates[0])
        start, runs = time.process_time(), []
        for seed in seeds:
            nets[kind] = net = classifier(kind, seed)
            runs.append(train(net, data, fresh, epochs, best, seed))
        found, steps = np.array(runs), len(seeds) * epochs * (counts[0] // 64)
        rows.append(row(kind, best, found[:, -1], 1000 * (time.process_time() - start) / steps))
        show(rows[-1:])
        for which, panel in enumerate(curves):
            values = found[:, :, which]
            panel.append(
                Curve(kind, np.arange(1, epochs + 1), values.mean(0), (values.min(0), values.max(0)))
            )
    longer = [
        train(classifier("batch norm", seed), data, fresh, 3 * epochs, rows[1]["rate"], seed)[-1]
        for seed in seeds
    ]
    rows.append(row("batch norm, 3 x the epochs", rows[1]["rate"], np.array(longer), rows[1]["ms/step"]))
    panels = [CurvePanel(tuple(panel), "epoch", "accuracy", title)
              for title, panel in zip(("training scenes", "fresh scenes"), curves, strict=True)]  # fmt: skip
    return rows, panels, nets


def as_networks(nets: dict[str, nn.Sequential]) -> list[dv.Network]:
    return [
        dv.Network(
            as_convolutions(net).eval(), size=SIZE, mean=[MEAN] * 3, std=[STD] * 3, classes=CLASSES, name=kind
        )
        for kind, net in nets.items()
    ]


def filters_of(nets: list[dv.Network]) -> tuple[list[dict[str, Any]], TileGrid]:
    """Return the mean measures of the first layers' filters, and a figure of some filters."""
    rows, tiles = [], []
    for net in nets:
        bank = dv.filters(net).banks[0]
        low, middle, high = bank.measures.bands.mean(0)
        rms, colour = float(bank.measures.rms.mean()), float(bank.measures.colour.mean())
        rows.append({"layer": net.name, "rms": rms, "low": low, "middle": middle, "high": high,
                     "colour": colour})  # fmt: skip
        tiles.append([GridTile(filter_.transpose(1, 2, 0)) for filter_ in bank.weights[:8]])
    title = ("Filters of the first convolution", "the first eight of 16; each row has its own scale")
    names, style = tuple(net.name for net in nets), TileGridStyle(scale="row", percentile=100)
    return rows, TileGrid(title, tuple(tiles), names, style=style, units="of weights")


def projections_of(nets: list[dv.Network]) -> TileGrid:
    """Return a figure of projections of the third convolution of each network in one scene."""
    drawn, layer, tiles = scene(900_000, size=SIZE).image, "4", []
    for net in nets:
        rec = net.record(drawn, layer)
        proj = rec.project(layer, rec.strongest(layer, k=5))
        own = [GridTile(pixels.permute(1, 2, 0).numpy(), caption=(f"channel {unit.channel}",))
               for pixels, unit in zip(proj.pixels, proj.units, strict=True)]  # fmt: skip
        tiles.append((GridTile(drawn / 255, "image"), *own))
    return TileGrid(
        ("Projections of the third convolution in one scene",),
        tuple(tiles),
        tuple(net.name for net in nets),
        style=TileGridStyle(scale="tile", limits=False),
    )


def decorrelation(net: nn.Sequential) -> list[dict[str, Any]]:
    """Return the correlations of the first layer's patches, before and after its matrix."""
    layer, (images, _) = net[0], pictures(900_000, 64, SIZE)
    mean, matrix = (value.detach() for value in layer.statistics((images - MEAN) / STD))
    patches = (
        F.unfold((images - MEAN) / STD, layer.kernel_size, padding=layer.padding).transpose(0, 1).flatten(1)
    )
    rows = []
    for name, seen in (
        ("patches", patches),
        ("after the layer's matrix", matrix @ (patches - mean[:, None])),
    ):
        correlation = torch.corrcoef(seen)
        values = torch.linalg.eigvalsh(torch.cov(seen))
        rows.append(
            {
                "input": name,
                "largest/median variance": float(values[-1] / values.median()),
                "mean |correlation|": float((correlation - torch.eye(len(mean))).abs().mean()),
            }
        )
    return rows


def main() -> None:
    chosen = options(__doc__, NAME)
    torch.set_num_threads(1)
    rows, panels, nets = compare(chosen.quick)
    show(rows)
    before = decorrelation(nets["network deconvolution"])
    show(before)
    networks = as_networks(nets)
    measures, filters = filters_of(networks)
    show(measures)
    accuracy = Curves(("Accuracy by epoch", "mean, lowest and highest of the seeds"), tuple(panels))
    numbers = {
        "accuracy": rows,
        "first layer": before,
        "filters": measures,
        "curves": {panel.title: {c.label: c.y.tolist() for c in panel.curves} for panel in panels},
    }
    write(
        chosen.out,
        NAME,
        numbers,
        accuracy=accuracy,
        filters=filters,
        projections=projections_of(networks),
    )


if __name__ == "__main__":
    main()
