"""Where a network comes from, as plain JSON: written into manifests, and read back with the same numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from deconvviz import __version__
from deconvviz.errors import ManifestError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.loading import load_spec
from deconvviz.models.model_spec import ModelSpec, as_literals, from_literals
from deconvviz.network import Network


def describe_network(network: Network, beside: Path) -> dict[str, Any]:
    """A network as a manifest in the folder `beside` tells of it."""
    return {
        "name": network.name,
        "model": _model(network.origin.model, beside),
        "weights": network.origin.spec,
        "seed": network.origin.seed,
        "source": network.origin.source,
        "digest": network.digest,
        "preprocessing": network.preprocessing.to_json(),
        "device": str(network.device),
        "dtype": str(network.dtype).removeprefix("torch."),
    }


def versions(network: Network) -> dict[str, str]:
    """Of everything that has a part in the numbers."""
    spec = network.origin.model
    timm = {"timm": version("timm")} if spec is not None and spec.registry == "timm" else {}
    return {
        "deconvviz": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **timm,
    }


def place_of(file: Path | None, beside: Path) -> dict[str, str | None]:
    """Where a file is, and where from the folder `beside`, in case both are moved."""
    if file is None:
        return {"path": None, "beside": None}
    whole = file.resolve()
    return {"path": str(whole), "beside": os.path.relpath(whole, beside.resolve())}


def existing(one: Mapping[str, Any], beside: Path) -> Path | None:
    """Where the file is that `place_of` wrote down, if it still is."""
    places = [Path(one["path"]), beside.resolve() / one["beside"]]
    return next((place for place in places if place.is_file()), None)


def network_of(
    told: Mapping[str, Any],
    manifest: Path,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Network:
    """The network that a manifest tells of, with the very weights; `weights` says where they are now.

    Raises ManifestError: it was made in Python, its weights are others, or code would have to be run that
    `allow_code` does not allow.
    """
    spec = _spec(told, manifest)
    if spec is None or told["weights"] is None:
        raise ManifestError(
            f"{manifest} was made in Python from a module of the user's own; "
            "only that program can make it again"
        )
    if spec.runs_code and not allow_code:
        raise ManifestError(
            f"{manifest} was made with a network that {spec.file} makes: to make it again, that file is run. "
            "If you trust it, say so with --allow-code (allow_code=True)"
        )
    network = load_spec(spec, weights or told["weights"], seed=told["seed"] or 0, device=device)
    if network.digest != told["digest"]:
        raise ManifestError(
            f"the weights of {told['name']} are not those of {manifest}: {network.digest} instead of "
            f"{told['digest']}; give the right file with --weights"
        )
    network.module.to(getattr(torch, told["dtype"]))
    network.preprocessing = Preprocessing.from_json(told["preprocessing"])
    return network


def _model(spec: ModelSpec | None, beside: Path) -> dict[str, Any] | None:
    """What `load` was asked for; None for a network that was made in Python."""
    if spec is None or (arguments := as_literals(spec.arguments)) is None:
        return None
    told = {"registry": spec.registry, "name": spec.name, "arguments": arguments}
    return {**told, "file": {**place_of(spec.file, beside), "digest": spec.digest}} if spec.file else told


def _spec(told: Mapping[str, Any], manifest: Path) -> ModelSpec | None:
    """The network that a manifest names; None if it cannot be asked for by name."""
    if "model" not in told:  # before there was anything but torchvision's
        return ModelSpec("torchvision", told["name"])
    model = told["model"]
    if model is None:
        return None
    arguments = from_literals(model["arguments"])
    if model["registry"] in ("torchvision", "timm"):
        return ModelSpec(model["registry"], model["name"], arguments)
    file = existing(model["file"], manifest.resolve().parent)
    if file is None:
        raise ManifestError(
            f"the file that makes the network of {manifest} is gone: it was {model['file']['path']}"
        )
    return ModelSpec("file", model["name"], arguments, file, str(model["file"]["digest"]))
