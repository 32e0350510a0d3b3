"""Access to named networks (minivgg and those of torchvision) through their providers."""

from __future__ import annotations

from typing import Any

from torch import nn

from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models import weights
from deconvviz.models.providers import PROVIDERS, parse, provider_of
from deconvviz.models.providers.named import NamedProvider
from deconvviz.models.providers.provider import ListedModel
from deconvviz.models.weights import Spec, WeightsInfo


def provider(name: str) -> NamedProvider:
    found = provider_of(parse(name))
    assert isinstance(found, NamedProvider)
    return found


def build(name: str, **options: Any) -> nn.Module:
    return provider(name).build(name, **options)


def load_network(name: str, spec: Spec = "default", **options: Any) -> tuple[nn.Module, WeightsInfo]:
    return weights.load_network(provider(name), name, spec, **options)


def preprocessing_of_network(name: str) -> Preprocessing:
    return provider(name).expected(name)[0]


def listed(name: str) -> ListedModel:
    """Return the entry of a network in ``deconvviz models``."""
    (found,) = (one for provider in PROVIDERS for one in provider.listed() if one.name == name)
    return found
