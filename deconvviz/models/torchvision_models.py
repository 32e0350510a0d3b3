"""Networks by name: torchvision's classifiers and the shipped minivgg, with random weights or none yet."""

from __future__ import annotations

from enum import Enum
from typing import Any

from torch import nn
from torchvision import models

from deconvviz.errors import NetworkError
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.initialization import seeded, shapes_alone
from deconvviz.models.minivgg import MiniVGG, minivgg
from deconvviz.similar_names import nearest

# These two train with auxiliary heads, which nobody projects, and fold the input's normalisation into the
# network, as their published weights expect.
_AUXILIARY = {name: {"aux_logits": False, "transform_input": True} for name in ("googlenet", "inception_v3")}


def model_names() -> list[str]:
    """Every name that `build` knows, by torchvision's own registry. `catalog.MODEL_NAMES` needs no torch."""
    return [SHIPPED, *models.list_models(module=models)]


def known_name(name: str) -> str:
    """`name`, if there is such a network. Raises NetworkError that names the nearest."""
    there = model_names()
    if name in there:
        return name
    like = nearest(name, there, 4)
    hint = f"nearest: {', '.join(like)}" if like else f"there are {len(there)}, {there[0]} and torchvision's"
    raise NetworkError(f"no network {name!r}; {hint} (see: deconvviz models)")


def build(name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu") -> nn.Module:
    """The network in eval mode, with random weights of its own making; nothing is downloaded.

    The same seed gives the same weights, and the caller's generators stay where they were. With `seed=None`
    the weights are not drawn but left as memory was, for `load_weights` to fill (VGG19 spends seconds on
    drawing). `device="meta"` gives the shapes alone. `classes` is the number of outputs, if not the usual
    one. Raises NetworkError.
    """
    known_name(name)
    if classes is not None and classes < 1:
        raise NetworkError(f"{name} cannot be built with {classes} classes: at least 1")
    if device == "meta":
        return _shapes_alone(name, classes).eval()
    if seed is None:
        shaped = _shapes_alone(name, classes)
        if _can_be_filled(shaped):
            return shaped.to_empty(device=device).eval()
    with seeded(seed or 0):
        module = _construct(name, classes, drawn=True)
    return module.to(device).eval()


def default_entry(name: str) -> Enum | None:
    """torchvision's default weights (`vgg19` -> VGG19_Weights.IMAGENET1K_V1); None for minivgg."""
    if known_name(name) == SHIPPED:
        return None
    entry: Enum = models.get_model_weights(name)["DEFAULT"]
    return entry


def entries(name: str) -> dict[str, Enum]:
    """torchvision's weights of a network by their names; none for minivgg."""
    return (
        {} if known_name(name) == SHIPPED else {entry.name: entry for entry in models.get_model_weights(name)}
    )


def _construct(name: str, classes: int | None, *, drawn: bool) -> nn.Module:
    if name == SHIPPED:
        return minivgg() if classes is None else MiniVGG(classes=classes)
    options: dict[str, Any] = {}
    if name in _AUXILIARY:
        options = {**_AUXILIARY[name], "init_weights": drawn}
    if name.startswith("vit_"):  # a ViT is built for one size of picture, the one its weights were trained on
        entry: Any = models.get_model_weights(name)["DEFAULT"]
        options["image_size"] = entry.meta["min_size"][0]
    if classes is not None:
        options["num_classes"] = classes
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def _shapes_alone(name: str, classes: int | None) -> nn.Module:
    return shapes_alone(lambda: _construct(name, classes, drawn=False))


def _can_be_filled(shaped: nn.Module) -> bool:
    """Whether a state dict brings all there is: so for every classifier of torchvision 0.29."""
    return shaped.state_dict().keys() >= {name for name, _ in shaped.named_buffers()}
