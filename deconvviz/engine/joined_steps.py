"""Join each convolution with the batch norm after it, which scales the weights in place of the signal.

In evaluation mode a batch norm multiplies each channel by a constant. A signal is usually much larger than
the weights of a convolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deconvviz.engine.layout import Window
from deconvviz.engine.rules.convolution import Convolution
from deconvviz.engine.rules.normalisation import BatchNorm
from deconvviz.engine.tape import Step


class NormalisedConvolution(Convolution):
    """y = (W * x + b - mean) / std * scale + shift; projection: that of W * scale / std."""

    returns_new = True

    def __init__(self, convolution: Convolution, norm: BatchNorm) -> None:
        vars(self).update(vars(convolution))
        self._convolution, self._norm = convolution, norm

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if signal.numel() >= self.weight.numel():
            return super().project(signal, window, input_windows)
        scaled = self._norm.project(signal, window, [window])[0]
        assert scaled is not None
        return self._convolution.project(scaled, window, input_windows)

    def filters(self, signal: Tensor) -> Tensor:
        factor = self._norm.of_channels().to(signal.dtype)
        return super().filters(signal) * factor.reshape(-1, *[1] * (self.weight.dim() - 1))


def joined(path: Sequence[Step]) -> list[Step]:
    """Return a path with each convolution and the batch norm after it as one step.

    They stay apart if another step of the path reads the output of the convolution.
    """
    readers = Counter(below for step in path for below in step.inputs if below is not None)
    makers = {step.output: step for step in path}
    replaced: set[int] = set()
    steps = []
    for step in path:
        below = step.inputs[0] if step.inputs else None
        before = makers.get(below) if below is not None and readers[below] == 1 else None
        if before is not None and (rule := _joined_rule(before, step)) is not None:
            replaced.add(before.output)
            step = replace(before, output=step.output, rule=rule)
        steps.append(step)
    return [step for step in steps if step.output not in replaced]


def _joined_rule(before: Step, step: Step) -> NormalisedConvolution | None:
    """Return the rule of two steps together; None if they are not a convolution and a fixed batch norm."""
    one, two = before.rule, step.rule
    if type(one) is not Convolution or type(two) is not BatchNorm:
        return None
    if before.unsupported_reason() or step.unsupported_reason():
        return None
    return NormalisedConvolution(one, two)
