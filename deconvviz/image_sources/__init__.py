"""Sources of images for a dataset search, one module for each kind. `Source` is their common interface."""

from deconvviz.image_sources.opening import Given, open_source, reopen
from deconvviz.image_sources.source import Source

__all__ = ["Given", "Source", "open_source", "reopen"]
