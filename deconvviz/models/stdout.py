"""Redirection of what user code prints: stdout is reserved for results."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_lock = threading.Lock()
_inside = 0
_before: TextIO | None = None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr inside the context, which several threads may share."""
    global _inside, _before
    with _lock:
        if not _inside:
            _before, sys.stdout = sys.stdout, sys.stderr
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _before is not None:
                sys.stdout, _before = _before, None
