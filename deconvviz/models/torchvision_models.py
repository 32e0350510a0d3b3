"""Build torchvision's networks by name, and look up their published weights."""

from __future__ import annotations

from enum import Enum
from typing import Any

from torch import nn
from torchvision import models

from deconvviz.models import initialization
from deconvviz.models.catalog import no_such_network

# These two are built without their auxiliary heads, which only training needs. With `transform_input` they
# normalise the input themselves, as their published weights require.
_AUXILIARY = {name: {"aux_logits": False, "transform_input": True} for name in ("googlenet", "inception_v3")}


def model_names() -> list[str]:
    """Return all names that `build` accepts, from torchvision's registry."""
    return list(models.list_models(module=models))


def known_name(name: str) -> str:
    """Return `name` if torchvision has this network. Raises NetworkError with the nearest names."""
    names = model_names()
    if name in names:
        return name
    raise no_such_network(name, names)


def build(name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu") -> nn.Module:
    """Return the network in evaluation mode, with random weights; nothing is downloaded.

    See `initialization.build` for `seed` and `device`. `classes` is the number of outputs; None for
    torchvision's default. Raises NetworkError.
    """
    initialization.check_classes(classes, known_name(name))
    return initialization.build(lambda drawn: _construct(name, classes, drawn), seed=seed, device=device)


def default_entry(name: str) -> Enum:
    """Return torchvision's entry for the default weights: VGG19_Weights.IMAGENET1K_V1 for ``vgg19``."""
    entry: Enum = models.get_model_weights(known_name(name))["DEFAULT"]
    return entry


def entries(name: str) -> dict[str, Enum]:
    """Return torchvision's entries for all weights of a network, by name."""
    return {entry.name: entry for entry in models.get_model_weights(known_name(name))}


def _construct(name: str, classes: int | None, drawn: bool) -> nn.Module:
    options: dict[str, Any] = {}
    if name in _AUXILIARY:
        options = {**_AUXILIARY[name], "init_weights": drawn}
    if name.startswith("vit_"):  # a ViT accepts one image size only: that of its weights
        entry: Any = models.get_model_weights(name)["DEFAULT"]
        options["image_size"] = entry.meta["min_size"][0]
    if classes is not None:
        options["num_classes"] = classes
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def dense(name: str, *, seed: int = 0) -> nn.Module:
    """Return a network for segmentation or detection in evaluation mode, with random weights."""
    options: dict[str, Any] = {"weights": None, "weights_backbone": None}
    if name.startswith(("fcn", "deeplabv3")):
        options["aux_loss"] = True  # the published weights have it
    return initialization.build(lambda drawn: models.get_model(name, **options), seed=seed, device="cpu")


def dense_entry(name: str) -> Any:
    """Return torchvision's entry for the default weights of a network for segmentation or detection."""
    return models.get_model_weights(name)["DEFAULT"]
