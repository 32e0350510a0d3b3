"""Where a search's pictures come from. One file a kind; `Source` is what they have in common."""

from deconvviz.image_sources.opening import open_source, reopen
from deconvviz.image_sources.source import Source

__all__ = ["Source", "open_source", "reopen"]
