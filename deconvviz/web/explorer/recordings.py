"""Recordings that are kept for the next request, within a limit of memory."""

from __future__ import annotations

import ctypes
import math
import sys
from collections import OrderedDict
from contextlib import suppress
from typing import TypeAlias

from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.recording import Recording
from deconvviz.web.explorer.pictures import Shelf

BUDGET = 2**29
"""Bytes of activations that are kept."""

TOGETHER = 160 * 2**20
"""If the activations of all layers need at most this many bytes, all are recorded in one pass."""

_Key: TypeAlias = "tuple[int, int, str]"  # network, picture, and the module of a layer or "" for all layers


class Recordings:
    """The last recordings, least recently used first. One thread may use it."""

    def __init__(self, networks: list[Network], shelf: Shelf, budget: int = BUDGET) -> None:
        self._networks, self._shelf, self._budget = networks, shelf, budget
        self._kept: OrderedDict[_Key, Recording] = OrderedDict()
        self._sizes: dict[_Key, int] = {}

    @property
    def bytes(self) -> int:
        """Bytes of activations in memory."""
        return sum(self._sizes.values())

    def get(self, network: int, picture: int, layer: Layer) -> Recording:
        """Return a recording of a picture that has a layer, with class scores if the network has them."""
        net = self._networks[network]
        every = shown_layers(net)
        together = layer in every and bytes_of(every) <= TOGETHER
        layers = every if together else [layer]
        key = network, picture, "" if together else layer.module
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self._make_room(bytes_of(layers))
        recording = net.record(self._shelf[picture].open(), layers, scores=True)
        self._kept[key], self._sizes[key] = recording, bytes_of(layers)
        return recording

    def is_kept(self, network: int, picture: int, layer: Layer) -> bool:
        """Return whether `get` would not have to record."""
        return any((network, picture, name) in self._kept for name in ("", layer.module))

    def _make_room(self, needed: int) -> None:
        before = len(self._kept)
        while self._kept and self.bytes + needed > self._budget:
            self._sizes.pop(self._kept.popitem(last=False)[0])
        if len(self._kept) < before:
            _return_freed_memory()


def _return_freed_memory() -> None:
    """Return freed memory to the system where the C library keeps it.

    Without this, glibc keeps a growing part of the memory of dropped recordings, in pieces.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def shown_layers(net: Network) -> list[Layer]:
    """Return the layers whose units can be projected, without repeated outputs."""
    return [
        layer
        for layer in net.layers
        if not (layer.unsupported or layer.lacks_weights or layer.same_as or layer.is_constant)
        and layer.has_channels
    ]


def bytes_of(layers: list[Layer]) -> int:
    """Return the bytes of the activations of layers in single precision."""
    return sum(4 * math.prod(layer.shape) for layer in layers)
