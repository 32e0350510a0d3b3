"""Projections of a second layer, which show aliasing of the first one (Figure 6, d and e)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.errors import ImageError
from deconvviz.image_sources import Source
from deconvviz.layers import Layer
from deconvviz.methods.forward import Forward, batch_size
from deconvviz.network import Network
from deconvviz.projection import Box

Report = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network does with the images of a source.

    Attributes:
        silent: Filters of the first layer that are never above zero, (F,).
        channels: Channels of the second layer.
        images: For each channel, the image of its strongest activation.
        activations: These activations, (K,).
        projections: Their projections in pixel values, (h, w, 3) each, of the size of the receptive field.
        pixels: The same in the network's input, (C, h, w) each.
        skipped: Images that cannot be read, with the reason.
    """

    silent: npt.NDArray[np.bool_]
    channels: tuple[int, ...]
    images: tuple[str, ...]
    activations: npt.NDArray[np.float64]
    projections: tuple[npt.NDArray[Any], ...]
    pixels: tuple[npt.NDArray[Any], ...]
    skipped: tuple[tuple[str, str], ...] = ()


def see(
    net: Network,
    first: Layer,
    second: Layer,
    channels: Sequence[int],
    source: Source,
    report: Report | None = None,
) -> Seen:
    """Find the strongest image of some channels of the second layer, and project it.

    Images are read and run in batches.

    Raises:
        ImageError: If no image can be read.
    """
    chosen = list(channels)

    def peaks(output: Tensor) -> Tensor:
        return output[:, chosen].flatten(2).amax(2).cpu()

    def highest(output: Tensor) -> Tensor:
        return output.detach().flatten(2).amax(2).amax(0).cpu()

    run = Forward(net, {first: highest, second: peaks})
    best = torch.full((len(chosen),), -torch.inf, dtype=torch.float64)
    where = torch.zeros(len(chosen), dtype=torch.long)
    tops = torch.full((first.shape[0],), -torch.inf)
    skipped: list[tuple[str, str]] = []
    size = batch_size(net)
    for start in range(0, len(source), size):
        numbers, inputs = _batch(net, source, range(start, min(start + size, len(source))), skipped)
        if numbers:
            found = run(inputs)
            tops = torch.maximum(tops, found[first].float())
            values, at = found[second].double().max(0)
            better = values > best
            best = torch.where(better, values, best)
            where = torch.where(better, torch.tensor(numbers)[at], where)
        if report is not None:
            report(min(start + size, len(source)), len(source))
    if len(skipped) == len(source):
        raise ImageError(f"no image of {source.place} can be read. {skipped[0][0]}: {skipped[0][1]}")
    shown, pixels = [], []
    for channel, number in zip(chosen, where.tolist(), strict=True):
        colours, raw = _projected(net, second, channel, source, number)
        shown.append(colours)
        pixels.append(raw)
    return Seen(
        silent=(tops <= 0).numpy(),
        channels=tuple(chosen),
        images=tuple(source.names[number] for number in where.tolist()),
        activations=best.numpy(),
        projections=tuple(shown),
        pixels=tuple(pixels),
        skipped=tuple(skipped),
    )


def _batch(
    net: Network, source: Source, numbers: Sequence[int], skipped: list[tuple[str, str]]
) -> tuple[list[int], Tensor]:
    kept, inputs = [], []
    for number in numbers:
        try:
            image = source.image(number)
            inputs.append(net.preprocessing.apply(image.rgb, image.reduced))
            kept.append(number)
        except ImageError as reason:
            skipped.append((source.names[number], str(reason)))
    return kept, torch.stack(inputs) if inputs else torch.empty(0)


def _projected(
    net: Network, layer: Layer, channel: int, source: Source, number: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the projection of the strongest unit in its receptive field; outside the image, it is zero."""
    recording = net.record(source.image(number), layer)
    projection = recording.project(layer, recording.strongest(layer, 1, channel))
    unit, size = projection.units[0], recording.inputs.shape[-2:]
    field = None if unit.y is None or unit.x is None else layer.field_of(unit.y, unit.x)
    box = projection.boxes[0] if field is None else tuple(round(edge) for edge in field)
    x0, y0, x1, y1 = box
    cut: Box = (max(x0, 0), max(y0, 0), min(x1, size[1]), min(y1, size[0]))
    raw = np.zeros((projection.pixels.shape[1], y1 - y0, x1 - x0), np.float32)
    inside = (slice(cut[1] - y0, cut[3] - y0), slice(cut[0] - x0, cut[2] - x0))
    raw[:, inside[0], inside[1]] = (
        projection.pixels[0, :, cut[1] : cut[3], cut[0] : cut[2]].cpu().float().numpy()
    )
    colours = np.zeros((*raw.shape[1:], 3), np.float32)
    colours[inside] = projection.crop_at(0, cut)
    return colours, raw
