"""One class per ATen operation: what it records in the forward pass, and how it projects a signal back.

An instance stands for one call of the operation in one forward pass:

    __init__(call)                          forward: record what `project` needs, and no more
    project(signal, window, input_windows)  the signal at the output, projected to each tensor argument
    visible_inputs(argument, axis, ...)     which rows (columns) of an argument each output row (column) sees

`convolution`, `activation` and `pooling` are the paper's own three. `linear`, `normalisation`, `arithmetic`,
`reduction`, `attention`, `resampling` (with `separable`), `reshape`, `permute`, `slicing` and `concatenate`
are the operations that later networks are built of. For an operation of your own, register a rule with
``deconvviz.rule``: docs/how-to/write-a-rule.md shows how.
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
    concatenate,
    convolution,
    linear,
    normalisation,
    permute,
    pooling,
    reduction,
    resampling,
    reshape,
    slicing,
)
