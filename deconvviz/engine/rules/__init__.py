"""One class per ATen operation: what it records in the forward pass, and how it projects a signal.

An instance stands for one call of the operation in one forward pass:

    __init__(call)                          forward: record what `project` needs, and no more
    project(signal, window, input_windows)  the signal at the output, projected to each tensor argument
    visible_inputs(argument, axis, ...)     which input rows (columns) each output row (column) depends on

`convolution`, `activation` and `pooling` hold the operations of the paper (section 2.1). The other files hold
the operations of later networks. To add a rule for an operation of your own, use ``deconvviz.rule``: see
docs/how-to/write-a-rule.md.
"""

from deconvviz.engine.index_maps import UNKNOWN, IndexMap, PeriodicIntervals, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import lookup, rule
from deconvviz.engine.rules.rule import Call, Rule, Support

__all__ = [
    "UNKNOWN",
    "Call",
    "IndexMap",
    "PeriodicIntervals",
    "Rule",
    "SlidingWindow",
    "Support",
    "TensorLayout",
    "Window",
    "lookup",
    "rule",
]

# Importing the files fills the registry.
from deconvviz.engine.rules import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    boxes,
    concatenate,
    convolution,
    fourier,
    index_writes,
    indexing,
    linear,
    normalisation,
    permute,
    pooling,
    recurrent,
    reduction,
    resampling,
    reshape,
    sampling,
    slicing,
    slopes,
    strided,
    writing,
)
