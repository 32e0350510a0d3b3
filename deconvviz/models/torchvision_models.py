"""torchvision's classifiers by name: with random weights or none yet, and what is published for each."""

from __future__ import annotations

from enum import Enum
from typing import Any

from torch import nn
from torchvision import models

from deconvviz.models import initialization
from deconvviz.models.catalog import no_such_network

# These two are trained with auxiliary heads, which are not needed here, and fold the normalisation of the
# input into the network, as their published weights expect.
_AUXILIARY = {name: {"aux_logits": False, "transform_input": True} for name in ("googlenet", "inception_v3")}


def model_names() -> list[str]:
    """Return every name that `build` knows, from torchvision's registry (`catalog` needs no torch)."""
    return list(models.list_models(module=models))


def known_name(name: str) -> str:
    """Return `name` if there is such a network. Raises NetworkError that names the nearest."""
    there = model_names()
    if name in there:
        return name
    raise no_such_network(name, there)


def build(name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu") -> nn.Module:
    """Return the network in evaluation mode, with random weights; nothing is downloaded.

    See `initialization.build` for `seed` and `device`. `classes` is the number of outputs, if not the usual
    one. Raises NetworkError.
    """
    initialization.check_classes(classes, known_name(name))
    return initialization.build(lambda drawn: _construct(name, classes, drawn), seed=seed, device=device)


def default_entry(name: str) -> Enum:
    """Return torchvision's default weights (`vgg19` -> VGG19_Weights.IMAGENET1K_V1)."""
    entry: Enum = models.get_model_weights(known_name(name))["DEFAULT"]
    return entry


def entries(name: str) -> dict[str, Enum]:
    """Return torchvision's weights of a network by their names."""
    return {entry.name: entry for entry in models.get_model_weights(known_name(name))}


def _construct(name: str, classes: int | None, drawn: bool) -> nn.Module:
    options: dict[str, Any] = {}
    if name in _AUXILIARY:
        options = {**_AUXILIARY[name], "init_weights": drawn}
    if name.startswith("vit_"):  # a ViT is built for one size of image, the one its weights were trained on
        entry: Any = models.get_model_weights(name)["DEFAULT"]
        options["image_size"] = entry.meta["min_size"][0]
    if classes is not None:
        options["num_classes"] = classes
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module
