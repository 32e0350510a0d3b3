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
from deconvviz.models.missing_weights import MissingWeights
from deconvviz.models.state_dict import not_finite, other_classes, outputs
from deconvviz.models.stored_tensors import is_usual
from deconvviz.models.tensor_selection import choose
from deconvviz.models.weights_file import check_weights_file, file_and_part
from deconvviz.printable_names import printable, printable_path
from deconvviz.wrappers import unwrapped

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
    missing: tuple[str, ...] = ()  # tensors of the network that the weights do not have

    def without(self, lacking: MissingWeights | None) -> WeightsInfo:
        """Return the same for weights that lack some tensors, with a note that says so."""
        if lacking is None:
            return self
        return replace(self, notes=(*self.notes, lacking.note), missing=lacking.names)

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


def _put_in(module: nn.Module, name: str, found: FoundWeights) -> WeightsInfo:
    place, shape = found.place or found.source, found.preprocessing.shape
    return _info(module, name, found, fit(module, found.state, network=name, source=place, shape=shape))


def _info(
    module: nn.Module, name: str, found: FoundWeights, lacking: MissingWeights | None = None
) -> WeightsInfo:
    named = found.classes if len(found.classes) == outputs(module) else ()
    info = WeightsInfo(name, found.spec, found.source, found.preprocessing, named, found.notes)
    return info.without(lacking)


def _find(
    networks: NamedNetworks, module: nn.Module, name: str, spec: Spec, *, progress: bool
) -> FoundWeights:
    asked = os.fspath(spec)
    if (found := networks.published(name, asked, progress=progress)) is not None:
        return found
    others = ", ".join(["default", *networks.weight_names(name), "random"])
    preprocessing, classes = networks.expected(name)
    given = weights_of_file(asked, module, f"weights of {name} by name: {others}", preprocessing.shape)
    return FoundWeights(asked, asked, given.state, preprocessing, classes, given.notes, given.place)


def weights_of_file(
    path: Spec, module: nn.Module, others: str, shape: tuple[int, int, int] | None = None
) -> FileWeights:
    """Read the weights in a file that fit a network, and notes on what else is there.

    `path` may be FILE#PART. If nothing fits whole, the weights of its lower layers will do, given the `shape`
    of the network's input. If they do not fit either, what comes closest is returned, and `fit` says what
    differs. Raises WeightsError, which names the `others` if there is no such file.
    """
    check_weights_file(path, others)
    file, part = file_and_part(os.fspath(path))
    stored, shown = read_stored(file), printable_path(file)
    choice = choose(stored, unwrapped(module), shown, part, shape)
    place = shown if is_usual(choice.prefix) else f"{shown}#{printable(choice.prefix.removesuffix('.'))}"
    refuse_odd(choice.state, place)
    if spoiled := not_finite(choice.state):
        more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
        raise WeightsError(
            f"{place} holds NaN or infinity in {printable(spoiled[0])}{more}: "
            "its training went wrong, or the file is damaged"
        )
    dtypes = {str(tensor.dtype)[6:] for tensor in choice.state.values() if tensor.is_floating_point()}
    kinds = sorted(dtypes - {"float32"})
    notes = [*choice.notes, *(f"some weights are {kind} in the file" for kind in kinds), stored.ignored]
    return FileWeights(choice.state, place, tuple(printable(note) for note in notes if note))


def _random(networks: NamedNetworks, name: str, seed: int, module: nn.Module) -> FoundWeights:
    state = module.state_dict()
    return FoundWeights("random", f"random, seed {seed}", state, *networks.expected(name))
