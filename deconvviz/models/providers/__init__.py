"""Registry of all kinds of networks, with the lookup by name or `ModelSpec`.

Importing it is fast: torch is imported when a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deconvviz.errors import NetworkError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.provider import ModelProvider
from deconvviz.models.providers.shipped import Shipped
from deconvviz.models.providers.timm import Timm
from deconvviz.models.providers.torchvision import Torchvision
from deconvviz.models.providers.torchvision_dense import TorchvisionDense
from deconvviz.models.providers.user_file import UserFile

PROVIDERS: tuple[ModelProvider, ...] = (
    Shipped(),
    Timm(),
    UserFile(),
    TorchvisionDense(),
    Torchvision(),  # last, because it accepts every other name
)


def parse(text: str, arguments: Mapping[str, Any] | None = None) -> ModelSpec:
    """Return the spec of ``vgg19``, ``timm:resnet26d`` or ``own.py:make``. Raises NetworkError.

    Only the form of the text is checked, not whether the network exists.
    """
    given = dict(arguments or {})
    for name in given:
        if not (isinstance(name, str) and name.isidentifier()):
            raise NetworkError(f"{name!r} is not a valid argument name: use only letters, digits and _")
    spec = next((spec for one in PROVIDERS if (spec := one.parse(text)) is not None), None)
    if spec is None:
        *forms, last = dict.fromkeys(one.form for one in PROVIDERS)
        raise NetworkError(f"no network {text!r}: give {', '.join(forms)}, or {last}")
    if given and not provider_of(spec).takes_arguments:
        forms = [one.form for one in PROVIDERS if one.takes_arguments]
        raise NetworkError(
            f"{text} takes no arguments ({', '.join(given)}): only {' and '.join(forms)} take arguments"
        )
    return replace(spec, arguments=given)


def provider_of(spec: ModelSpec) -> ModelProvider:
    """Return the provider of a network. Raises NetworkError for an unknown kind of network."""
    found = next((one for one in PROVIDERS if one.owns(spec)), None)
    if found is None:
        raise NetworkError(f"this version of deconvviz has no networks of the kind {spec.registry!r}")
    return found
