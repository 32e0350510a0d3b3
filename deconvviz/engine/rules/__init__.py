"""What each ATen operation keeps on the way up, and its mirror on the way down.

A rule is a class; one instance stands for one call of the operation in one forward pass:

    __init__(call)               the way up: keep what the mirror needs, and no more
    down(signal, at, into)       the way down: the signal at the output, carried to each tensor argument
    reach(argument, axis, ...)   positions: which rows (columns) of the argument each output row (column) sees

Convolution, pooling, activation, linear and shape rules stand in the files of those names. A user's own
operation gets a rule with ``deconvviz.rule``; see `Rule`.
"""

from deconvviz.engine.rules.base import Call, Rule, Verdict, lookup, rule

__all__ = ["Call", "Rule", "Verdict", "lookup", "rule"]

# Importing the files fills the registry.
from deconvviz.engine.rules import activation, convolution, linear, pooling, shape  # noqa: F401
