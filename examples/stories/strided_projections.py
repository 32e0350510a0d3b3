"""Measure checkerboards in projections, for `checkerboard.py`: strided convolutions, and ties in pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures.spec import TileGrid
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile
from deconvviz.scenes import scene
from stories.checkerboard_measure import Spectrum, excess, rise, spectrum

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # part of scikit-image
PERIODS = (2, 4, 8, 16)
SIDE = 256  # of the grid of a spectrum
LAYERS = {
    "minivgg": ("conv2_2", "conv3_2", "conv4_2"),
    "squeezenet1_0": ("features.3", "features.5", "features.9", "features.12"),
    "resnet18": ("layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2"),
    "alexnet": ("features.3", "features.6", "features.10"),
}
SHOWN = {"minivgg": 2, "squeezenet1_0": 2, "resnet18": 2, "alexnet": 2}  # numbers of the layers in the figure


def networks(squeezenet: Path | None, quick: bool) -> list[tuple[str, dv.Network]]:
    """Return the networks that are measured, with the kind of their weights."""
    found = [("trained", dv.load("minivgg"))]
    if squeezenet is not None:
        found.append(("trained", dv.load("squeezenet1_0", weights=squeezenet)))
    names = ("alexnet",) if quick else ("squeezenet1_0", "resnet18", "alexnet")
    return found + [("random", dv.load(name, weights="random")) for name in names]


def crops(net: dv.Network, layer: str, images: list[Any], channels: int) -> list[np.ndarray[Any, Any]]:
    """Return the projections of the strongest channels in each image, cut to their receptive fields."""
    found = []
    for image in images:
        rec = net.record(image, layer)
        proj = rec.project(layer, rec.strongest(layer, k=channels))
        for pixels, (x0, y0, x1, y1) in zip(proj.pixels, proj.boxes, strict=True):
            found.append(pixels[:, y0:y1, x0:x1].numpy())
    return found


def measure(squeezenet: Path | None, quick: bool) -> tuple[list[dict[str, Any]], TileGrid]:
    """Return a row for each network and layer, and a figure of projections and their spectra."""
    images = [scene(seed, size=256).image for seed in range(5000, 5001 if quick else 5004)]
    images += [] if quick else [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    rows, columns, labels = [], [], []
    for weights, net in networks(squeezenet, quick):
        for number, layer in enumerate(LAYERS[net.name]):
            maps = crops(net, layer, images, channels=4 if quick else 12)
            found = spectrum(maps, SIDE)
            row = {"network": net.name, "weights": weights, "layer": layer, "pixels": round(found.width)}
            for period in PERIODS:
                seen = found.width >= 6 * period
                row[f"rise {period}"] = rise(found, period) if seen else ""
                row[f"share {period}"] = excess(found, period) if seen else ""
            rows.append(row)
            if number == SHOWN[net.name]:
                columns.append(_tiles(maps, found))
                labels.append(f"{net.name} {layer}, {weights}")
    return rows, TileGrid(
        ("Checkerboards in projections",),
        tuple(zip(*columns, strict=True)),
        ("a projection", "its middle,\n32x32 px", "mean spectrum\n(log10)"),
        tuple(labels),
        style=TileGridStyle(scale="tile", limits=False),
        footer="Spectra: frequency 0 is in the middle, half a cycle per pixel at the edges.",
    )


def _tiles(maps: list[np.ndarray[Any, Any]], found: Spectrum) -> tuple[GridTile, ...]:
    one = max(maps, key=lambda pixels: min(pixels.shape[1:])).transpose(1, 2, 0)
    y, x = (length // 2 - 16 for length in one.shape[:2])
    detail = one[y : y + 32, x : x + 32].repeat(6, 0).repeat(6, 1)
    coarse = np.fft.fftshift(found.power).reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
    log = np.log10(np.maximum(coarse, coarse.max() * 1e-5))
    return GridTile(one), GridTile(detail), GridTile(log, "map")


@torch.no_grad()
def unpooled_by_hand(features: nn.Sequential, x: Tensor, unit: dv.Unit, dead: str) -> Tensor:
    """Project a unit of the last module as deconvviz does, with a choice for pools of zeros only.

    PyTorch's switch of such a window is its first position. `dead` is ``first``, ``random`` (a random
    position instead) or ``none`` (such windows pass no signal).
    """
    signal, switches = x, []
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            signal, where = F.max_pool2d(below := signal, 2, return_indices=True)
            rows = torch.arange(signal.shape[2])[:, None] * 2 + torch.randint(2, signal.shape)
            columns = torch.arange(signal.shape[3]) * 2 + torch.randint(2, signal.shape)
            if dead == "random":
                where = torch.where(signal == 0, rows * below.shape[3] + columns, where)
            switches.append((where, (signal != 0) | (dead != "none")))
        else:
            signal = module(signal)
    only = torch.zeros_like(signal)
    only[0, unit.channel, unit.y, unit.x] = signal[0, unit.channel, unit.y, unit.x]
    for module in reversed(features):
        if isinstance(module, nn.MaxPool2d):
            where, passed = switches.pop()
            only = F.max_unpool2d(only * passed, where, 2)
        elif isinstance(module, nn.ReLU):
            only = only.clamp(min=0)
        else:
            only = F.conv_transpose2d(only, module.weight, padding=1)
    return only[0]


@torch.no_grad()
def zero_windows(quick: bool) -> list[dict[str, Any]]:
    """Return the share of pooling windows of minivgg that are all zero, and the switches of the others."""
    net = dv.load("minivgg")
    scenes = [scene(seed, size=96).image for seed in range(5000, 5002 if quick else 5016)]
    x, rows = torch.stack([net.preprocessing.apply(image) for image in scenes]), []
    for module in net.module.features:
        if isinstance(module, nn.MaxPool2d):
            windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (B, C, h, w, 4)
            zero = windows.amax(-1) == 0
            share = torch.bincount(windows.argmax(-1)[~zero], minlength=4) / (~zero).sum()
            rows.append({"pool": len(rows) + 1, "windows of zeros": float(zero.float().mean()),
                         "rarest switch of the others": float(share.min()),
                         "most frequent": float(share.max())})  # fmt: skip
        x = module(x)
    return rows


def ties(quick: bool) -> list[dict[str, Any]]:
    """Return the rise in projections of minivgg's conv4_2, by the switch of windows of zeros."""
    torch.manual_seed(0)
    net, maps, ours = dv.load("minivgg"), {"first": [], "random": [], "none": []}, []
    for seed in range(5000, 5002 if quick else 5016):
        rec = net.record(scene(seed, size=96).image, "conv4_2")
        proj = rec.project("conv4_2", rec.strongest("conv4_2", k=6 if quick else 12))
        for pixels, unit, (x0, y0, x1, y1) in zip(proj.pixels, proj.units, proj.boxes, strict=True):
            ours.append(pixels[:, y0:y1, x0:x1].numpy())
            for dead, found in maps.items():
                by_hand = unpooled_by_hand(net.module.features[:18], rec.inputs, unit, dead)
                found.append(by_hand[:, y0:y1, x0:x1].numpy())
    rows = []
    for dead, found in maps.items():
        alike = [
            float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
            for a, b in zip(found, ours, strict=True)
        ]
        power = spectrum(found, SIDE)
        rows.append({"switch of zero windows": dead, "rise 2": rise(power, 2), "share 2": excess(power, 2),
                     "cosine with deconvviz": float(np.mean(alike))})  # fmt: skip
    return rows
