"""The states of one network: the same network with the weights of each checkpoint."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save
from torch import nn

from deconvviz.engine.wrappers import unwrapped
from deconvviz.errors import WeightsError
from deconvviz.experiments.evolution.names import short_labels
from deconvviz.files import write_whole
from deconvviz.loading import ModelRequest
from deconvviz.models.fit import fit
from deconvviz.models.weights import weights_of_file
from deconvviz.network import Network
from deconvviz.printable_names import printable


@dataclass(frozen=True)
class States:
    """The checkpoints of a network, in order. `open` returns the network with the weights of one.

    Attributes:
        sketch: The network with any weights, for its layers.
        files: Weights files.
        labels: A short label for each, for figures and tables.
    """

    sketch: Network
    files: tuple[str, ...]
    labels: tuple[str, ...]
    _request: ModelRequest | None = None

    @classmethod
    def of(cls, network: Network | ModelRequest, files: Sequence[str]) -> States:
        """Return the states of a network, or of a network that is loaded by its name."""
        labels = tuple(short_labels(files))
        if isinstance(network, Network):
            return cls(network, tuple(files), labels)
        return cls(network.sketch(), tuple(files), labels, network)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, number: int) -> Network:
        """Return the network with the weights of a checkpoint.

        Raises:
            WeightsError: If the weights do not fit the network, are incomplete, or contain NaN or infinity.
        """
        file = self.files[number]
        found = self._loaded(file) if self._request is not None else self._copied(file)
        if found.origin.missing:
            raise WeightsError(
                f"{printable(file)} does not have all weights of {found.name} "
                f"({printable(found.origin.missing[0])} is missing). Give complete checkpoints"
            )
        return found

    def _loaded(self, file: str) -> Network:
        assert self._request is not None
        found = replace(self._request, weights=file).load()
        found.adopt_layers(self.sketch)
        return found

    def _copied(self, file: str) -> Network:
        """Return a copy of the network with other weights. The given network is not changed."""
        old = self.sketch
        module: nn.Module = copy.deepcopy(old.module)
        weights = weights_of_file(file, module, "a checkpoint of the network", old.preprocessing.shape)
        fit(module, weights.state, network=old.name, source=weights.place)
        origin = replace(old.origin, spec=file, source=file, seed=None, notes=weights.notes, missing=())
        found = Network(
            module, name=old.name, preprocessing=old.preprocessing, classes=old.classes, origin=origin
        )
        found.adopt_layers(old)
        return found

    def check(self) -> None:
        """Raise the error of the first checkpoint that `open` cannot open."""
        for number in range(len(self)):
            self.open(number)

    def digests(self) -> tuple[str, ...]:
        """Return the SHA-256 of each file."""
        return tuple(file_digest(file) for file in self.files)


def file_digest(file: str) -> str:
    """Return the SHA-256 of a weights file, which may end in #PART."""
    path = file if os.path.exists(file) else file.rpartition("#")[0]
    hashed = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return f"sha256:{hashed.hexdigest()}" + ("" if path == file else file[len(path) :])


def write_state(module: nn.Module, path: Path) -> None:
    """Write the weights of a module as a checkpoint (.safetensors), whole or not at all."""
    state = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in unwrapped(module).state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    data = save(state)

    def write(stream: BinaryIO) -> None:
        stream.write(data)

    write_whole(path, write, force=True)
