"""Check that what a rule assumes about a call reproduces its recorded output.

Some rules measure an operation by running it, or recompute it. If the result differs from the recorded
output, the projection would be wrong, so the call is unsupported.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the largest value
COARSE = 3e-2  # float16, bfloat16

MISMATCH = "its rule does not reproduce the recorded output"
NOT_FINITE = "its rule cannot be checked, because the recorded output holds NaN or infinity"


def mismatch(expected: Tensor, recorded: Tensor) -> str:
    """Return why two tensors differ by more than rounding, as a clause; an empty string if they do not."""
    if expected.is_meta or recorded.is_meta:
        return ""  # meta tensors have no values to compare
    if not bool(recorded.isfinite().all()):
        return NOT_FINITE
    if expected.shape != recorded.shape:
        return MISMATCH
    apart = (expected.double() - recorded.double()).abs()
    tolerance = TOLERANCE.get(recorded.dtype, COARSE)
    largest = recorded.abs().max().double() if recorded.numel() else 0.0
    return "" if bool((apart <= tolerance * largest).all()) else MISMATCH


def linear_mismatch(apply: Callable[[Tensor], Tensor], before: Tensor, after: Tensor, axes: int = 2) -> str:
    """Return why a linear map over the last dimensions does not reproduce an output; empty if it does.

    `before` (..., H, W) and `after` (..., h, w) are the recorded maps, with `axes` dimensions. The map is the
    same for all channels, so one weighted sum of all channels and images is compared: this costs a fraction
    of the operation itself.
    """
    if before.is_meta or after.is_meta or not before.is_floating_point():
        return ""
    numbers = torch.arange(before.shape[:-axes].numel(), dtype=torch.float64, device="cpu")
    weights = (numbers.square() + numbers).cos()  # a different weight for each channel
    mixed_before, mixed_after = (_mixed(tensor, weights, axes) for tensor in (before, after))
    if not bool(mixed_after.isfinite().all()):
        return NOT_FINITE
    apart = (
        (apply(mixed_before) - mixed_after).abs().max() if mixed_after.numel() else mixed_after.new_zeros(())
    )
    scale = torch.maximum(mixed_after.abs().max(), mixed_before.abs().max()) if mixed_after.numel() else 0.0
    return "" if bool(apart <= TOLERANCE.get(after.dtype, COARSE) * scale) else MISMATCH


def _mixed(tensor: Tensor, weights: Tensor, axes: int) -> Tensor:
    """Return the weighted sum of all maps, (..., H, W) -> (H, W) float64 on the CPU."""
    flat = tensor.detach().reshape(len(weights), -1)  # (N, H * W)
    wide = flat if flat.dtype in TOLERANCE else flat.float()
    return (weights.to(wide) @ wide).double().cpu().reshape(tensor.shape[-axes:])
