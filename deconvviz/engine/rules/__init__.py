"""What each ATen operation keeps on the way up, and its mirror on the way down.

A rule is a class; one instance stands for one call of the operation in one forward pass:

    __init__(call)               the way up: keep what the mirror needs, and no more
    down(signal, at, into)       the way down: the signal at the output, carried to each tensor argument
    reach(argument, axis, ...)   positions: which rows (columns) of the argument each output row (column) sees

`convolution`, `activation`, `pooling` are the paper's own three. `linear`, `normalisation`, `arithmetic`,
`reduction`, `attention`, `resampling` (with `separable`), `reshape`, `permute`, `slicing` and `concatenate`
are what networks have been built of since. A user's own operation gets a rule with ``deconvviz.rule``; see
`Rule`.
"""

from deconvviz.engine.rules.rule import Call, Rule, Verdict, lookup, rule

__all__ = ["Call", "Rule", "Verdict", "lookup", "rule"]

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
