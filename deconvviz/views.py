"""Interactive views that nouns of the API open, such as `Network.explore`.

A view is in a room above the noun, so it is imported by name when it is opened.
"""

from __future__ import annotations

import importlib
from typing import Any

_VIEWS = {"explorer": ("deconvviz.web.explorer.widget", "explorer")}


def open_view(name: str, *given: Any, **settings: Any) -> Any:
    """Open a view and return it."""
    module, function = _VIEWS[name]
    return getattr(importlib.import_module(module), function)(*given, **settings)
