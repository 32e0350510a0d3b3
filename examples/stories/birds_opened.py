"""A look into the network of `birds.py`: its channels, what its pixels depend on, what it does not need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

import deconvviz as dv
from deconvviz.models.minivgg import MEAN, STD
from deconvviz.network import Origin
from deconvviz.results import write_arrays
from stories import birds_figures as figures
from stories.birds_data import PicturesInMemory
from stories.birds_network import BIRD, DeconvolutionNetwork
from stories.birds_pixels import (
    INSIDE,
    PLACES,
    Views,
    deepest,
    deletion,
    seen_share,
    share_near,
    share_on,
    views,
    without_least,
)
from stories.birds_training import BATCH, load, masks_of, overlap, predicted
from stories.scene_data import Pictures, normalised
from stories.scene_figures import saved

REMOVED = (0.0, 0.25, 0.5, 0.75, 0.9)  # shares of pixels in the figure


@dataclass(frozen=True)
class Effort:
    """How much is measured and drawn."""

    silenced: int = 64  # pictures on which channels are silenced
    steps: int = 12  # of the removal of several channels
    searched: int = 240  # pictures for the top nine
    evolved: int = 60  # pictures for the evolution
    channels: int = 4  # shown channels
    measured: int = 50  # channels whose projections are compared in the evolution
    viewed: int = 40  # pictures with an object whose projections are measured
    deleted: int = 40  # pictures with an object whose pixels are removed
    imputed: int = 10
    shares: tuple[float, ...] = tuple(i / 10 for i in range(11))

    @classmethod
    def quick(cls) -> Effort:
        return cls(4, 3, 12, 8, 2, 4, 4, 4, 1, (0.0, 0.25, 0.5, 0.75, 1.0))


def opened(network: DeconvolutionNetwork, size: int, trunk: str, weights: str) -> dv.Network:
    """Return the network with its preprocessing, as deconvviz needs it."""
    origin = Origin(None, None, weights)
    return dv.Network(network, size=size, mean=MEAN, std=STD, name=f"birds ({trunk})", origin=origin)


def look_into(
    network: DeconvolutionNetwork,
    trunk: str,
    fresh: Pictures,
    epochs: Sequence[Path],
    out: Path,
    effort: Effort,
) -> dict[str, Any]:
    """Make all figures but that of the training, and return the numbers.

    Args:
        network: The trained network.
        trunk: Name of its layout.
        fresh: Pictures that training never saw.
        epochs: Weights of each epoch, the first before the training; may be empty.
        out: Folder for figures.
        effort: How much is measured and drawn.
    """
    size = fresh.images.shape[1]
    net = opened(network, size, trunk, "after the training")
    shows = np.flatnonzero(fresh.positive)
    figures.segmented(fresh, predicted(network, fresh.images), out)
    numbers: dict[str, Any] = {"channels": _channels(network, net, trunk, fresh, epochs, out, effort)}
    viewed = fresh.some(shows[: effort.viewed])
    numbers["projections"] = _projections(network, net, trunk, viewed, epochs, out)
    numbers["deletion"] = _deletion(network, net, fresh.some(shows[: effort.deleted]), out, effort)
    return numbers


def _channels(
    network: DeconvolutionNetwork,
    net: dv.Network,
    trunk: str,
    fresh: Pictures,
    epochs: Sequence[Path],
    out: Path,
    effort: Effort,
) -> dict[str, Any]:
    layer, size = network.top_layer, fresh.images.shape[1]
    losses = silenced(network, fresh.some(slice(effort.silenced)))
    ranked = np.argsort(-losses, kind="stable").tolist()
    used = ranked[: effort.channels]
    counts = [len(ranked) * step // effort.steps for step in range(effort.steps + 1)]
    others = fresh.some(slice(effort.silenced, 2 * effort.silenced))  # not those that ranked the channels
    others = others if len(others) else fresh
    together = {
        "most used first": silenced_together(network, others, ranked, counts),
        "least used first": silenced_together(network, others, ranked[::-1], counts),
    }
    figures.channels(layer, counts, together, out)
    source = PicturesInMemory(fresh)
    after = separation(network, layer, fresh)
    numbers: dict[str, Any] = {
        "layer": layer,
        "count": len(losses),
        "fall of the IoU without a channel": {
            "most used": {str(channel): float(losses[channel]) for channel in used},
            "median": float(np.median(losses)),
            "channels that cost 0.01 or more": int((losses >= 0.01).sum()),
        },
        "mean IoU without several channels": {"channels": counts, **together},
        "separation of pictures with and without object (median AUC)": {"after": _median(after)},
        "separation of the most used channels (AUC)": {"after": _plain(after[used])},
        "top nine that show the object (share, most used channels)": {},
    }
    states = {"after": net}
    if epochs:
        first = load(epochs[0])[0]
        before = separation(first, layer, fresh)
        numbers["separation of pictures with and without object (median AUC)"]["before"] = _median(before)
        numbers["separation of the most used channels (AUC)"]["before"] = _plain(before[used])
        states = {"before": opened(first, size, trunk, "before the training"), **states}
    for state, one in states.items():
        found = dv.search(one, source, layer, limit=effort.searched, workers=0)
        nine = found.topnine(layer, used, network=one)
        saved(nine.figure(), out / f"birds-channels-{state}.png")
        numbers["top nine that show the object (share, most used channels)"][state] = _positive_share(
            nine, fresh
        )
    if len(epochs) > 1:
        numbers["evolution"] = _evolution(net, layer, used, epochs, source, out, effort)
    return numbers


def _median(areas: np.ndarray) -> float | None:
    """Return a median; None if it is not known, because all pictures show the object or none does."""
    return None if np.isnan(areas).any() else float(np.median(areas))


def _plain(areas: np.ndarray) -> list[float] | None:
    return None if np.isnan(areas).any() else areas.tolist()


def _positive_share(nine: dv.TopNine, fresh: Pictures) -> float:
    """Return the share of the top-nine pictures of all shown channels that show the object."""
    shows = dict(zip(fresh.names, fresh.positive, strict=True))
    peaks = [one.peak for channels in nine.shown.values() for shown in channels.values() for one in shown]
    return float(np.mean([shows[Path(peak.image_id).stem] for peak in peaks]))


def _evolution(
    net: dv.Network,
    layer: str,
    used: list[int],
    epochs: Sequence[Path],
    source: PicturesInMemory,
    out: Path,
    effort: Effort,
) -> dict[str, Any]:
    decoder = f"deconv{layer.removeprefix('relu')}"
    other = dv.search(net, source, decoder, limit=effort.evolved, workers=0).choose(decoder, 2)
    one = dv.evolution(
        net,
        list(epochs),
        source,
        [layer, decoder],
        channels={layer: used[:2], decoder: other},
        measured=effort.measured,
        limit=effort.evolved,
        workers=0,
    )
    saved(one.figure(), out / "birds-evolution.png")
    return {"settled": one.settled, "median correlation with the final projections": one.medians}


@torch.no_grad()
def silenced(network: DeconvolutionNetwork, pictures: Pictures) -> np.ndarray:
    """Return how much the mean IoU falls if a channel of the last layer of the encoder is zero: (C,)."""
    x, switches = network.eval().encode(normalised(pictures.images))
    complete = overlap(pictures.masks, _masks(network.decode(x, switches))).mean
    falls = np.empty(x.shape[1])
    for channel in range(len(falls)):
        less = x.clone()
        less[:, channel] = 0
        falls[channel] = complete - overlap(pictures.masks, _masks(network.decode(less, switches))).mean
    return falls


@torch.no_grad()
def silenced_together(
    network: DeconvolutionNetwork, pictures: Pictures, order: Sequence[int], counts: Sequence[int]
) -> list[float]:
    """Return the mean IoU if the first channels of an order are zero, for several numbers of channels."""
    x, switches = network.eval().encode(normalised(pictures.images))
    found = []
    for count in counts:
        less = x.clone()
        less[:, list(order[:count])] = 0
        found.append(overlap(pictures.masks, _masks(network.decode(less, switches))).mean)
    return found


def _masks(scores: Tensor) -> np.ndarray:
    return (scores.argmax(1) == BIRD).numpy()


@torch.no_grad()
def separation(network: DeconvolutionNetwork, layer: str, pictures: Pictures) -> np.ndarray:
    """Return how well the peak of each channel tells pictures with the object from others: AUC, (C,).

    0.5 means not at all, 1 that the peak is larger in every picture with the object, 0 that it is smaller.
    """
    peaks: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: peaks.append(output.amax((2, 3)))
    )
    try:
        for start in range(0, len(pictures), BATCH):
            network.eval()(normalised(pictures.images[start : start + BATCH]))
    finally:
        hook.remove()
    values, shows = torch.cat(peaks).numpy(), pictures.positive
    with_object, without = int(shows.sum()), int((~shows).sum())
    if not with_object or not without:
        return np.full(values.shape[1], np.nan)
    ranks = rankdata(values, axis=0)[shows].sum(0)
    areas: np.ndarray = (ranks - with_object * (with_object + 1) / 2) / (with_object * without)
    return areas


def _projections(
    network: DeconvolutionNetwork,
    net: dv.Network,
    trunk: str,
    pictures: Pictures,
    epochs: Sequence[Path],
    out: Path,
) -> dict[str, Any]:
    """Project one output pixel inside and one outside the object, with the weights of each epoch."""
    inputs, size = normalised(pictures.images), pictures.images.shape[1]
    places = deepest(pictures.masks)
    labels = [f"epoch {int(path.stem.removeprefix('epoch_'))}" for path in epochs] or ["trained"]
    states = [opened(load(path)[0], size, trunk, label) for path, label in zip(epochs, labels, strict=False)]
    all_views = [views(one, inputs, places) for one in states or [net]]
    areas = pictures.masks.mean((1, 2))
    numbers: dict[str, Any] = {
        "pictures": len(pictures),
        "median area of the object": float(np.median(areas)),
        "states": labels,
    }
    for place in PLACES:
        numbers[place] = {
            "energy on the object (median)": [
                float(np.nanmedian(share_on(one.energies(place), pictures.masks))) for one in all_views
            ],
            "pixels with 95 % of the energy (median share)": [
                float(np.median(seen_share(one.energies(place)))) for one in all_views
            ],
            "as many pixels around it: share on the object (median)": [
                float(np.median(share_near(one.energies(place), pictures.masks, places[place])))
                for one in all_views
            ],
        }
    figures.projections(pictures, labels, all_views, numbers, out)
    _save_arrays(all_views[-1], pictures, out)
    return numbers


def _save_arrays(last: Views, pictures: Pictures, out: Path) -> None:
    numbers = {"masks": pictures.masks}
    for place in PLACES:
        key = "inside" if place == INSIDE else "outside"
        numbers[f"{key}_energy"], numbers[f"{key}_pixel"] = last.energies(place), last.places[place]
    write_arrays(out / "birds-projections.npz", numbers, force=True)


def _deletion(
    network: DeconvolutionNetwork, net: dv.Network, pictures: Pictures, out: Path, effort: Effort
) -> dict[str, Any]:
    removed, ranks = deletion(network, net, pictures, effort.shares, effort.imputed)
    shown = pictures.some(slice(1))
    left = {share: without_least(normalised(shown.images), ranks[:1], share) for share in REMOVED}
    masks = {share: masks_of(network, inputs) for share, inputs in left.items()}
    figures.deletion(shown, left, masks, removed, net, out)
    return {
        "pictures": len(pictures),
        "pictures with imputed pixels": min(effort.imputed, len(pictures)),
        "share of removed pixels": list(effort.shares),
        "IoU of the object": {order: values.tolist() for order, values in removed.iou.items()},
        "share that can be removed at 95 % of the IoU": {
            order: removed.spare(order) for order in removed.iou
        },
    }
