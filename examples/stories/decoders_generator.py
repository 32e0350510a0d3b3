"""A generator of faces, built as that of DCGAN and trained as the decoder of a variational auto-encoder."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures import draw
from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure
from deconvviz.figures.spec.style import MeasuresStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.models.minivgg import SIZE as MINIVGG_SIZE
from deconvviz.models.minivgg import load_minivgg
from deconvviz.scenes import CLASSES, scene
from stories.fitting import fit
from stories.scene_data import normalised, pixels
from stories.scene_figures import saved

FACE = "face"
SIZE, CODE = 32, 32
TRAINING_SEED, FRESH_SEED = 70_000_000, 80_000_000
WEIGHT = 0.5  # of the divergence of the codes from the normal distribution, for each pixel sum of the errors
LAST = "deconv4"  # the layer below the sigmoid, which receives no signal


def generator() -> nn.Sequential:
    """Return a network from codes (B, 32, 1, 1) to colours (B, 3, 32, 32)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = (CODE, 128, 64, 32, 3)
    for i, (into, to) in enumerate(pairwise(widths), 1):
        stride, padding = (1, 0) if i == 1 else (2, 1)
        layers[f"deconv{i}"] = nn.ConvTranspose2d(into, to, 4, stride, padding, bias=i == len(widths) - 1)
        if i < len(widths) - 1:
            layers[f"norm{i}"], layers[f"relu{i}"] = nn.BatchNorm2d(to), nn.ReLU()
    layers["colours"] = nn.Sigmoid()
    return nn.Sequential(layers)


class AutoEncoder(nn.Module):
    """Encoder, and the generator as its decoder. The result is made from the mean code, without noise."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, to in pairwise((3, 32, 64, 128)):
            layers += [nn.Conv2d(into, to, 4, 2, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)  # (B, 3, 32, 32) -> (B, 128, 4, 4)
        self.mean, self.spread = nn.Conv2d(128, CODE, 4), nn.Conv2d(128, CODE, 4)
        self.generator = generator()

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.generator(self.mean(self.encoder(images)))
        return made

    def loss(self, images: Tensor) -> Tensor:
        """Return the squared errors of an image, plus the divergence of its code from a normal one."""
        maps = self.encoder(images)
        mean, log_variance = self.mean(maps), self.spread(maps)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        errors = 100 * (self.generator(code) - images).square().sum((1, 2, 3)) / 2
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)) / 2
        return (errors + WEIGHT * divergence).mean() / images[0].numel()


def faces(first_seed: int, count: int) -> np.ndarray:
    """Return scenes that show a face, uint8 (N, 32, 32, 3)."""
    return np.stack([scene(seed, FACE, SIZE).image for seed in range(first_seed, first_seed + count)])


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Train the auto-encoder, measure what its decoder generates, and project its pixels to codes."""
    torch.manual_seed(0)
    network = AutoEncoder()
    images = pixels(faces(TRAINING_SEED, 64 if quick else 2000))
    fresh = pixels(faces(FRESH_SEED, 8 if quick else 200))
    count = 8 if quick else 200
    untrained = made(network.eval().generator, normal_codes(count))
    losses = fit(
        "generator",
        network,
        len(images),
        lambda chosen: network.loss(images[chosen]),
        epochs=2 if quick else 40,
        batch=16,
    )
    fitted = fitted_codes(network, images, count)
    generated = {
        "normal codes": made(network.generator, normal_codes(count)),
        "fitted codes": made(network.generator, fitted),
    }
    with torch.no_grad():
        again = network(fresh)
    mean_face = images.mean(0)
    _draw_pictures(fresh, again, generated, out)
    return {
        "losses": losses,
        "fresh pictures": len(fresh),
        "PSNR of fresh pictures in dB": {
            "through the code": _psnr(fresh, again),
            "mean face": _psnr(fresh, mean_face.expand_as(fresh)),
        },
        "share that minivgg calls a face": {
            "drawn faces": called_face(fresh),
            "drawn faces through the code": called_face(again),
            **{name: called_face(one) for name, one in generated.items()},
            "normal codes before the training": called_face(untrained),
        },
        "projection to the code": _project_to_code(network.generator, fitted[:100], out),
        "projection to the picture": _project_to_picture(network, fresh, out),
    }


@torch.no_grad()
def made(network: nn.Module, codes: Tensor) -> Tensor:
    """Return the pictures (N, 3, 32, 32) of codes (N, 32, 1, 1)."""
    found: Tensor = network(codes)
    return found


