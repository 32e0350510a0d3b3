"""What a layer keeps of a picture: inversion (Mahendran & Vedaldi 2015) beside projections.

The first figure inverts layers of minivgg for one scene, with total variation and without a prior, beside the
projections of the layer's strongest units. The same measures are printed for several scenes. The second
figure shows channels: two pictures made up by activation maximisation, one for the unit in the middle, and
the top nine of the scenes with their projections. With --photo and --weights, layers of SqueezeNet are
inverted for one photograph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from stories.story import options, show, write

import deconvviz as dv
from deconvviz.figures.spec import TileGrid
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile
from deconvviz.scenes import scene

NAME = "inversion"
LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "fc6")
SQUEEZENET_LAYERS = ("features.1", "features.4", "features.7", "features.10", "features.12")
PRIORS = {"tv": "total variation", "none": "no prior"}
SHOWN, SCENES = 7, (2, 7, 11, 23)  # seeds of scenes


def inversions(net: dv.Network, image: Any, layers: Sequence[str], steps: int) -> list[list[dv.Inversion]]:
    """Return the inversions of an image at some layers, one list for each layer with one for each prior."""
    return [[dv.invert(net, image, layer, prior, steps=steps, k=2) for prior in PRIORS] for layer in layers]


def numbers(found: dv.Inversion) -> dict[str, Any]:
    """Return the measures of an inversion as a row of a table."""
    measures = found.measures
    return {
        "image": found.name,
        "layer": found.layer.name,
        "prior": found.settings.prior,
        "relative error": found.relative_error,
        "PSNR (dB)": measures.psnr,
        "PSNR of grey (dB)": measures.psnr_of_grey,
        "SSIM": measures.ssim,
        "SSIM of grey": measures.ssim_of_grey,
    }


def tile(found: dv.Inversion) -> GridTile:
    """Return the inverse with its measures."""
    one = found.measures
    lines = (f"relative error {found.relative_error:.3g}", f"PSNR {one.psnr:.1f} dB · SSIM {one.ssim:.2f}")
    return GridTile(found.shown, "image", lines)


def projections(found: dv.Inversion, count: int = 2) -> list[GridTile | None]:
    """Return the projections of the strongest units in the whole image, and None for those that lack."""
    one = found.projection
    if one is None:
        return [None] * count
    height, width = found.original.shape[:2]
    tiles: list[GridTile | None] = [
        GridTile(one.crop_at(number, (0, 0, width, height)), "signed", (f"channel {unit.channel}",))
        for number, unit in enumerate(one.units[:count])
    ]
    return tiles + [None] * (count - len(tiles))


def layers_figure(rows: list[list[dv.Inversion]]) -> TileGrid:
    """Return a figure with one row for each layer: image, inverses, projections."""
    first = rows[0][0]
    tiles = [
        (GridTile(row[0].original, "image"), *(tile(one) for one in row), *projections(row[0]))
        for row in rows
    ]
    return TileGrid(
        title=(
            f"{first.network.name} · {first.name} · what each layer keeps",
            f"{first.settings.steps} steps · seed {first.settings.seed} · weights: "
            f"{first.network.origin.short}",
        ),
        tiles=tuple(tiles),
        row_labels=tuple(row[0].layer.name for row in rows),
        column_labels=(
            "image",
            *(f"inverse, {text}" for text in PRIORS.values()),
            "projection",
            "projection",
        ),
        style=TileGridStyle("tile", limits=False),
        footer="an inverse is one of many pictures with nearly the features of the image; a projection shows "
        "what reached one unit",
        units="in pixel values",
    )


def square(picture: Any, fill: float) -> Any:
    """Return a picture (h, w, 3) in the middle of a square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    found = np.full((side, side, 3), fill)
    top, left = (side - height) // 2, (side - width) // 2
    found[top : top + height, left : left + width] = picture
    return found


def mosaic(pictures: list[Any], side: int = 62, gap: int = 3) -> Any:
    """Return at most nine squares (h, h, 3) as one picture, three in a row, each enlarged to `side`."""
    found = np.ones((3 * side + 2 * gap, 3 * side + 2 * gap, 3))
    for number, one in enumerate(pictures):
        places = np.arange(side) * len(one) // side
        top, left = ((side + gap) * place for place in divmod(number, 3))
        found[top : top + side, left : left + side] = one[places][:, places]
    return found


def twice(picture: Any) -> Any:
    """Return a picture with twice the number of pixels on each side."""
    return picture.repeat(2, 0).repeat(2, 1)


def projected(crop: Any) -> Any:
    """Return a projection divided by its 99th percentile, so that nine of them share one scale."""
    limit = np.percentile(np.abs(crop), 99) or 1.0
    return np.clip(crop / limit, -1, 1)


