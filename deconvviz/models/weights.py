"""Load networks with published weights, random weights or the weights in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from deconvviz.engine.wrappers import unwrapped
from deconvviz.errors import WeightsError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.checkpoints import check_usable, read_stored
from deconvviz.models.fit import fit
from deconvviz.models.missing_weights import MissingWeights
from deconvviz.models.state_dict import not_finite, other_classes, outputs
from deconvviz.models.stored_tensors import is_usual
from deconvviz.models.tensor_selection import choose
from deconvviz.models.weights_file import check_weights_file, file_and_part
from deconvviz.printable_names import printable, printable_path

Spec = str | os.PathLike[str]


@dataclass(frozen=True)
class WeightsInfo:
    """Origin of the weights of a network, with the preprocessing and class names that belong to them.

    `spec` loads the same weights again; `source` describes them in words; `classes` is empty if the outputs
    have no names.
    """

    network: str
    spec: str
    source: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # tensors of the network that the weights do not have

    def without(self, lacking: MissingWeights | None) -> WeightsInfo:
        """Return a copy for weights that lack some tensors, with a note about them."""
        if lacking is None:
            return self
        return replace(self, notes=(*self.notes, lacking.note), missing=lacking.names)

    def __repr__(self) -> str:
        return f"WeightsInfo({self.network}, {self.source}, {len(self.classes)} classes)"


@dataclass(frozen=True)
class FoundWeights:
    """Weights before they are checked against the network."""

    spec: str
    source: str
    state: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    place: str | None = None  # the name of the weights in error messages; None: `source`


@dataclass(frozen=True)
class FileWeights:
    """Weights of one network, read from a file."""

    state: dict[str, Tensor]
    place: str  # the file, with the part if it has several: file.pth#teacher
    notes: tuple[str, ...]


class NamedNetworks(Protocol):
    """Protocol of networks that are known by name and have published weights."""

    def build(
        self, name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu"
    ) -> nn.Module:
        """Return the network with random weights; see `initialization.build`. Raises NetworkError."""

    def published(self, name: str, weights: str, *, progress: bool) -> FoundWeights | None:
        """Return published weights by their name, downloaded if necessary; None for any other name."""

    def weight_names(self, name: str) -> Sequence[str]:
        """Return the names of the published weights."""

    def expected(self, name: str) -> tuple[Preprocessing, tuple[str, ...]]:
        """Return the preprocessing and the class names that belong to the default weights."""


def load_network(
    networks: NamedNetworks, name: str, spec: Spec = "default", *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, WeightsInfo]:
    """Return a named network in evaluation mode with its weights.

    `spec`: the name of published weights ("default", or for torchvision's networks also others, such as
    IMAGENET1K_V2), "random", or a file: .pth, .pt, .safetensors. FILE#PART selects one of several networks in
    a file, such as file.pth#teacher. The network has as many classes as the weights. Raises NetworkError,
    WeightsError and DownloadError.
    """
    if spec == "random":
        module = networks.build(name, seed=seed)
        return module, _info(module, name, _random(networks, name, seed, module))
    module = networks.build(name, seed=None)
    found = _find(networks, module, name, spec, progress=progress)
    if (count := other_classes(found.state, module)) is not None:
        module = networks.build(name, seed=None, classes=count)
        found = replace(found, notes=(*found.notes, f"{count} classes, as in the weights"))
    return module, _fitted(module, name, found)


def _fitted(module: nn.Module, name: str, found: FoundWeights) -> WeightsInfo:
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
    requested = os.fspath(spec)
    if (found := networks.published(name, requested, progress=progress)) is not None:
        return found
    others = ", ".join(["default", *networks.weight_names(name), "random"])
    preprocessing, classes = networks.expected(name)
    given = weights_of_file(requested, module, f"named weights of {name}: {others}", preprocessing.shape)
    return FoundWeights(requested, requested, given.state, preprocessing, classes, given.notes, given.place)


def weights_of_file(
    path: Spec, module: nn.Module, others: str, shape: tuple[int, ...] | None = None
) -> FileWeights:
    """Return the weights in a file that fit a network, with notes on the other contents of the file.

    `path` may be FILE#PART. If no tensors fit the whole network and the `shape` of its input is given,
    weights of its lower layers are accepted. If there are none either, the closest tensors are returned, so
    that `fit` can list the differences. Raises WeightsError, with the text `others` if there is no such file.
    """
    check_weights_file(path, others)
    file, part = file_and_part(os.fspath(path))
    stored, shown = read_stored(file), printable_path(file)
    choice = choose(stored, unwrapped(module), shown, part, shape)
    place = shown if is_usual(choice.prefix) else f"{shown}#{printable(choice.prefix.removesuffix('.'))}"
    check_usable(choice.state, place)
    if spoiled := not_finite(choice.state):
        more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
        raise WeightsError(
            f"{place} contains NaN or infinity in {printable(spoiled[0])}{more}: "
            "the training failed, or the file is damaged"
        )
    dtypes = {str(tensor.dtype)[6:] for tensor in choice.state.values() if tensor.is_floating_point()}
    kinds = sorted(dtypes - {"float32"})
    notes = [*choice.notes, *(f"some weights are {kind} in the file" for kind in kinds), stored.ignored]
    return FileWeights(choice.state, place, tuple(printable(note) for note in notes if note))


def _random(networks: NamedNetworks, name: str, seed: int, module: nn.Module) -> FoundWeights:
    state = module.state_dict()
    return FoundWeights("random", f"random, seed {seed}", state, *networks.expected(name))
