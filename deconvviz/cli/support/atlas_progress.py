"""Progress display of an atlas: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from deconvviz.cli.support.console import PATIENCE, Counter, print_message
from deconvviz.cli.support.progress import duration

if TYPE_CHECKING:
    from deconvviz.web.atlas.progress import AtlasProgress


class AtlasDisplay:
    """Progress callback of `atlas`. `last` is the last report, or None if there was nothing to do."""

    def __init__(self, *, quiet: bool) -> None:
        self.last: AtlasProgress | None = None
        self.seconds = 0.0
        self._quiet = quiet
        self._last_line: float | None = None
        self._bar: Any = None

    def __enter__(self) -> AtlasDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: AtlasProgress) -> None:
        now = time.monotonic()
        self.last, self.seconds = progress, now - progress.begun
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._draw(progress)
        elif self.seconds >= PATIENCE and (self._last_line is None or now - self._last_line >= Counter.EVERY):
            self._last_line = now
            print_message(f"deconvviz: {line(progress)}")

    def _draw(self, progress: AtlasProgress) -> None:
        if self._bar is None:
            self._bar = _bar(progress)
            self._bar.start()
        pages = progress.pages > 0 or progress.done >= progress.total
        self._bar.update(
            self._bar.task_ids[0],
            completed=progress.pages if pages else int(progress.done),
            rate="writing the pages" if pages else f"{progress.rate:.2g} units/s",
            left="" if pages else f"{duration(progress.left)} left",
        )


def line(progress: AtlasProgress) -> str:
    """Return counts, rate and time left as one line of text."""
    total = f"{progress.total:,}"
    if progress.pages or progress.done >= progress.total:
        return f"writing the pages: {progress.pages:,} of {total} units"
    left = f", about {duration(progress.left)} left" if progress.made else ""
    return f"{int(progress.done):,} of {total} units, {progress.rate:.2g} units/s{left}"


def _bar(progress: AtlasProgress) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    bar = Bar(*columns, console=Console(stderr=True, highlight=False), transient=True)
    bar.add_task("", total=progress.total, completed=int(progress.done), rate="", left="")
    return bar
