"""Networks of modules that other libraries pass, for inputs that are prepared tensors."""

from __future__ import annotations

from torch import Tensor, nn

from deconvviz.errors import ImageError
from deconvviz.network import Network


def network_of(model: nn.Module | Network, images: Tensor, before: Network | None = None) -> Network:
    """Return a network for prepared images (N, C, H, W) of this size.

    `before` is the result of an earlier call for the same model; it is returned if its size fits.

    Raises:
        ImageError: If the images are not a tensor with four axes.
        NetworkError: If the module cannot be recorded.
    """
    if isinstance(model, Network):
        return model
    if images.dim() != 4:
        raise ImageError(f"the inputs must have the shape (N, C, H, W), not {tuple(images.shape)}")
    shape = tuple(images.shape[1:])
    if before is not None and before.preprocessing.shape == shape:
        return before
    channels, rows, columns = shape
    return Network(model, size=(rows, columns), mean=(0.0,) * channels, std=(1.0,) * channels)
