"""Methods that ask what in an image activates a unit, and their comparison.

Importing it does not import torch. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deconvviz.methods.captum_bridge import NeuronDeconvolution as NeuronDeconvolution
    from deconvviz.methods.captum_bridge import NeuronGradient as NeuronGradient
    from deconvviz.methods.captum_bridge import NeuronGuidedBackprop as NeuronGuidedBackprop
    from deconvviz.methods.quantus_bridge import UnitActivations as UnitActivations
    from deconvviz.methods.quantus_bridge import explain_func as explain_func

_HOME = {  # the module that defines each public name
    "NeuronDeconvolution": "deconvviz.methods.captum_bridge",
    "NeuronGradient": "deconvviz.methods.captum_bridge",
    "NeuronGuidedBackprop": "deconvviz.methods.captum_bridge",
    "UnitActivations": "deconvviz.methods.quantus_bridge",
    "explain_func": "deconvviz.methods.quantus_bridge",
}

__all__ = [
    "NeuronDeconvolution",
    "NeuronGradient",
    "NeuronGuidedBackprop",
    "UnitActivations",
    "explain_func",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deconvviz.methods' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
