"""Tick values and tick labels of an axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_STEPS = (1.0, 2.0, 2.5, 5.0)


def ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return at most `most` round numbers from `low` to `high`.

    Steps are 1, 2, 2.5 or 5 times a power of ten. The result has at least one number, and at least two if
    `most` is 4 or more.
    """
    exponent = math.floor(math.log10(high / most - low / most))
    for power in range(exponent - 1, exponent + 3):
        for digits in _STEPS:
            step = _multiple(1, digits, power)
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return tuple(_multiple(number, digits, power) for number in range(first, last + 1))
    raise AssertionError(f"no ticks from {low} to {high}")  # the last step is longer than the axis


def tick_labels(values: Sequence[float]) -> tuple[str, ...]:
    """Return the ticks as text, with the fewest digits that represent them exactly."""
    step = min((b - a for a, b in itertools.pairwise(values)), default=abs(values[0]))
    for digits in range(3, 17):
        labels = [_formatted(value, digits) for value in values]
        if all(abs(float(label) - value) <= 1e-6 * step for label, value in zip(labels, values, strict=True)):
            break
    return tuple(label.replace("-", "−", 1) if label.startswith("-") else label for label in labels)


def _formatted(value: float, digits: int) -> str:
    label = f"{value:.{digits}g}"
    return f"{float(label):.0f}" if "e" in label and 1 <= abs(value) < 1e6 else label


def _multiple(number: int, digits: float, power: int) -> float:
    """Return number * digits * 10**power without the rounding error of a negative power."""
    return number * digits * 10.0**power if power >= 0 else number * digits / 10.0**-power
