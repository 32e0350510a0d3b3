"""Versions of the packages that affect the numbers of a result."""

from __future__ import annotations

import platform
from importlib import metadata

import numpy as np
import torch

from deconvviz.models.providers import provider_of
from deconvviz.network_info import NetworkInfo
from deconvviz.version import __version__


def versions(network: NetworkInfo) -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the numbers."""
    spec = network.origin.model
    return {
        "deconvviz": __version__,
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        **(provider_of(spec).versions() if spec is not None else {}),
    }
