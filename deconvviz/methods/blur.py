"""The blurred picture that contributions and measures of trust compare a picture with."""

from __future__ import annotations

import torch
from torch import Tensor

BLUR = 16
"""The deviation of the Gaussian is the shorter side of the input divided by this number."""


def blurred(inputs: Tensor) -> Tensor:
    """Return prepared pictures (B, C, H, W), blurred with a Gaussian. Edges are continued at the border."""
    from scipy.ndimage import gaussian_filter

    deviation = max(1.0, min(inputs.shape[-2:]) / BLUR)
    smooth = gaussian_filter(
        inputs.detach().cpu().double().numpy(), (0, 0, deviation, deviation), mode="nearest"
    )
    return torch.from_numpy(smooth).to(inputs.device, inputs.dtype)
