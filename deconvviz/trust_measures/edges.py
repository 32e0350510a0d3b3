"""Edges of an image: a map that does not depend on the network."""

from __future__ import annotations

import numpy as np

from deconvviz.trust_measures.place import Place
from deconvviz.trust_measures.statistics import Array


def edges(place: Place) -> Array:
    """Return the strength of the edges of the prepared image (H, W): a Sobel filter on the mean colour."""
    from skimage.filters import sobel

    grey = place.inputs[0].double().mean(dim=0).numpy()
    found: Array = np.abs(sobel(grey))
    return found
