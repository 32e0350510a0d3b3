"""Load a network by name, with its weights or without."""

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
from deconvviz.models.structure import structure_of, tensors_of
from deconvviz.network import Network, Origin


def load(
    name: str = "vgg19",
    weights: str | Path = "default",
    *,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Network:
    """Load a network.

    Args:
        name: A torchvision name; ``minivgg``, which ships with the package; ``timm:NAME`` or
            ``timm:NAME.TAG``; or ``path/to/file.py:factory``. The last **runs the code** in the file and
            calls its function, which returns a `torch.nn.Module` or a `Network`.
        weights: ``default`` (the weights of torchvision or timm, downloaded once; for a file, those that its
            function sets), ``random``, or the path of a state dict (.pth, .pt, .safetensors). ``FILE#PART``
            selects one network in a file that has several (``file.pth#teacher``).
        arguments: Keyword arguments for a timm network or a factory.
        seed: Seed of random weights.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.

    Raises:
        NetworkError: If the network is unknown or cannot be built.
        WeightsError: If the weights cannot be read or do not fit.
        DownloadError: If the weights cannot be downloaded.
        DeviceError: If the device does not exist.

    Example:
        >>> import deconvviz as dv
        >>> dv.load("minivgg")
        <Network minivgg: 96 px, 432,540 parameters, shipped with deconvviz>
    """
    return ModelRequest.of(name, weights, arguments=arguments, seed=seed, device=device).load()


def sketch(name: str, arguments: Mapping[str, Any] | None = None) -> Network:
    """Return a network without its weights, for its shapes and layer names. Nothing is downloaded.

    For ``file.py:factory`` the factory is called, because only its code knows the shapes.
    """
    spec = parse(name, arguments)
    return _network(provider_of(spec).sketch(spec))


@dataclass(frozen=True)
class ModelRequest:
    """The arguments of `load` as one value."""

    spec: ModelSpec  # includes the arguments of the network
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
        """Make a request from the arguments of `load`. Raises NetworkError, DeviceError."""
        return cls(parse(name, arguments), weights, seed, str(pick_device(device)))

    def sketch(self) -> Network:
        """Return the network without its weights, on the meta device. Nothing is downloaded.

        If user code makes the network, return the network itself with its weights, so that the code runs
        once; `load` then returns the same network. Raises what `load` raises.
        """
        provider = provider_of(self.spec)
        return self.load() if provider.runs_code else _network(provider.sketch(self.spec))

    def load(self, sketched: Network | None = None) -> Network:
        """Return the network with its weights on its device.

        With the result of `sketch`, its layer table is reused, and user code is not run again. Raises
        NetworkError, WeightsError, DownloadError, DeviceError.
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
        if not any(
            tensor.is_meta for _, tensor in tensors_of(network.module)
        ):  # otherwise `record` raises an error
            network.module.to(place)
        return network


def pick_device(name: str) -> torch.device:
    """Return a device by name; ``auto`` is an accelerator if there is one. Raises DeviceError."""
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
    """Return a loaded model as a network; a `Network` returned by user code is kept."""
    info, spec = loaded.info, loaded.spec
    origin = Origin(info.spec, loaded.seed, info.source, info.notes, spec, info.missing)
    network = loaded.network
    if not isinstance(network, Network):
        return Network(
            loaded.module,
            name=spec.short,
            preprocessing=info.preprocessing,
            classes=info.classes,
            origin=origin,
            shapes=shapes or loaded.shapes,
        )
    if network.name == type(network.module).__name__:  # no name was given
        network.name = spec.short
    network.origin = origin
    return network
