"""Which weights a network has: published ones, random ones, or those in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.checkpoints import read_stored, refuse_odd
from deconvviz.models.fit import fit
from deconvviz.models.state_dict import not_finite, other_classes, outputs
from deconvviz.models.stored_tensors import is_usual
from deconvviz.models.tensor_selection import choose
from deconvviz.paths import missing

Spec = str | os.PathLike[str]


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights of a network come from, and what belongs to them.

    `spec` loads the same again; `source` describes it in words; `classes` is empty where outputs have no
    names.
    """

    network: str
    spec: str
    source: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"WeightsInfo({self.network}, {self.source}, {len(self.classes)} classes)"


@dataclass(frozen=True)
class FoundWeights:
    """Weights that were found, before it is known whether they fit."""

    spec: str
    source: str
    state: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    place: str | None = None  # named in messages about what does not fit; None: the source


@dataclass(frozen=True)
class FileWeights:
    """The weights in a file for one network."""

    state: dict[str, Tensor]
    place: str  # the file, and the part of it if there is more than one: file.pth#teacher
    notes: tuple[str, ...]


class NamedNetworks(Protocol):
    """Networks that are known by a name, and the weights that are published for each."""

    def build(
        self, name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu"
    ) -> nn.Module:
        """Return the network with random weights; see `initialization.build`. Raises NetworkError."""

    def published(self, name: str, weights: str, *, progress: bool) -> FoundWeights | None:
        """Return published weights by their name, downloaded if need be; None for any other name."""

    def weight_names(self, name: str) -> Sequence[str]:
        """Return the names of the published weights."""

    def expected(self, name: str) -> tuple[Preprocessing, tuple[str, ...]]:
        """Return the preprocessing and the class names that belong to the default weights."""


def load_network(
    networks: NamedNetworks, name: str, spec: Spec = "default", *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, WeightsInfo]:
    """Return a named network in evaluation mode with its weights.

    `spec`: the name of published weights ("default", or for torchvision's networks also others, such as
    IMAGENET1K_V2), "random", or a file: .pth, .pt, .safetensors. FILE#PART takes one of several networks in a
    file, such as file.pth#teacher. The number of classes is that of the file. Raises NetworkError,
    WeightsError and DownloadError.
    """
    if spec == "random":
        module = networks.build(name, seed=seed)
        return module, _info(module, name, _random(networks, name, seed, module))
    module = networks.build(name, seed=None)
    found = _find(networks, module, name, spec, progress=progress)
    if (count := other_classes(found.state, module)) is not None:
        module = networks.build(name, seed=None, classes=count)
        found = replace(found, notes=(*found.notes, f"{count} classes, as the weights have"))
    return module, _put_in(module, name, found)


def load_weights(
    networks: NamedNetworks,
    module: nn.Module,
    name: str,
    spec: Spec = "default",
    *,
    seed: int = 0,
    progress: bool = True,
) -> WeightsInfo:
    """Fill a module that `networks.build` made; after an error it is as it was. See `load_network`."""
    if spec == "random":
        drawn = networks.build(name, seed=seed, classes=outputs(module))
        return _put_in(module, name, _random(networks, name, seed, drawn))
    return _put_in(module, name, _find(networks, module, name, spec, progress=progress))


def _put_in(module: nn.Module, name: str, found: FoundWeights) -> WeightsInfo:
    fit(module, found.state, network=name, source=found.place or found.source)
    return _info(module, name, found)


def _info(module: nn.Module, name: str, found: FoundWeights) -> WeightsInfo:
    named = found.classes if len(found.classes) == outputs(module) else ()
    return WeightsInfo(name, found.spec, found.source, found.preprocessing, named, found.notes)


def _find(
    networks: NamedNetworks, module: nn.Module, name: str, spec: Spec, *, progress: bool
) -> FoundWeights:
    asked = os.fspath(spec)
    if (found := networks.published(name, asked, progress=progress)) is not None:
        return found
    others = ", ".join(["default", *networks.weight_names(name), "random"])
    given = weights_of_file(asked, module, f"weights of {name} by name: {others}")
    return FoundWeights(asked, asked, given.state, *networks.expected(name), given.notes, given.place)


def weights_of_file(path: Spec, module: nn.Module, others: str) -> FileWeights:
    """Read the weights in a file that fit a network, and notes on what else is there.

    `path` may be FILE#PART. Where nothing fits, what comes closest is returned, and `fit` says what differs.
    Raises WeightsError, which names the `others` if there is no such file.
    """
    file, part = _file_and_part(os.fspath(path))
    if not os.path.exists(file):
        raise WeightsError(f"{missing(file, 'weights file')} ({others})")
    choice = choose(read_stored(file), module, file, part)
    place = file if is_usual(choice.prefix) else f"{file}#{choice.prefix.removesuffix('.')}"
    refuse_odd(choice.state, place)
    if spoiled := not_finite(choice.state):
        more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
        raise WeightsError(
            f"{place} holds NaN or infinity in {spoiled[0]}{more}: its training went wrong, or the file"
        )
    dtypes = {str(tensor.dtype)[6:] for tensor in choice.state.values() if tensor.is_floating_point()}
    kinds = sorted(dtypes - {"float32"})
    return FileWeights(
        choice.state, place, (*choice.notes, *(f"some weights are {kind} in the file" for kind in kinds))
    )


def _file_and_part(asked: str) -> tuple[str, str]:
    """Split FILE#PART; a file whose own name contains a # is taken whole."""
    file, _, part = asked.rpartition("#")
    return (file, part) if part and os.path.exists(file) and not os.path.exists(asked) else (asked, "")


def _random(networks: NamedNetworks, name: str, seed: int, module: nn.Module) -> FoundWeights:
    state = module.state_dict()
    return FoundWeights("random", f"random, seed {seed}", state, *networks.expected(name))
