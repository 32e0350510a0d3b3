"""Progress bars in notebooks, for calls without a progress callback of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any, TypeAlias

Report: TypeAlias = Callable[[int, int], None]
"""Progress callback: number of finished steps and number of all steps."""

_PATIENCE = 0.5  # seconds until the bar appears
_PERIOD = 0.1  # seconds between two updates


def or_bar(report: Report | None, text: str) -> Report | None:
    """Return `report` if it is given; otherwise a bar in a notebook, and None elsewhere."""
    return report if report is not None or not in_notebook() else NotebookBar(text)


def in_notebook() -> bool:
    """Return whether this code runs in a notebook kernel. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """Bar below the cell that is running. It appears only if the work takes longer than a moment."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._begun = self._last = time.monotonic()
        self._shown: Any = None  # a display handle of IPython

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._begun < _PATIENCE or (now - self._last < _PERIOD and done < total):
            return
        self._last = now
        content = {"text/html": self.html(done, total, now - self._begun), "text/plain": self._text}
        if self._shown is None:
            from IPython.display import display

            self._shown = display(content, raw=True, display_id=True)
        else:
            self._shown.update(content, raw=True)

    def html(self, done: int, total: int, seconds: float) -> str:
        """Return the bar as HTML."""
        left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
        text = escape(f"{self._text}: {done:,} of {total:,} in {seconds:.0f} s{left}")
        return f'<progress value="{done}" max="{max(total, 1)}"></progress> <span>{text}</span>'
