"""Second implementation of guided backpropagation (Springenberg et al. 2014), and of the plain gradient.

Guided backpropagation differs from the gradient in ReLU alone. `Guided` is a torch function mode that
replaces every call of ReLU: modules, functions, in-place calls, clamps at 0, and ReLUs composed of simple
calls, such as ``x * (x > 0)`` (`Origins`). It shares no code with the engine.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deconvviz.verification.origins import TIMES, Origins, forms, is_zero, overwrites
from deconvviz.verification.unverifiable import Unverifiable

_T = torch.Tensor


class GuidedReLU(torch.autograd.Function):
    """ReLU with the gradient of guided backpropagation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        (positive,) = ctx.saved_tensors
        return signals[0].clamp_min(0) * positive


class Guided(TorchFunctionMode):
    """Mode in which the gradients of a forward pass are those of guided backpropagation."""

    RELU = (*forms("relu"), F.relu_)
    CLAMPED = forms("clamp", "clamp_min", "clip")
    THRESHOLD = forms("threshold")
    LARGER = forms("maximum", "fmax", "max")
    CHOICE = (torch.where, _T.where)
    BLANKED = forms("masked_fill")

    def __init__(self) -> None:
        super().__init__()
        self.origins = Origins()

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        origins = self.origins.after(call, args, kwargs)
        x = self._rectified(call, args, kwargs)
        if x is None:
            result = call(*args, **kwargs)
        else:
            result = GuidedReLU.apply(x.clone())
            in_place = overwrites(call) or kwargs.get("inplace") or (call is F.relu and True in args[1:])
            if in_place:
                result = x.copy_(result)
            if call is _T.__setitem__:
                return None
        self.origins.note(result, origins)
        return result

    def _rectified(self, call: Any, args: Any, kwargs: Any) -> Tensor | None:
        """Return x if a call computes max(x, 0), else None."""
        x = args[0] if args else kwargs.get("input")
        rest = args[1:]
        if call in self.RELU:
            return _tensor(x)
        if call in self.CLAMPED:
            return _tensor(x) if _at_zero(*rest, **kwargs) else None
        if call in self.THRESHOLD:
            return _tensor(x) if _both_zero(*rest, **kwargs) else None
        if call in self.LARGER and len(args) == 2 and isinstance(args[1], Tensor):
            return next((one for one, floor in (args, args[::-1]) if is_zero(floor)), None)
        if call in TIMES and len(args) == 2:
            return next(
                (one for one, mask in (args, args[::-1]) if self.origins.sign(mask, one) == "above"), None
            )
        if call in self.CHOICE and len(args) == 3:
            mask, one, other = args if call is torch.where else (args[1], args[0], args[2])
            for value, zero, side in ((one, other, "above"), (other, one, "below")):
                if is_zero(zero) and self.origins.sign(mask, value) == side:
                    return _tensor(value)
        if call in (*self.BLANKED, _T.__setitem__) and len(args) == 3:
            mask, value = args[1], args[2]
            return _tensor(x) if is_zero(value) and self.origins.sign(mask, x) == "below" else None
        return None


def audit_gradient(node: Any, known: set[Any], *, guided: bool) -> None:
    """Raise Unverifiable for a node between here and the images that has a gradient of its own.

    A custom autograd function may have any gradient. With `guided`, a ReLU that the mode did not see, such as
    one in a jit script, also raises.
    """
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        name = node.name().rpartition("::")[2]
        custom = isinstance(node, torch.autograd.function.BackwardCFunction)
        if custom and name != "GuidedReLUBackward":
            raise Unverifiable(f"there is no second implementation of {name}")
        if guided and name.startswith(("ReluBackward", "ThresholdBackward")):
            raise Unverifiable(f"a call of {name} cannot be replaced")
        waiting += [source for source, _ in node.next_functions]


def _tensor(x: Any) -> Tensor | None:
    return x if isinstance(x, Tensor) else None


def _at_zero(min: Any = None, max: Any = None, **options: Any) -> bool:
    return max is None and min is not None and is_zero(min)


def _both_zero(threshold: Any = None, value: Any = None, *rest: Any, **options: Any) -> bool:
    return bool(threshold == 0 == value)
