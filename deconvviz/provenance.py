"""Which versions of which packages have a part in the numbers of a result."""

from __future__ import annotations

import platform

import numpy as np
import torch
import torchvision

from deconvviz.models.providers import provider_of
from deconvviz.network_info import NetworkInfo
from deconvviz.version import __version__


def versions(network: NetworkInfo) -> dict[str, str]:
    """Return the versions of everything that has a part in the numbers."""
    spec = network.origin.model
    return {
        "deconvviz": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **(provider_of(spec).versions() if spec is not None else {}),
    }
