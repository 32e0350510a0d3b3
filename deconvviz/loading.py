"""A network by name: `load` it with its weights, or `sketch` it without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deconvviz.errors import DeviceError, NetworkError
from deconvviz.models import timm_models
from deconvviz.models import torchvision_models as builders
from deconvviz.models import user_code as factories
from deconvviz.models.expected_input import preprocessing_of_config, preprocessing_of_network
from deconvviz.models.model_spec import ModelSpec, parse
from deconvviz.models.state_dict import fit, outputs
from deconvviz.models.weights import load_network, weights_of_file
from deconvviz.network import Network, Origin


def load(
    name: str = "vgg19",
    weights: str | Path = "default",
    *,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Network:
    """A network by its torchvision name, or ``minivgg``, which ships inside the package.

    Or ``timm:NAME`` (``timm:NAME.TAG``), one of timm's; or ``path/to/file.py:factory``: the code in that file
    is run, and its function called, which returns a `torch.nn.Module` or a `Network`. Both take `arguments`.

    `weights`: ``default`` (torchvision's or timm's own, downloaded once; of a file, those that its function
    makes), ``random`` (from `seed`), or a file of a state dict (.pth, .pt, .safetensors). If a file has the
    weights of several networks, ``FILE#PART`` takes one of them (``file.pth#teacher``). Raises NetworkError,
    WeightsError, DownloadError, DeviceError.
    """
    return load_spec(parse(name, arguments), weights, seed=seed, device=device)


def load_spec(
    spec: ModelSpec, weights: str | Path = "default", *, seed: int = 0, device: str = "cpu"
) -> Network:
    """As `load`, from a name that has been read."""
    place = pick_device(device)
    if spec.runs_code:
        network = _of_file(spec, weights, seed)
        network.module.to(place)
        return network
    if spec.registry == "timm":
        module, info = timm_models.load_network(spec, weights, seed=seed)
        shapes = timm_models.build(spec, device="meta", classes=getattr(module, "num_classes", None))
    else:
        module, info = load_network(spec.name, weights, seed=seed)
        shapes = builders.build(spec.name, device="meta", classes=outputs(module))
    # timm may draw a classifier of another size than its weights have
    drawn = seed if info.spec == "random" or spec.arguments else None
    return Network(
        module.to(place),
        name=spec.short,
        preprocessing=info.preprocessing,
        classes=info.classes,
        origin=Origin(info.spec, drawn, info.source, info.notes, spec),
        shapes=shapes,
    )


def sketch(name: str, arguments: Mapping[str, Any] | None = None) -> Network:
    """A network without its weights, for its shapes and layer names alone; nothing is downloaded.

    Of ``file.py:factory`` it is what the function returns: only its code knows the shapes.
    """
    spec = parse(name, arguments)
    if spec.runs_code:
        return _of_file(spec, "default", 0)
    if spec.registry == "timm":
        module, preprocessing = timm_models.build(spec, device="meta"), timm_models.preprocessing(spec)
    else:
        module, preprocessing = builders.build(name, device="meta"), preprocessing_of_network(name)
    origin = Origin("none", None, "no weights", model=spec)
    return Network(module, name=spec.short, preprocessing=preprocessing, origin=origin)


def pick_device(name: str) -> torch.device:
    """``auto`` (an accelerator, if there is one), ``cpu``, ``cuda``, ``cuda:N``, ``mps``; or DeviceError."""
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


def _of_file(spec: ModelSpec, weights: str | Path, seed: int) -> Network:
    """What a function in a file makes, as a network; a file of weights is loaded over it."""
    made = factories.make(spec, seed=seed)
    network, notes = _as_network(made.product, spec)
    told, source = str(weights), f"as {spec.short} makes them"
    if told == "random":
        source += f", seed {seed}"
    elif told != "default":
        others = f"of {spec.short} otherwise: default, random"
        given = weights_of_file(weights, network.module, others)
        fit(network.module, given.state, network=spec.short, source=given.place)
        source, notes = told, (*notes, *given.notes)
    kept = replace(spec, file=spec.file and spec.file.resolve(), digest=made.digest)
    network.origin = Origin(told, seed, source, notes, kept)
    return network


def _as_network(product: Any, spec: ModelSpec) -> tuple[Network, tuple[str, ...]]:
    """What a factory returned, and notes on what had to be assumed."""
    if isinstance(product, Network):
        if product.name == type(product.module).__name__:  # nobody named it
            product.name = spec.short
        return product, ()
    if not isinstance(product, nn.Module):
        raise NetworkError(
            f"{spec.text} returned a {type(product).__name__}: "
            "it is to return a torch.nn.Module or a deconvviz.Network"
        )
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(product, name, None)
        if isinstance(config, Mapping) and config:
            return Network(product, name=spec.short, preprocessing=preprocessing_of_config(config)), ()
    assumed = (
        "224 px and ImageNet's mean and deviation are assumed; return deconvviz.Network(module, size=..., "
        "mean=..., std=...) to say otherwise",
    )
    return Network(product, name=spec.short), assumed
