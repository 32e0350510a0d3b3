"""`dv.filters`: the filters of the first layer and projections of the second, as in Figure 6 of the paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from torch import nn

from deconvviz.errors import LayerError, NetworkError
from deconvviz.experiments.filters_bank import Bank
from deconvviz.experiments.filters_measures import measure
from deconvviz.experiments.filters_result import Filters
from deconvviz.experiments.filters_second import Seen, see
from deconvviz.image_sources import Source, open_source
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network
from deconvviz.projection import as_numpy

Report: TypeAlias = Callable[[int, int], None]

COUNT = 16
"""Number of channels of the second layer that are projected (ours)."""
IMAGES = (1, 3)
"""Numbers of input channels of filters that can be shown as images."""


def filters(
    net: Network,
    layer: str | Layer | None = None,
    *,
    against: Network | str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | Source | None = None,
    limit: int | None = None,
    second: str | Layer | None = None,
    count: int = COUNT,
    by_size: bool = False,
    seed: int = 0,
    report: Report | None = None,
) -> Filters:
    """Show the filters of a convolution that reads images, and measure what the paper's Figure 6 shows.

    For each filter: its root mean square (RMS), the shares of its energy by frequency, orientation and
    colour, the share above the Nyquist frequency of the stride, and the most similar other filter. The paper
    names dead, dominant and aliased filters but gives no numbers; those that are used here are ours: a filter
    is dead if its RMS is below 1 % of the median, dominant above 5 times the median, aliased if more than
    half of its energy is above the Nyquist frequency, and a double if its correlation with another one is
    above 0.95.

    With a source of images, also: filters that are never above zero, which a small filter need not be, and
    projections of the next convolution, one for each of some random channels. In them, aliasing is visible
    as a pattern with the frequency of the stride.

    Args:
        net: The network.
        layer: A convolution that reads 1 or 3 channels. Default: the first one.
        against: A second network, or a weights file for the same network (for example another checkpoint).
        source: A source of images for projections, as for `search`.
        limit: Number of images of the source, the first ones.
        second: The layer that is projected. Default: the next convolution.
        count: Number of channels of this layer, chosen at random.
        by_size: Show the filters by descending RMS, instead of by number.
        seed: Seed for choosing channels.
        report: Called with the number of finished and of all images.

    Returns:
        The filters and measures of one or two networks.

    Raises:
        LayerError: If the layer does not exist, or is not a convolution that reads 1 or 3 channels.
        NetworkError: If weights have no values or are not finite, or `against` is a file and the network was
            not made by `load`.
        SourceError: If the source cannot be opened.

    Example:
        >>> found = dv.filters(dv.load("minivgg"))
        >>> found.table.num_rows
        16
    """
    networks = [net] if against is None else [net, _other(net, against)]
    opened = None if source is None else open_source(source, limit=limit)
    banks = []
    for number, one in enumerate(networks):
        found = _first(one, layer)
        bank = _bank(one, found)
        if opened is not None:
            step = None if report is None else _step(report, number, len(networks), len(opened))
            after = _second(one, found, second)
            bank = replace(bank, second=after, seen=_see(one, found, after, opened, count, seed, step))
        banks.append(bank)
    arguments = {
        "layer": None if layer is None else banks[0].layer.name,
        "second": None if second is None or banks[0].second is None else banks[0].second.name,
        "count": count,
        "by_size": by_size,
        "seed": seed,
    }
    described = None if opened is None else opened.describe()
    place = "" if opened is None else opened.place
    return Filters(tuple(banks), by_size, seed, place, described, arguments)


def _step(report: Report, number: int, networks: int, images: int) -> Report:
    return lambda done, total: report(number * images + done, networks * images)


def _other(net: Network, against: Network | str | os.PathLike[str]) -> Network:
    if isinstance(against, Network):
        return against
    if net.origin.model is None:
        raise NetworkError(
            f"{net.name} was made in Python, so {Path(against).name} cannot be loaded into it: give a Network"
        )
    request = ModelRequest(net.origin.model, os.fspath(against), net.origin.seed or 0, str(net.device))
    return request.load()


def _convolutions(net: Network) -> list[tuple[Layer, nn.Conv2d]]:
    """Return all 2-d convolutions in the order of the forward pass."""
    parts = dict(net.module.named_modules())
    found = []
    for layer in net.layers:
        part = parts.get(layer.module.partition(":")[0])
        if isinstance(part, nn.Conv2d) and not layer.same_as and not layer.lacks_weights:
            found.append((layer, part))
    return found


def _first(net: Network, asked: str | Layer | None) -> Layer:
    """Return a convolution whose filters can be shown as images."""
    convolutions = _convolutions(net)
    readable = [layer.name for layer, part in convolutions if part.weight.shape[1] in IMAGES]
    if asked is None:
        if not readable:
            raise LayerError(f"{net.name} has no convolution that reads 1 or 3 channels")
        return net.layers.find(readable[0])
    layer = net.layers.find(asked)
    if layer.name not in readable:
        there = ", ".join(readable[:4]) or "no such layer"
        reads = next((part.weight.shape[1] for one, part in convolutions if one == layer), None)
        what = f"reads {reads} channels" if reads else "is not a 2-d convolution"
        raise LayerError(
            f"{layer.name} of {net.name} {what}: filters are shown of convolutions that read 1 or 3 "
            f"channels, and there is {there}"
        )
    return layer


def _second(net: Network, first: Layer, asked: str | Layer | None) -> Layer:
    """Return the layer that is projected."""
    if asked is not None:
        layer = net.layers.find(asked)
        if len(layer.shape) != 3:
            raise LayerError(f"{layer.name} of {net.name} has no positions, so it cannot show aliasing")
        return layer
    names = [layer.name for layer, _ in _convolutions(net)]
    after = names[names.index(first.name) + 1 :]
    if not after:
        raise LayerError(f"{net.name} has no convolution after {first.name}. Name a layer: second=NAME")
    return net.layers.find(after[0])


def _see(
    net: Network, first: Layer, second: Layer, source: Source, count: int, seed: int, report: Report | None
) -> Seen:
    random = np.random.default_rng(seed)
    channels = second.shape[0]
    chosen = np.sort(random.permutation(channels)[: min(count, channels)])
    return see(net, first, second, chosen.tolist(), source, report)


def _bank(net: Network, layer: Layer) -> Bank:
    part = net.module.get_submodule(layer.module.partition(":")[0])
    assert isinstance(part, nn.Conv2d)
    if part.weight.is_meta or isinstance(part.weight, nn.parameter.UninitializedParameter):
        raise NetworkError(f"the weights of {net.name} have no values: load them first")
    weights = as_numpy(part.weight)
    if bad := int((~np.isfinite(weights)).any((1, 2, 3)).sum()):
        raise NetworkError(
            f"{bad} of {len(weights)} filters of {layer.name} have NaN or infinite weights "
            f"({net.origin.short})"
        )
    stride = (int(part.stride[0]), int(part.stride[1]))
    return Bank(net.info(), layer, weights, stride, measure(weights, stride))
