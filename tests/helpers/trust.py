"""Small networks, pictures with parts, and methods with known maps, for the tests of trust."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.units import Unit
from deconvviz.images.image import InputImage
from deconvviz.methods import method as registry
from deconvviz.methods.method import Method, Subject
from deconvviz.trust_measures.pictures import Picture
from deconvviz.trust_measures.place import Case, Place, place_in

SIDE = 12


class KnownMaps(Method):
    """A method whose maps are given by a function of the subject and a unit."""

    source = "a test"

    def __init__(
        self, name: str, map_of: Callable[[Subject, Unit], Tensor], *, signed: bool = False, reason: str = ""
    ) -> None:
        self.name, self.title, self.signed, self._map_of, self._reason = name, name, signed, map_of, reason

    def cost(self, units: int) -> str:
        return "nothing"

    def unsupported(self, subject: Subject) -> str:
        return self._reason

    def maps(
        self, subject: Subject, units: Sequence[Unit] | Tensor, report: registry.Report | None = None
    ) -> Tensor:
        assert not isinstance(units, Tensor)
        return torch.stack([self._map_of(subject, unit) for unit in units])


@contextmanager
def registered(*methods: Method) -> Iterator[list[str]]:
    """Register methods for a while and return their names."""
    for one in methods:
        registry.register(one)
    try:
        yield [one.name for one in methods]
    finally:
        for one in methods:
            del registry._registry._registered[one.name]


def network(module: nn.Module, side: int = SIDE) -> dv.Network:
    """Return a network whose prepared input is the pixel value minus 0.5."""
    return dv.Network(module.eval(), size=side, mean=(0.5,) * 3, std=(1.0,) * 3)


def convolutions(channels: int = 6, *, seed: int = 0, side: int = SIDE) -> dv.Network:
    """Return two convolutions, batch norm and a pool, with random weights."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, channels, 3, padding=1),
        nn.ReLU(),
    )
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(8))
            part.running_var.copy_(torch.rand(8) + 0.5)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return network(module, side)


def picture(seed: int = 0, side: int = SIDE, name: str = "noise") -> Picture:
    """Return a picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    return Picture(name, lambda: InputImage(pixels))


def place(net: dv.Network, layer: str, k: int = 4, *, of: Picture | None = None, seed: int = 0) -> Place:
    """Return the strongest place of a picture."""
    shown = picture() if of is None else of
    subject = Subject.record(net, shown.open(), net.layers.find(layer), ["deconvnet"])
    found = place_in(shown, 0, subject, k, seed, ["deconvnet"])
    assert isinstance(found, Place), found
    return found


def case(at: Place, maps: Tensor | np.ndarray, *, signed: bool = False, elsewhere: int = 0) -> Case:
    """Return a case with given maps (K, C, H, W) of the units and, after them, of units elsewhere."""
    method = KnownMaps("known", lambda subject, unit: torch.zeros(1), signed=signed)
    values = np.asarray(maps, np.float32)
    return Case(at, method, values[: len(values) - elsewhere], values[len(values) - elsewhere :])


@dataclass(frozen=True, eq=False)
class Blocks:
    """Picture with parts, as a `Scene`: coloured blocks on grey, each in one corner.

    `colours` maps the name of a part to the colour of its block.
    """

    colours: dict[str, tuple[int, int, int]]
    without: tuple[str, ...] = ()
    recolour: tuple[str, ...] = ()
    side: int = SIDE

    @property
    def parts(self) -> dict[str, np.ndarray]:
        found = {}
        half = self.side // 2
        for number, name in enumerate(self.colours):
            mask = np.zeros((self.side, self.side), bool)
            y, x = divmod(number, 2)
            mask[y * half + 1 : y * half + 5, x * half + 1 : x * half + 5] = True
            found[name] = mask
        return found

    @property
    def image(self) -> np.ndarray:
        pixels = np.full((self.side, self.side, 3), 128, np.uint8)
        for name, mask in self.parts.items():
            if name not in self.without:
                colour = self.colours[name]
                pixels[mask] = colour[::-1] if name in self.recolour else colour
        return pixels

    def redrawn(self, without: str | Collection[str] = (), recolour: str | Collection[str] = ()) -> Blocks:
        names = [(one,) if isinstance(one, str) else tuple(one) for one in (without, recolour)]
        return Blocks(self.colours, *names, self.side)

    def picture(self, name: str = "blocks") -> Picture:
        return Picture(name, lambda: InputImage(self.image), lambda: self)  # type: ignore[arg-type,return-value]
