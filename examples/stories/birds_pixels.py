"""What a pixel of the mask depends on, and which pixels of a picture the mask does not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import deconvviz as dv
from deconvviz.experiments.inpainting import imputed
from stories.birds_network import BACKGROUND, BIRD, DeconvolutionNetwork
from stories.birds_training import BATCH, masks_of, overlap
from stories.scene_data import Pictures, normalised

INSIDE, OUTSIDE = "inside the object", "outside the object"
PLACES = {INSIDE: BIRD, OUTSIDE: BACKGROUND}  # the channel of the score that is projected
MOST = 0.95  # share of the energy of a projection that its "seen" pixels contain
KEPT = 0.95  # share of the IoU of complete pictures below which too many pixels are removed


@dataclass(frozen=True, eq=False)
class Views:
    """Projections of one output pixel inside and one outside the object of each of N pictures.

    Attributes:
        places: Row and column of the output pixels, by `PLACES`: (N, 2).
        projections: By `PLACES`: (N, 3, H, W), signed, in preprocessed values.
    """

    places: Mapping[str, np.ndarray]
    projections: Mapping[str, np.ndarray]

    def energies(self, place: str) -> np.ndarray:
        """Return the energy of each pixel, the sum of squares over the colours: (N, H, W)."""
        squares: np.ndarray = np.square(self.projections[place].astype(np.float64)).sum(1)
        return squares


def deepest(masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pixel farthest from the border of each mask, inside and outside of it."""
    return {
        INSIDE: np.stack([_farthest(mask) for mask in masks]),
        OUTSIDE: np.stack([_farthest(~mask) for mask in masks]),
    }


def _farthest(mask: np.ndarray) -> np.ndarray:
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.array(np.unravel_index(int(depth.argmax()), mask.shape))


def views(net: dv.Network, inputs: Tensor, places: Mapping[str, np.ndarray]) -> Views:
    """Project the score of output pixels through decoder and encoder to the picture.

    The signal is 1 at the pixel and not the score, so that networks can be compared: the score of an
    untrained network may be negative.
    """
    rec = net.record(inputs, "score")
    projections = {}
    for place, channel in PLACES.items():
        signal = torch.zeros_like(rec.activations("score"))
        rows, columns = places[place].T
        signal[torch.arange(len(signal)), channel, torch.from_numpy(rows), torch.from_numpy(columns)] = 1
        projections[place] = rec.project("score", signal).pixels.numpy()
    return Views(places, projections)


