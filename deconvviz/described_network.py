"""Load a network again that a manifest describes, and verify its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.files import existing
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.loading import ModelRequest
from deconvviz.models.model_spec import PLAIN, ModelSpec, from_literals
from deconvviz.models.providers import provider_of
from deconvviz.network import Network


def load_described(
    described: Mapping[str, Any],
    manifest: Path,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Network:
    """Load the network that a manifest describes and verify its weights. `weights` overrides their location.

    Raises ManifestError: it was made in Python, its weights are others, or code would have to be run that
    `allow_code` does not allow.
    """
    spec = _spec(described, manifest)
    if spec is None or described["weights"] is None:
        raise ManifestError(
            f"{manifest} was made in Python from a module of the user's own; "
            "only that program can make it again"
        )
    if provider_of(spec).runs_code and not allow_code:
        raise ManifestError(
            f"{manifest} was made with a network that {spec.file} makes: to make it again, that file is run. "
            "If you trust it, allow it with {option}",
            option="allow_code=True",
        )
    network = ModelRequest(spec, weights or described["weights"], described["seed"] or 0, device).load()
    if network.digest != described["digest"]:
        raise ManifestError(
            f"the weights of {described['name']} are not those of {manifest}: {network.digest} instead of "
            f"{described['digest']}; give the right file with {{option}}",
            option="weights=FILE",
        )
    network.module.to(getattr(torch, described["dtype"]))
    network.preprocessing = Preprocessing.from_json(described["preprocessing"])
    return network


def _spec(described: Mapping[str, Any], manifest: Path) -> ModelSpec | None:
    """The network that a manifest names; None if it cannot be asked for by name."""
    if "model" not in described:  # before there was anything but torchvision's
        return ModelSpec(PLAIN, described["name"])
    model = described["model"]
    if model is None:
        return None
    spec = ModelSpec(str(model["registry"]), model["name"], from_literals(model["arguments"]))
    try:
        runs_code = provider_of(spec).runs_code
    except NetworkError as reason:
        raise ManifestError(f"{manifest} is no complete manifest: {reason}") from reason
    if not runs_code:
        return spec
    file = existing(model["file"], manifest.resolve().parent)
    if file is None:
        raise ManifestError(
            f"the file that makes the network of {manifest} is gone: it was {model['file']['path']}"
        )
    return replace(spec, file=file, digest=str(model["file"]["digest"]))
