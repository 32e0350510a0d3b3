"""Which weights a network has: torchvision's, random ones, or a file's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models import minivgg
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.checkpoints import read_stored, refuse_odd
from deconvviz.models.downloads import cache_path, fetch
from deconvviz.models.expected_input import preprocessing_of_entry, preprocessing_of_network
from deconvviz.models.state_dict import fit, not_finite, other_classes, outputs
from deconvviz.models.stored_tensors import is_usual
from deconvviz.models.tensor_selection import choose
from deconvviz.models.torchvision_models import build, default_entry, entries, known_name
from deconvviz.paths import missing

Spec = str | os.PathLike[str]


@dataclass(frozen=True)
class WeightsInfo:
    """Where a network's weights came from, and what belongs to them.

    `spec` loads the same again; `source` says it to a person; `classes` is empty where outputs have no
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
class _Found:
    """Weights that were found, before it is known whether they fit."""

    spec: str
    source: str
    state: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    place: str | None = None  # in messages about what does not fit, if not the source


@dataclass(frozen=True)
class FileWeights:
    """The weights in a file for one network."""

    state: dict[str, Tensor]
    place: str  # the file, and the part of it if there is more than one: file.pth#teacher
    notes: tuple[str, ...]


def load_network(
    name: str, spec: Spec = "default", *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, WeightsInfo]:
    """A named network in eval mode with its weights. Of a file, the number of classes is taken too.

    `spec`: "default" (torchvision's, fetched if need be), the name of other weights of torchvision
    (IMAGENET1K_V2), "random", or a file: .pth, .pt, .safetensors. FILE#PART takes one of several networks
    in a file, such as file.pth#teacher. Raises NetworkError, WeightsError and its DownloadError.
    """
    if known_name(name) and spec == "random":
        module = build(name, seed=seed)
        return module, _info(module, name, _random(name, seed, module))
    module = build(name, seed=None)
    found = _find(module, name, spec, progress=progress)
    if (count := other_classes(found.state, module)) is not None:
        module = build(name, seed=None, classes=count)
        found = replace(found, notes=(*found.notes, f"{count} classes, as the weights have"))
    return module, _put_in(module, name, found)


def load_weights(
    module: nn.Module, name: str, spec: Spec = "default", *, seed: int = 0, progress: bool = True
) -> WeightsInfo:
    """Fill a module that `build(name)` made; `spec` as for `load_network`. After an error it is as it was."""
    if known_name(name) and spec == "random":
        return _put_in(module, name, _random(name, seed, build(name, seed=seed, classes=outputs(module))))
    return _put_in(module, name, _find(module, name, spec, progress=progress))


def _put_in(module: nn.Module, name: str, found: _Found) -> WeightsInfo:
    fit(module, found.state, network=name, source=found.place or found.source)
    return _info(module, name, found)


def _info(module: nn.Module, name: str, found: _Found) -> WeightsInfo:
    named = found.classes if len(found.classes) == outputs(module) else ()
    return WeightsInfo(name, found.spec, found.source, found.preprocessing, named, found.notes)


def _find(module: nn.Module, name: str, spec: Spec, *, progress: bool) -> _Found:
    if spec == "default" and name == SHIPPED:
        state = minivgg.load_minivgg().state_dict()
        return _Found("default", "shipped with deconvviz", state, *_default_expectations(name))
    told = os.fspath(spec)
    if told == "default":
        return _published(default_entry(name), name, progress=progress)
    published = entries(name)
    if entry := published.get(told.rpartition("_Weights.")[2]):
        return _published(entry, name, progress=progress)
    others = ", ".join(["default", *published, "random"])
    given = weights_of_file(told, module, f"weights of {name} by name: {others}")
    return _Found(told, told, given.state, *_default_expectations(name), given.notes, given.place)


def _published(entry: Any, name: str, *, progress: bool) -> _Found:
    state = fetch(entry, name, progress=progress)
    notes: tuple[str, ...] = ()
    if spoiled := not_finite(state):  # vgg16's IMAGENET1K_FEATURES comes without a classifier
        notes = (f"no numbers in {', '.join(spoiled)}: layers from there on have no meaning",)
    return _Found(
        spec=entry.name,
        source=f"torchvision {entry.name} ({cache_path(entry).name})",
        state=state,
        preprocessing=preprocessing_of_entry(entry),
        classes=tuple(entry.meta.get("categories") or ()),
        notes=notes,
    )


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


def _file_and_part(told: str) -> tuple[str, str]:
    """Read FILE#PART; a file whose own name has a # in it is taken whole."""
    file, _, part = told.rpartition("#")
    return (file, part) if part and os.path.exists(file) and not os.path.exists(told) else (told, "")


def _random(name: str, seed: int, module: nn.Module) -> _Found:
    state = module.state_dict()
    return _Found("random", f"random, seed {seed}", state, *_default_expectations(name))


def _default_expectations(name: str) -> tuple[Preprocessing, tuple[str, ...]]:
    if name == SHIPPED:
        return preprocessing_of_network(name), tuple(minivgg.CLASSES)
    entry: Any = default_entry(name)
    return preprocessing_of_entry(entry), tuple(entry.meta.get("categories") or ())
