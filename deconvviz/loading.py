"""Load a network by name with its weights, or sketch it without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deconvviz.errors import DeviceError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers import parse, provider_of
from deconvviz.models.providers.provider import LoadedModel
from deconvviz.models.structure import structure_of
from deconvviz.network import Network, Origin


def load(
    name: str = "vgg19",
    weights: str | Path = "default",
    *,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Network:
    """Load a network by its torchvision name, or ``minivgg``, which ships inside the package.

    Or ``timm:NAME`` (``timm:NAME.TAG``), one of timm's; or ``path/to/file.py:factory``: the code in that file
    is run, and its function called, which returns a `torch.nn.Module` or a `Network`. Both take `arguments`.

    `weights`: ``default`` (torchvision's or timm's own, downloaded once; of a file, those that its function
    makes), ``random`` (from `seed`), or a file of a state dict (.pth, .pt, .safetensors). If a file has the
    weights of several networks, ``FILE#PART`` takes one of them (``file.pth#teacher``). Raises NetworkError,
    WeightsError, DownloadError, DeviceError.
    """
    return ModelRequest.of(name, weights, arguments=arguments, seed=seed, device=device).load()


def sketch(name: str, arguments: Mapping[str, Any] | None = None) -> Network:
    """Return a network without its weights, for its shapes and layer names alone; nothing is downloaded.

    Of ``file.py:factory`` it is what the function returns, because only its code knows the shapes.
    """
    spec = parse(name, arguments)
    return _network(provider_of(spec).sketch(spec))


@dataclass(frozen=True)
class ModelRequest:
    """A network, its weights and the device to put it on: everything that `load` needs, as one value."""

    spec: ModelSpec  # with the arguments of the network
    weights: str | Path = "default"
    seed: int = 0
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        name: str,
        weights: str | Path = "default",
        *,
        arguments: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> ModelRequest:
        """Read a request as `load` takes it; ``auto`` becomes a device. Raises NetworkError, DeviceError."""
        return cls(parse(name, arguments), weights, seed, str(pick_device(device)))

    def sketch(self) -> Network:
        """Return the network without its weights, on no device; nothing is downloaded.

        Where only a user's code knows the shapes, it is the network itself, with its weights, so that the
        code is run once: `load` returns it. Raises NetworkError, and what `load` raises.
        """
        provider = provider_of(self.spec)
        return self.load() if provider.runs_code else _network(provider.sketch(self.spec))

    def load(self, sketched: Network | None = None) -> Network:
        """Return the network with its weights on its device.

        Given what `sketch` returned, nothing is made twice: neither its table of layers nor, where user code
        is run, the network. Raises NetworkError, WeightsError, DownloadError, DeviceError.
        """
        provider, place = provider_of(self.spec), pick_device(self.device)
        if sketched is not None and provider.runs_code:
            return sketched
        loaded = provider.load(self.spec, self.weights, self.seed)
        if sketched is not None and structure_of(sketched.module) == structure_of(loaded.module):
            network = _network(loaded, sketched.module)
            network.adopt_layers(sketched)
        else:
            network = _network(loaded, provider.shapes(self.spec, loaded.module))
        network.module.to(place)
        return network


def pick_device(name: str) -> torch.device:
    """Return ``auto`` (an accelerator, if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises DeviceError.
    """
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if kind in there), "cpu"))
    if name not in there:
        raise DeviceError(f"no device {name!r} on this machine: there is {', '.join(there)}")
    return torch.device(name)


def _network(loaded: LoadedModel, shapes: torch.nn.Module | None = None) -> Network:
    """Return a loaded module as a network; the one that a user's function returned stays as it is."""
    info, spec = loaded.info, loaded.spec
    origin = Origin(info.spec, loaded.seed, info.source, info.notes, spec)
    network = loaded.network
    if not isinstance(network, Network):
        return Network(
            loaded.module,
            name=spec.short,
            preprocessing=info.preprocessing,
            classes=info.classes,
            origin=origin,
            shapes=shapes,
        )
    if network.name == type(network.module).__name__:  # its author gave no name
        network.name = spec.short
    network.origin = origin
    return network
