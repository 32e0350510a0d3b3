"""How many units to project together, so that their work is large compared with what each batch costs.

A larger batch is hardly faster, and needs more memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from deconvviz.engine.layout import Window
from deconvviz.engine.rules.convolution import Filter
from deconvviz.engine.tape import Step

# Seconds, roughly, on a CPU. They were measured with two threads of an AMD EPYC.
_STEP = 4e-4  # to divide a batch and to call a step
_WEIGHT = 4e-9  # to prepare a number of the weight of a convolution
_MULTIPLY_ADD = 1e-11
_BYTE = 5e-11  # of a signal
_RATIO = 10  # of the work of a batch to what it costs besides


def enough_units(
    path: Sequence[Step], windows: Mapping[int, Window], values: Collection[int], element: int
) -> list[float]:
    """Return, for each step, how many units make up a batch that is projected from there to the pixels.

    Args:
        path: The steps, in forward order.
        windows: Windows of all units, in which each value has the size of the largest.
        values: Values that receive a signal.
        element: Bytes of a number.

    Returns:
        One number for each step; less than 1 where a unit is more than enough.
    """
    costs = work = 0.0
    found = []
    for step in path:
        window = windows[step.output]
        weights = step.rule.weight.numel() if isinstance(step.rule, Filter) else 0
        positions = math.prod([window.size[axis] for axis in window.layout.tracked])
        signals = signal_count(step, windows, values)
        costs += _STEP + weights * _WEIGHT
        work += weights * positions * _MULTIPLY_ADD + signals * element * _BYTE
        found.append(_RATIO * costs / max(work, _BYTE))
    return found


def signal_count(step: Step, windows: Mapping[int, Window], values: Collection[int]) -> int:
    """Return the numbers in the signals of one unit at the output and the arguments of a step."""
    own = [step.output, *dict.fromkeys(step.inputs)]
    return sum([windows[one].count for one in own if one is not None and one in values])
