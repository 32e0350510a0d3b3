"""Train a deconvolution network to segment birds, and look into it (Noh, Hong & Han, ICCV 2015).

    python examples/birds.py --out birds                          # trains, then looks into the network
    python examples/birds.py --out again --weights birds/birds.safetensors   # without training
    python examples/birds.py --out mine --data photos             # your photographs and masks
    python examples/birds.py --out try --quick                    # a few seconds, to see that it runs

The encoder is minivgg with its trained weights, the decoder is its mirror image with unpooling and transposed
convolutions. --data names a folder with images/NAME.jpg (or .png) and masks/NAME.png of the same size, white
where the object is. Everything is written into the folder --out: figures, birds.json, the weights of each
epoch, and the pictures that training never saw with true and found masks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stories import birds_figures as figures
from stories.birds_data import Split, drawn, photographs
from stories.birds_network import LAYOUTS
from stories.birds_opened import Effort, look_into
from stories.birds_pixels import PLACES
from stories.birds_training import (
    EPOCH_WEIGHTS,
    TRAINING,
    WEIGHTS,
    Plan,
    fresh_network,
    load,
    overlap,
    predicted,
    train,
)

from deconvviz.errors import DeconvvizError, OutputError
from deconvviz.files import write_text
from deconvviz.results import write_arrays

NUMBERS, MASKS = "birds.json", "birds-masks.npz"
EPOCHS, SCENES = 6, 2000
QUICK_SCENES, QUICK_SIZE = 64, 64


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network to segment birds, and look into it.")
    parser.add_argument("--out", type=Path, default=Path("birds"), help="folder for all files")
    parser.add_argument("--data", type=Path, help="folder with images/NAME.jpg and masks/NAME.png")
    parser.add_argument("--weights", type=Path, help="birds.safetensors of an earlier run; no training")
    parser.add_argument("--trunk", choices=sorted(LAYOUTS), default="minivgg", help="layout of the encoder")
    parser.add_argument(
        "--trunk-weights", default="default", help="weights of the encoder: default, random, or a file"
    )
    parser.add_argument("--size", type=int, help="side of the input in pixels (default: that of the trunk)")
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument("--scenes", type=int, help=f"number of training scenes (default: {SCENES})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="few scenes and epochs, to see that it runs")
    parser.add_argument("--force", action="store_true", help="overwrite the files of an earlier run")
    return parser.parse_args()


def pictures(given: argparse.Namespace, trunk: str) -> Split:
    layout = LAYOUTS[trunk]
    size = given.size or (QUICK_SIZE if given.quick else layout.size)
    layout.check(size)
    if given.data is not None:
        return photographs(given.data, size)
    return drawn(given.scenes or (QUICK_SCENES if given.quick else SCENES), size, quick=given.quick)


def trained(given: argparse.Namespace, split: Split) -> Path:
    """Train a network, and return the file of its weights."""
    torch.manual_seed(given.seed)
    epochs = given.epochs or (2 if given.quick else EPOCHS)
    plan = Plan(given.trunk, epochs, given.seed, batch=8 if given.quick else 16)
    train(fresh_network(given.trunk, given.trunk_weights), plan, split.training, split.validation, given.out)
    return given.out / WEIGHTS


def run(given: argparse.Namespace) -> None:
    if (given.out / NUMBERS).exists() and not given.force:
        raise OutputError(f"{given.out} has a result already: choose another --out, or give --force")
    torch.set_num_threads(given.threads)
    trunk = given.trunk if given.weights is None else load(given.weights)[1].trunk
    split = pictures(given, trunk)
    weights = given.weights or trained(given, split)
    network, home = load(weights)[0], weights.parent
    measured = home / TRAINING
    began = time.process_time()
    found = predicted(network, split.fresh.images)
    masks = {"masks": split.fresh.masks, "found": found, "names": np.array(split.fresh.names)}
    write_arrays(given.out / MASKS, masks, force=True)
    numbers: dict[str, Any] = {"fresh pictures": quality(split.fresh.masks, found), "training": None}
    if measured.exists():
        numbers["training"] = json.loads(measured.read_text("utf-8"))
        figures.training(numbers["training"], given.out)
    effort = Effort.quick() if given.quick else Effort()
    epochs = sorted((home / EPOCH_WEIGHTS).glob("epoch_*.safetensors"))
    numbers |= look_into(network, trunk, split.fresh, epochs, given.out, effort)
    numbers["processor seconds of the look into the network"] = time.process_time() - began
    write_text(given.out / NUMBERS, json.dumps(numbers, indent=2) + "\n", force=True)
    print("\n".join(sentences(numbers)))
    print(f"written: {given.out / NUMBERS}")


def quality(masks: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Return how well the found masks fit the true ones, both bool (N, H, W)."""
    both, shows = overlap(masks, found), masks.any((1, 2))
    each = (masks & found)[shows].sum((1, 2)) / (masks | found)[shows].sum((1, 2))
    return {
        "count": len(masks),
        "with object": int(shows.sum()),
        "mean IoU": both.mean,
        "IoU of the object": both.bird,
        "IoU of the background": both.background,
        "mean of the object's IoU in each picture": float(each.mean()),
        "pictures whose object has an IoU below 0.5": int((each < 0.5).sum()),
        "pictures without object in which 1 % of the pixels or more are found": int(
            (found[~shows].mean((1, 2)) >= 0.01).sum()
        ),
    }


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """Return the main numbers in words."""
    fresh, channels = numbers["fresh pictures"], numbers["channels"]
    seen, removed = numbers["projections"], numbers["deletion"]
    falls = channels["fall of the IoU without a channel"]
    lines = [
        f"mean IoU {fresh['mean IoU']:.3f} on {fresh['count']} pictures that training never saw (object "
        f"{fresh['IoU of the object']:.3f}, background {fresh['IoU of the background']:.3f}; pixels of all "
        "pictures together)",
        f"{falls['channels that cost 0.01 or more']} of {channels['count']} channels of {channels['layer']} "
        "cost 0.01 of the mean IoU or more if they are set to zero; most used: "
        + ", ".join(falls["most used"]),
    ]
    for place in PLACES:
        one = seen[place]
        lines.append(
            f"pixel {place}: {one['energy on the object (median)'][-1]:.0%} of the energy of its projection "
            f"is on the object, which has {seen['median area of the object']:.0%} of the area"
        )
    for order, share in removed["share that can be removed at 95 % of the IoU"].items():
        lines.append(f"{order}: {share:.0%} of the pixels can be removed at 95 % of the object's IoU")
    return lines


def main() -> int:
    try:
        run(options())
    except DeconvvizError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