def share_on(energy: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the energy (N, H, W) that is on the masks (N, H, W); NaN for a zero projection."""
    total = energy.sum((1, 2))
    on = (energy * masks).sum((1, 2))
    return np.where(total > 0, on / np.where(total > 0, total, 1), np.nan)


def seen_share(energy: np.ndarray) -> np.ndarray:
    """Return the smallest share of the pixels that contains 95 % of the energy, for each of (N, H, W)."""
    ordered = -np.sort(-energy.reshape(len(energy), -1), axis=1)
    reached = np.cumsum(ordered, axis=1) < MOST * ordered.sum(1, keepdims=True)
    return (reached.sum(1) + 1) / ordered.shape[1]


def share_near(energy: np.ndarray, masks: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the share on the masks of the pixels nearest to the output pixels: (N,).

    There are as many nearest pixels as pixels with 95 % of the energy. It is the share that a map has which
    knows the place of the output pixel and nothing else.
    """
    counts = np.round(seen_share(energy) * masks[0].size).astype(int)
    rows, columns = np.indices(masks.shape[1:])
    shares = []
    for mask, (y, x), count in zip(masks, places, counts, strict=True):
        distance = np.square(rows - y) + np.square(columns - x)
        shares.append(mask.ravel()[np.argsort(distance.ravel(), kind="stable")[:count]].mean())
    return np.array(shares)


def importance(net: dv.Network, inputs: Tensor, masks: np.ndarray, method: str) -> np.ndarray:
    """Return how much each pixel matters to the score of the found masks: (N, H, W), sum over colours.

    The signal is 1 at the object's score of every pixel of the found mask.
    """
    rec = net.record(inputs, "score", methods=() if method == "deconvnet" else method)
    signal = torch.zeros_like(rec.activations("score"))
    signal[:, BIRD] = torch.from_numpy(masks).to(signal)
    return rec.project("score", signal, method=method).pixels.abs().sum(1).numpy()


@dataclass(frozen=True, eq=False)
class Deletion:
    """IoU of the object after pixels are removed, by order of removal: one number for each share."""

    shares: np.ndarray  # of the pixels that are removed
    iou: Mapping[str, np.ndarray]

    def spare(self, order: str) -> float:
        """Return the largest share up to which the IoU stays at 95 % of that of complete pictures or more."""
        low = self.iou[order] < KEPT * self.iou[order][0]
        return float(self.shares[int(low.argmax()) - 1] if low.any() else self.shares[-1])


PROJECTION, GRADIENT = "least projection first", "least gradient first"
MOST_FIRST, RANDOM, FAR = "most projection first", "random order", "farthest from the object first"
IMPUTED = "least projection first, imputed"


def deletion(
    network: DeconvolutionNetwork, net: dv.Network, pictures: Pictures, shares: Sequence[float], few: int
) -> tuple[Deletion, np.ndarray]:
    """Remove pixels in several orders, and measure the IoU of the object.

    A removed pixel gets the mean colour of the preprocessing. With `IMPUTED`, it is computed from the pixels
    around it instead (`few` pictures only, because this is slow); the mean colour is not a natural
    surrounding, and its edges are features too.

    Returns:
        The curves, and the rank of each pixel in the order of the projection, (N, H, W), 0 first.
    """
    inputs = normalised(pictures.images)
    masks = _in_parts(network, inputs)
    projected = importance(net, inputs, masks, "deconvnet")
    dice = np.random.default_rng(0)
    orders = {
        PROJECTION: projected,
        MOST_FIRST: -projected,
        GRADIENT: importance(net, inputs, masks, "gradient"),
        RANDOM: dice.random(masks.shape),
        FAR: np.stack([-distance_transform_edt(~mask) for mask in pictures.masks]),
    }
    ranks = {name: _ranks(values, dice) for name, values in orders.items()}
    iou = {name: _curve(network, inputs, pictures.masks, rank, shares, _grey) for name, rank in ranks.items()}
    some = ranks[PROJECTION][:few]
    iou[IMPUTED] = _curve(network, inputs[:few], pictures.masks[:few], some, shares, _imputed)
    return Deletion(np.asarray(shares), iou), ranks[PROJECTION]


def _ranks(values: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Return the rank of each pixel in its picture, from 0. Equal values are in random order."""
    flat = values.reshape(len(values), -1)
    order = np.lexsort((dice.random(flat.shape), flat), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(values.shape)


def _curve(network, inputs, masks, ranks, shares, fill) -> np.ndarray:
    count = masks[0].size
    return np.array(
        [
            overlap(masks, _in_parts(network, fill(inputs, ranks < round(share * count)))).bird
            for share in shares
        ]
    )


def _grey(inputs: Tensor, removed: np.ndarray) -> Tensor:
    return inputs.masked_fill(torch.from_numpy(removed)[:, None], 0.0)


def _imputed(inputs: Tensor, removed: np.ndarray) -> Tensor:
    images = inputs.double().numpy()
    filled = [
        np.zeros_like(image) if mask.all() else imputed(image, mask)
        for image, mask in zip(images, removed, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).float()


def without_least(inputs: Tensor, ranks: np.ndarray, share: float) -> Tensor:
    """Return prepared images without the share of pixels that the projection calls least important."""
    return _grey(inputs, ranks < round(share * ranks[0].size))


def _in_parts(network: DeconvolutionNetwork, inputs: Tensor) -> np.ndarray:
    return np.concatenate([masks_of(network, part) for part in inputs.split(BATCH)])
