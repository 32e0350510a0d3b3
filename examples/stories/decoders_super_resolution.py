"""Super-resolution with a learned transposed convolution (as FSRCNN, Dong et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures import draw
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from stories.fitting import fit
from stories.scene_data import pixels, scene_images
from stories.scene_figures import saved

SIZE, FACTOR = 96, 2
TRAINING_SEED, FRESH_SEED = 50_000_000, 60_000_000
BORDER = 4  # pixels at the border that PSNR ignores
FIELD = 12  # side of the shown part of the small picture


class SuperResolution(nn.Module):
    """Twice as many rows and columns: convolutions on the small picture, one transposed convolution.

    The transposed convolution reads the small picture and its features. It starts as bilinear interpolation
    of the picture, so the untrained network is bilinear interpolation.
    """

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )
        self.up = nn.ConvTranspose2d(channels + 3, 3, 2 * FACTOR, FACTOR, padding=FACTOR // 2, bias=False)
        with torch.no_grad():
            self.up.weight.zero_()
            for colour in range(3):
                self.up.weight[channels + colour, colour] = bilinear_kernel(FACTOR)

    def forward(self, small: Tensor) -> Tensor:
        both = torch.cat([self.features(small), small], 1)
        large: Tensor = self.up(both)  # (B, C + 3, h, w) -> (B, 3, 2h, 2w)
        return large


def bilinear_kernel(factor: int) -> Tensor:
    """Return the weights (2 * factor, 2 * factor) with which a transposed convolution interpolates."""
    places = torch.arange(2 * factor)
    line = 1 - (places - (2 * factor - 1) / 2).abs() / factor
    return line[:, None] * line


def smaller(images: Tensor) -> Tensor:
    """Return images (N, 3, H, W) with half the rows and columns, with antialiasing."""
    return F.interpolate(images, scale_factor=1 / FACTOR, mode="bicubic", antialias=True).clamp(0, 1)


def psnr(images: Tensor, others: Tensor) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each image in dB, without the border: (N,)."""
    inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    errors = (images - others.clamp(0, 1))[inner].square().mean((1, 2, 3))
    decibels: np.ndarray = (-10 * errors.log10()).numpy()
    return decibels


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Train the network, measure it on fresh scenes, and project two of its pixels."""
    torch.manual_seed(0)
    network = SuperResolution()
    large = pixels(scene_images(TRAINING_SEED, 24 if quick else 800, SIZE))
    small = smaller(large)
    fresh = pixels(scene_images(FRESH_SEED, 8 if quick else 100, SIZE))
    low = smaller(fresh)
    with torch.no_grad():
        before = psnr(fresh, network(low))
    losses = fit(
        "super-resolution",
        network,
        len(large),
        lambda chosen: F.l1_loss(network(small[chosen]), large[chosen]),
        epochs=2 if quick else 12,
        batch=8 if quick else 16,
    )
    with torch.no_grad():
        found = network(low)
    others = {
        mode: F.interpolate(low, scale_factor=FACTOR, mode=mode, align_corners=False)
        for mode in ("bilinear", "bicubic")
    }
    scores = {"network": psnr(fresh, found), **{mode: psnr(fresh, one) for mode, one in others.items()}}
    _draw_pictures(fresh, low, others["bicubic"], found, scores, out)
    return {
        "losses": losses,
        "fresh pictures": len(fresh),
        "PSNR in dB (mean)": {name: float(values.mean()) for name, values in scores.items()},
        "PSNR before the training": float(before.mean()),
        "pictures in which the network beats bicubic": int((scores["network"] > scores["bicubic"]).sum()),
        "projection": _project(network, low, fresh, out),
    }


def _draw_pictures(
    fresh: Tensor, low: Tensor, bicubic: Tensor, found: Tensor, scores: dict[str, np.ndarray], out: Path
) -> None:
    rows = []
    for n in range(3):
        tiles = [GridTile(_view(low[n].repeat_interleave(2, 1).repeat_interleave(2, 2)), "image")]
        for name, one in (("bicubic", bicubic), ("network", found)):
            tiles.append(GridTile(_view(one[n]), "image", caption=(f"{scores[name][n]:.1f} dB",)))
        rows.append((*tiles, GridTile(_view(fresh[n]), "image")))
    title = ("Super-resolution of pictures that training never saw", "PSNR: higher is better")
    grid = TileGrid(title, tuple(rows), column_labels=("small picture", "bicubic", "network", "original"))
    saved(draw(grid), out / "decoders-super-resolution.png")


def _view(image: Tensor) -> np.ndarray:
    colours: np.ndarray = image.clamp(0, 1).permute(1, 2, 0).numpy()
    return colours


def _project(network: SuperResolution, low: Tensor, fresh: Tensor, out: Path) -> dict[str, Any]:
    """Project an output pixel on an edge and one in a flat area to the small picture."""
    net = dv.Network(network, size=SIZE // FACTOR, mean=(0,) * 3, std=(1,) * 3, name="super-resolution")
    rec = net.record(low[:1], "up")
    change = _changes(fresh[0])
    places = {"pixel on an edge": change.argmax(), "pixel in a flat area": change.argmin()}
    signal = torch.zeros(len(places), *rec.activations("up").shape[1:])
    rows = {name: divmod(int(place) + FIELD * SIZE, SIZE) for name, place in places.items()}
    for number, (y, x) in enumerate(rows.values()):
        signal[number, :, y, x] = 1
    shown, numbers = [], {}
    for method in ("deconvnet", "gradient"):
        one = net.record(low[:1], "up", methods=() if method == "deconvnet" else method)
        shown.append(one.project("up", signal, image_indices=[0] * len(rows), method=method).pixels)
    tiles = []
    for number, (name, (y, x)) in enumerate(rows.items()):
        cy, cx = y // FACTOR, x // FACTOR
        top = min(max(cy - FIELD // 2, 0), SIZE // FACTOR - FIELD)
        left = min(max(cx - FIELD // 2, 0), SIZE // FACTOR - FIELD)
        part = (slice(top, top + FIELD), slice(left, left + FIELD))
        mark = Mark((cx - left, cy - top, cx - left + 1, cy - top + 1))
        picture = GridTile(_view(low[0][:, part[0], part[1]]), "image", marks=(mark,))
        tiles.append((picture, *(GridTile(_signed(one[number])[part], "signed") for one in shown)))
        numbers[name] = {
            "row and column": [y, x],
            "energy in the nearest 3 x 3 pixels of the small picture": _near(shown[0][number], cy, cx),
        }
    title = ("One pixel of the output projected to the small picture", f"a part of {FIELD} x {FIELD} px")
    grid = TileGrid(
        title,
        tuple(tiles),
        tuple(rows),
        ("small picture", "projection", "gradient"),
        TileGridStyle(scale="tile", limits=False),
        units="in pixel values",
    )
    saved(draw(grid), out / "decoders-super-resolution-unit.png")
    return numbers


def _changes(image: Tensor) -> Tensor:
    """Return how much the colours change around each pixel, without the rows near the border: flat."""
    grey = image.mean(0, keepdim=True)[None]
    spread = F.max_pool2d(grey, 5, 1, 2) + F.max_pool2d(-grey, 5, 1, 2)
    inner = spread[0, 0, FIELD:-FIELD].clone()
    middle = inner[:, FIELD:-FIELD].mean()
    inner[:, :FIELD] = inner[:, -FIELD:] = middle
    return inner.flatten()


def _signed(pixels_of_unit: Tensor) -> np.ndarray:
    values: np.ndarray = pixels_of_unit.permute(1, 2, 0).numpy()
    return values


def _near(projection: Tensor, y: int, x: int) -> float:
    energy = projection.square().sum(0)
    near = energy[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    return float(near.sum() / energy.sum())