def normal_codes(count: int) -> Tensor:
    """Return codes of independent normal numbers, the same each time: the assumption of the training."""
    return torch.randn(count, CODE, 1, 1, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def fitted_codes(network: AutoEncoder, images: Tensor, count: int) -> Tensor:
    """Return random codes with the mean and the covariance that the codes of some images have."""
    known = torch.cat([network.mean(network.encoder(part)) for part in images.split(100)]).flatten(1)
    spread, turn = torch.linalg.eigh(torch.cov(known.T))
    scaled = normal_codes(count).flatten(1) * spread.clamp(min=0).sqrt()
    return (known.mean(0) + scaled @ turn.T)[..., None, None]


def _psnr(images: Tensor, others: Tensor) -> float:
    return float((-10 * (images - others).square().mean((1, 2, 3)).log10()).mean())


@torch.no_grad()
def called_face(images: Tensor) -> float:
    """Return the share of images (N, 3, 32, 32), enlarged, that minivgg assigns to the class of faces."""
    large = F.interpolate(images, (MINIVGG_SIZE,) * 2, mode="bilinear", align_corners=False)
    whole = large.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return float((load_minivgg()(normalised(whole)).argmax(1) == CLASSES.index(FACE)).float().mean())


def _draw_pictures(fresh: Tensor, again: Tensor, generated: dict[str, Tensor], out: Path) -> None:
    rows = [
        tuple(GridTile(_view(image), "image") for image in images[:8])
        for images in (fresh, again, *generated.values())
    ]
    title = (
        "Auto-encoder and generator",
        "fresh pictures, the same through the code, pictures of random codes",
    )
    grid = TileGrid(title, tuple(rows), row_labels=("fresh", "through the code", *generated))
    saved(draw(grid), out / "decoders-generator.png")


def _view(image: Tensor) -> np.ndarray:
    colours: np.ndarray = image.permute(1, 2, 0).numpy()
    return colours


def _project_to_code(network: nn.Module, some: Tensor, out: Path) -> dict[str, Any]:
    """Project pixels of generated pictures to the code, and compare with changes of the code.

    The input of the generator is not an image, so that deconvviz returns numbers and no figure. The signal
    is 1 for the three colours of the pixel, before the sigmoid. The true effect of a number of the code is
    how much the pixel changes if this number is 0.5 larger, divided by 0.5.
    """
    net = dv.Network(network, size=1, mean=(0,) * CODE, std=(1,) * CODE, name="generator")
    count = len(some)
    dice = np.random.default_rng(0)
    places = dice.integers(8, SIZE - 8, (count, 2))
    found = {}
    for method in ("deconvnet", "gradient"):
        rec = net.record(some, LAST, methods=() if method == "deconvnet" else method)
        signal = torch.zeros_like(rec.activations(LAST))
        signal[torch.arange(count), :, torch.from_numpy(places[:, 0]), torch.from_numpy(places[:, 1])] = 1
        found[method] = rec.project(LAST, signal, method=method).pixels.flatten(1).numpy()
    effects = _effects(net, some, places)
    ranks = {
        method: [float(spearmanr(one, true).statistic) for one, true in zip(values, effects, strict=True)]
        for method, values in found.items()
    }
    _draw_bars(places, found, effects, out)
    return {
        "pixels": count,
        "shape": [count, CODE, 1, 1],
        "median rank correlation with the effect of a change": {
            method: float(np.median(values)) for method, values in ranks.items()
        },
    }


def _effects(net: dv.Network, some: Tensor, places: np.ndarray) -> np.ndarray:
    """Return how much the pixel of each code changes with each number of the code: (N, 32)."""
    rows, columns = (torch.from_numpy(axis) for axis in places.T)
    each = torch.arange(len(some))

    def brightness(given: Tensor) -> Tensor:
        return net.record(given, LAST).activations(LAST)[each, :, rows, columns].sum(1)

    before, effects = brightness(some), np.empty((len(some), CODE))
    for number in range(CODE):
        changed = some.clone()
        changed[:, number] += 0.5
        effects[:, number] = (brightness(changed) - before) / 0.5
    return effects


def _draw_bars(places: np.ndarray, found: dict[str, np.ndarray], effects: np.ndarray, out: Path) -> None:
    """Draw the projection, the gradient and the true effect of one pixel as bars, one for each number."""
    values = {
        "projection": found["deconvnet"][0],
        "gradient": found["gradient"][0],
        "true effect": effects[0],
    }
    panels = []
    for name, of_code in values.items():
        largest = float(np.abs(of_code).max())
        bars = tuple(Bar(float(value / largest)) for value in of_code)
        panels.append(BarPanel(name, f"1 is {largest:.2g}", bars, highest=1.0))
    y, x = places[0]
    figure = MeasuresFigure(
        (f"Pixel in row {y}, column {x} of a generated picture projected to the code",),
        tuple(f"number {n}" for n in range(CODE)),
        tuple(panels),
        style=MeasuresStyle(columns=3),
        key=f"one bar for each of the {CODE} numbers of the code, divided by the largest absolute value",
    )
    saved(draw(figure), out / "decoders-generator-code.png")


def _project_to_picture(network: AutoEncoder, fresh: Tensor, out: Path) -> dict[str, Any]:
    """Project pixels of the auto-encoder's result through code and encoder to the picture."""
    net = dv.Network(network, size=SIZE, mean=(0,) * 3, std=(1,) * 3, name="auto-encoder")
    layer = f"generator.{LAST}"
    rec = net.record(fresh, layer)
    centre, corner = (SIZE // 2, SIZE // 2), (2, 2)
    maps = {}
    for name, (y, x) in {"centre": centre, "corner": corner}.items():
        signal = torch.zeros_like(rec.activations(layer))
        signal[:, :, y, x] = 1
        maps[name] = rec.project(layer, signal).pixels
    rows = []
    for n in range(2):
        marks = tuple(Mark((x - 1, y - 1, x + 2, y + 2), i) for i, (y, x) in enumerate((centre, corner), 1))
        picture = GridTile(_view(fresh[n]), "image", marks=marks)
        rows.append((picture, *(GridTile(_view(one[n]), "signed") for one in maps.values())))
    grid = TileGrid(
        ("Pixels of the auto-encoder's result projected to the picture",),
        tuple(rows),
        (),
        ("picture", "pixel 1: centre", "pixel 2: corner"),
        TileGridStyle(scale="tile", limits=False),
        units="in pixel values",
    )
    saved(draw(grid), out / "decoders-generator-unit.png")
    energies = {name: one.square().sum(1).flatten(1).numpy() for name, one in maps.items()}
    alike = [
        float(np.corrcoef(a, b)[0, 1]) for a, b in zip(energies["centre"], energies["corner"], strict=True)
    ]
    return {"correlation of the energies of two pixels (median)": float(np.nanmedian(alike))}
