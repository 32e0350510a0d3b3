"""Progress display of a search: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from deconvviz.cli.support.console import PATIENCE, Counter, print_message

if TYPE_CHECKING:
    from deconvviz.dataset_search.progress import Progress


# Below this fraction of the slower part's rate, neither part is the bottleneck. Taking turns reaches 0.5.
IDLE = 0.4


class SearchProgress:
    """Progress callback of `search`.

    `last` is the last report, or None if there was nothing left to search. `more_workers` states whether
    more reading processes could be faster. `noun` is what one input is called.
    """

    def __init__(self, *, more_workers: bool, quiet: bool, noun: str = "image") -> None:
        self.last: Progress | None = None
        self.seconds = 0.0  # from the first image to the last
        self._advice = "; increase --workers" if more_workers else ", but no core is free for more workers"
        self._quiet = quiet
        self._noun = noun
        self._last_line: float | None = None
        self._bar: Any = None

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        self.last, self.seconds = progress, now - progress.begun
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._draw(progress)
        elif self.seconds >= PATIENCE and (self._last_line is None or now - self._last_line >= Counter.EVERY):
            self._last_line = now
            print_message(f"deconvviz: {self.line(progress)}")

    def line(self, progress: Progress) -> str:
        """Return counts, rates and time left as one line of text."""
        left = f", about {duration(progress.left)} left" if progress.done < progress.total else ""
        return (
            f"{progress.done:,} of {progress.total:,} {self._noun}s, {pace(progress.rate)}{left}; "
            f"{self.parts(progress)}"
        )

    def parts(self, progress: Progress) -> str:
        """Return the rates of reading and of the network, and which of the two limits the search."""
        rates = f"reading {pace(progress.reading_rate)}, network {pace(progress.network_rate)}; "
        if progress.rate < IDLE * min(progress.reading_rate, progress.network_rate):
            return f"{rates}neither is the limit: most of the time is start-up and data transfer"
        advice = self._advice if progress.limit == "reading" else ""
        return f"{rates}{progress.limit} is the limit{advice}"

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _bar(progress)
            self._bar.start()
        skipped = f", {progress.skipped:,} skipped" if progress.skipped else ""
        self._bar.update(
            self._bar.task_ids[0],
            completed=progress.done,
            rate=pace(progress.rate) + skipped,
            left=f"{duration(progress.left)} left"
            if progress.done < progress.total
            else "writing the results",
            parts=self.parts(progress),
        )


def _bar(progress: Progress) -> Any:
    """Return a display of two lines: a bar with rate and time left, and below it the rates of both parts."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    class TwoLines(Bar):
        def get_renderables(self) -> Any:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                yield str(task.fields["parts"])

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    bar = TwoLines(*columns, console=Console(stderr=True, highlight=False), transient=True)
    bar.add_task("", total=progress.total, completed=progress.done, rate="", left="", parts="")
    return bar


def pace(rate: float) -> str:
    """Return a rate per second as text."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def duration(seconds: float) -> str:
    """Return a number of seconds as text in hours, minutes and seconds."""
    if seconds != seconds:  # NaN: not yet known
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
