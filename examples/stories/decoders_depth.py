"""Depth from one picture, with a decoder of transposed convolutions (as Laina et al. 2016 up-project).

Drawn scenes have no depth. Therefore objects are cut out of them and placed on a plane by the rules of
perspective: a farther object is smaller, stands higher in the picture, and is hidden by nearer ones.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures import draw
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.scenes import scene
from stories.fitting import fit
from stories.scene_data import pixels
from stories.scene_figures import colours, saved

SIZE, HORIZON = 64, 20  # px
TRAINING_SEED, FRESH_SEED = 90_000_000, 95_000_000
MOST_OBJECTS = 3
LEAST_NEARNESS = 0.25
HEIGHT = 0.9  # of an object, as a share of the height of the camera above the plane


@dataclass(frozen=True, eq=False)
class DepthPictures:
    """Pictures with the nearness of each pixel: 1 / depth, 1 at the lower border, 0 at the horizon."""

    images: np.ndarray  # uint8 (N, 64, 64, 3)
    nearness: np.ndarray  # float32 (N, 64, 64)
    objects: np.ndarray  # bool (N, 64, 64)


def depth_pictures(first_seed: int, count: int, cut: int) -> DepthPictures:
    """Return pictures of a plane with one to three objects of `cut` drawn scenes."""
    pool = [scene(seed) for seed in range(first_seed, first_seed + cut)]
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    nearness = np.zeros((count, SIZE, SIZE), np.float32)
    objects = np.zeros((count, SIZE, SIZE), np.bool_)
    for i in range(count):
        dice = np.random.default_rng([first_seed, i])
        canvas = _plane(dice)
        nearness[i, HORIZON:] = (np.arange(HORIZON, SIZE) + 1 - HORIZON)[:, None] / (SIZE - HORIZON)
        chosen = sorted(dice.uniform(LEAST_NEARNESS, 1, dice.integers(1, MOST_OBJECTS + 1)))  # far ones first
        for near in chosen:
            one = pool[int(dice.integers(len(pool)))]
            mask = _place(canvas, one.image, one.object_mask, near, dice)
            nearness[i][mask] = near
            objects[i] |= mask
        noisy = canvas + dice.normal(0, 4, canvas.shape)
        images[i] = noisy.clip(0, 255).astype(np.uint8)
    return DepthPictures(images, nearness, objects)


def _plane(dice: np.random.Generator) -> np.ndarray:
    """Return a plane and a sky in random colours, (64, 64, 3)."""
    canvas = np.empty((SIZE, SIZE, 3))
    canvas[:HORIZON], canvas[HORIZON:] = dice.uniform(60, 230, (2, 3))
    return canvas + np.linspace(-15, 15, SIZE)[:, None, None]


def _place(
    canvas: np.ndarray, image: np.ndarray, mask: np.ndarray, near: float, dice: np.random.Generator
) -> np.ndarray:
    """Paint an object that stands on the plane, and return its mask (64, 64)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    foot = HORIZON + near * (SIZE - HORIZON)
    high = max(2, round(HEIGHT * near * (SIZE - HORIZON)))
    wide = max(2, round(high * len(columns) / len(rows)))
    small = np.asarray(Image.fromarray(image[part]).resize((wide, high), Image.Resampling.BOX))
    shape = np.asarray(Image.fromarray(mask[part]).resize((wide, high), Image.Resampling.NEAREST))
    left, top = int(dice.integers(-wide // 3, SIZE - wide + wide // 3 + 1)), round(foot) - high
    ys, xs = np.nonzero(shape)
    inside = (ys + top >= 0) & (ys + top < SIZE) & (xs + left >= 0) & (xs + left < SIZE)
    ys, xs = ys[inside], xs[inside]
    placed = np.zeros((SIZE, SIZE), np.bool_)
    placed[ys + top, xs + left] = True
    canvas[ys + top, xs + left] = small[ys, xs]
    return placed


def depth_network() -> nn.Sequential:
    """Return an encoder with strided convolutions and a decoder with transposed ones: to (B, 1, 64, 64)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    down, up = (3, 16, 32, 48, 64), (64, 48, 32, 16)
    for i, (into, to) in enumerate(pairwise(down), 1):
        layers[f"conv{i}"] = nn.Conv2d(into, to, 5 if i == 1 else 3, stride=2, padding=2 if i == 1 else 1)
        layers[f"norm{i}"], layers[f"relu{i}"] = nn.BatchNorm2d(to), nn.ReLU()
    for i, (into, to) in enumerate(zip(up, (*up[1:], 16), strict=True), 1):
        layers[f"deconv{i}"] = nn.ConvTranspose2d(into, to, 4, stride=2, padding=1)
        layers[f"upnorm{i}"], layers[f"uprelu{i}"] = nn.BatchNorm2d(to), nn.ReLU()
    layers["nearness"] = nn.Conv2d(16, 1, 3, padding=1)
    return nn.Sequential(layers)


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Train the network, measure it on fresh pictures, and project pixels of its result."""
    torch.manual_seed(0)
    network = depth_network()
    training = depth_pictures(TRAINING_SEED, 48 if quick else 3000, 16 if quick else 400)
    fresh = depth_pictures(FRESH_SEED, 8 if quick else 200, 8 if quick else 100)
    inputs, wanted = _prepared(training.images), torch.from_numpy(training.nearness)[:, None]
    losses = fit(
        "depth",
        network,
        len(inputs),
        lambda chosen: F.l1_loss(network(inputs[chosen]), wanted[chosen]),
        epochs=2 if quick else 12,
    )
    with torch.no_grad():
        found = network(_prepared(fresh.images))[:, 0].numpy()
    mean_map = np.broadcast_to(training.nearness.mean(0), fresh.nearness.shape)
    _draw_pictures(fresh, found, out)
    return {
        "losses": losses,
        "fresh pictures": len(fresh.images),
        "mean absolute error of the nearness": {
            name: {
                "all pixels": float(np.abs(one - fresh.nearness).mean()),
                "pixels of objects": float(np.abs(one - fresh.nearness)[fresh.objects].mean()),
            }
            for name, one in (("network", found), ("mean map", mean_map))
        },
        "projection": _project(network, fresh, out),
    }


def _prepared(images: np.ndarray) -> Tensor:
    return pixels(images).sub_(0.5).div_(0.25)


def _draw_pictures(fresh: DepthPictures, found: np.ndarray, out: Path) -> None:
    rows = tuple(
        (
            GridTile(colours(fresh.images[n]), "image"),
            GridTile(fresh.nearness[n], "map"),
            GridTile(found[n].clip(0, 1), "map"),
        )
        for n in range(3)
    )
    grid = TileGrid(
        ("Depth of pictures that training never saw", "nearness: 1 at the lower border, 0 at the horizon"),
        rows,
        column_labels=("picture", "true nearness", "network"),
        map_name="nearness",
        map_interval=(0, 1),
    )
    saved(draw(grid), out / "decoders-depth.png")


def _project(network: nn.Module, fresh: DepthPictures, out: Path) -> dict[str, Any]:
    """Project the middle of the objects of each picture, and a pixel of the plane, to the picture.

    The network has no max-pools. Therefore its projections are the same for all pictures: the deconvnet knows
    a picture by its switches only. The gradient also knows which ReLUs are active.
    """
    net = dv.Network(network, size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="depth")
    rec = net.record(_prepared(fresh.images), "nearness", methods="gradient")
    places = {"object": _middles(fresh.objects), "plane": _middles(_plane_alone(fresh.objects))}
    numbers: dict[str, Any] = {"median area of the objects": float(np.median(fresh.objects.mean((1, 2))))}
    maps = {}
    for name, (rows, columns) in places.items():
        signal = torch.zeros_like(rec.activations("nearness"))
        signal[torch.arange(len(signal)), 0, torch.from_numpy(rows), torch.from_numpy(columns)] = 1
        for method, title in (("deconvnet", "projection"), ("gradient", "gradient")):
            one = rec.project("nearness", signal, method=method).pixels.numpy()
            energy = np.square(one).sum(1)
            on = (energy * fresh.objects).sum((1, 2)) / energy.sum((1, 2)).clip(1e-30)
            numbers[f"energy of the {title} on objects, pixel of the {name} (median)"] = float(np.median(on))
            maps[f"{title} of pixel {len(maps) // 2 + 1}"] = one
    _draw_projections(fresh, places, maps, out)
    return numbers


def _draw_projections(
    fresh: DepthPictures,
    places: dict[str, tuple[np.ndarray, np.ndarray]],
    maps: dict[str, np.ndarray],
    out: Path,
) -> None:
    tiles = []
    for n in range(2):
        marks = []
        for number, (rows, columns) in enumerate(places.values(), 1):
            y, x = int(rows[n]), int(columns[n])
            marks.append(Mark((max(0, x - 1), max(0, y - 1), min(SIZE, x + 2), min(SIZE, y + 2)), number))
        picture = GridTile(colours(fresh.images[n]), "image", marks=tuple(marks))
        shown = [np.moveaxis(one[n], 0, -1) * 0.25 for one in maps.values()]
        tiles.append((picture, *(GridTile(one, "signed") for one in shown)))
    grid = TileGrid(
        ("Pixels of the nearness projected to the picture", "pixel 1 on an object, pixel 2 on the plane"),
        tuple(tiles),
        (),
        ("picture", *maps),
        TileGridStyle(scale="tile", limits=False),
        units="in pixel values",
    )
    saved(draw(grid), out / "decoders-depth-unit.png")


def _plane_alone(objects: np.ndarray) -> np.ndarray:
    free = ~objects
    free[:, :HORIZON] = False
    return free


def _middles(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a pixel of each mask, the one farthest from its border: rows and columns."""
    depths = [distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] for mask in masks]
    places = np.array([np.unravel_index(int(depth.argmax()), depth.shape) for depth in depths])
    return places[:, 0], places[:, 1]