def channels_figure(net: dv.Network, layer: str, count: int, scenes: int, steps: int) -> tuple[TileGrid, Any]:
    """Return a figure of made-up pictures beside the top nine scenes, and their activations."""
    with tempfile.TemporaryDirectory() as folder:
        search = dv.search(net, f"scenes:{scenes}", [layer], out=f"{folder}/search")
        channels = search.choose(layer, count)
        top = search.topnine(layer, channels, k=min(9, scenes), network=net).shown[layer]
        whole = dv.maximise(net, layer, channels, steps=steps, pictures=2, search=search)
    middle = dv.maximise(net, layer, channels, objective="centre", steps=steps)
    rows, table = [], []
    for number, channel in enumerate(channels):
        made = [*whole.pictures[2 * number : 2 * number + 2], middle.pictures[number]]
        natural = whole.natural[channel]
        assert natural is not None
        patches = mosaic([square(np.asarray(one.crop.patch), 1.0) for one in top[channel]])
        signals = mosaic([square(projected(one.crop.projection), 0.0) for one in top[channel]])
        rows.append((
            *(GridTile(twice(one.shown), "image", (f"highest {one.activation:.3g}",)) for one in made),
            GridTile(patches, "image", (f"highest {natural.activation:.3g}",)),
            GridTile(signals, "signed", ("each with its own scale",)),
        ))  # fmt: skip
        table.append({
            "channel": channel,
            "scenes": natural.activation,
            "made up (mean)": made[0].activation,
            "made up (centre)": made[2].activation,
            "ratio": made[0].activation / natural.activation,
        })  # fmt: skip
    figure = TileGrid(
        title=(
            f"{net.name} · {layer} · made-up pictures and the top nine of {scenes} scenes",
            f"made up by optimisation, {steps} steps each · highest: strongest activation of the channel",
        ),
        tiles=tuple(rows),
        row_labels=tuple(f"channel {channel}" for channel in channels),
        column_labels=("made up, mean", "made up, seed 1", "made up, centre unit", "top nine", "projections"),
        style=TileGridStyle("tile", 100.0, limits=False),
        footer="a made-up picture is one of many, and not an image of any dataset",
        units="shares of the 99th percentile of each projection",
    )
    return figure, table


def middle_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians over images for each layer and prior."""
    keys = list(dict.fromkeys((row["layer"], row["prior"]) for row in rows))
    names = ("relative error", "PSNR (dB)", "PSNR of grey (dB)", "SSIM", "SSIM of grey")
    return [
        {"layer": layer, "prior": prior}
        | {
            name: float(np.median([r[name] for r in rows if (r["layer"], r["prior"]) == (layer, prior)]))
            for name in names
        }
        for layer, prior in keys
    ]


def lighten(path: Path, most: int = 200_000) -> None:
    """Write a figure again with fewer colours and pixels if its file is large: noise compresses badly."""
    with Image.open(path) as opened:
        figure = opened.convert("RGB")
    for share, colours in ((1.0, 256), (0.8, 256), (0.7, 256), (0.6, 256), (0.6, 128), (0.6, 64), (0.5, 64)):
        if path.stat().st_size <= most:
            return
        size = (round(share * figure.width), round(share * figure.height))
        small = figure.resize(size, Image.Resampling.LANCZOS)
        small.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Run the story."""
    torch.set_num_threads(1)
    files = {"--photo": "a photograph, for SqueezeNet", "--weights": "weights of torchvision's squeezenet1_0"}
    asked = options(__doc__ or "", NAME, files)
    quick = asked.quick
    net = dv.load("minivgg")
    seeds = (SHOWN,) if quick else SCENES
    steps = 12 if quick else 400
    every = {seed: inversions(net, scene(seed), LAYERS, steps) for seed in seeds}
    rows = [numbers(one) for of_scene in every.values() for layer in of_scene for one in layer]
    print(f"medians of {len(seeds)} scenes in minivgg, {steps} steps:")
    show(middle_rows(rows))
    channels = channels_figure(net, "relu4_2", 2 if quick else 5, 9 if quick else 500, 8 if quick else 256)
    print("activations of made-up pictures, and the highest in the scenes:")
    show(channels[1])
    results = {"scenes": rows, "channels": channels[1]}
    figures = {"layers": layers_figure(every[SHOWN]), "channels": channels[0]}
    if asked.photo is not None and asked.weights is not None:
        squeezenet = dv.load("squeezenet1_0", weights=str(asked.weights))
        photo = inversions(squeezenet, asked.photo, SQUEEZENET_LAYERS, 4 if quick else 200)
        results["photo"] = [numbers(one) for layer in photo for one in layer]
        show([{key: value for key, value in row.items() if key != "image"} for row in results["photo"]])
        figures["photo"] = layers_figure(photo)
    write(asked.out, NAME, results, **figures)
    for key in figures:
        lighten(asked.out / f"{NAME}-{key}.png")


if __name__ == "__main__":
    main()
