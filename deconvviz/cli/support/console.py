"""Console output of commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from deconvviz.cli.support.details import detail
from deconvviz.printable_names import (
    json_text,
    path_to_text,
    printable,
    printable_path,
    register_stream_errors,
)

PATIENCE = 2.0  # seconds of silence before progress is shown


def escape_unencodable_characters() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, e.g. in the C locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=register_stream_errors())


def print_message(text: str) -> None:
    """Print lines of text on stderr."""
    _write(text, sys.stderr)


def print_text(text: str = "") -> None:
    """Print lines of text on stdout."""
    _write(text, sys.stdout)


def _write(text: str, stream: TextIO) -> None:
    # Without `file`, typer writes UTF-8 even if the terminal has another encoding
    typer.echo("\n".join(map(printable, text.split("\n"))), file=stream)


def print_note(text: str, *, quiet: bool) -> None:
    """Print a note on stderr unless `quiet`."""
    if not quiet:
        print_message(f"deconvviz: {printable(text)}")


def print_json(value: object) -> None:
    """Print one JSON object on stdout."""
    only_ascii = not sys.stdout.encoding.lower().startswith("utf")
    typer.echo(json_text(value, only_ascii=only_ascii), file=sys.stdout)


def paths_as_json(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return paths as text for `print_json`."""
    return [path_to_text(path) for path in paths]


def print_paths(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Print paths on stdout, one per line."""
    for path in paths:
        print_text(printable_path(path))


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    """Print aligned columns on stdout, never truncated. `right` has the indices of right-aligned columns."""
    shown = [tuple(map(printable, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    for row in shown:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print_text("  ".join(cells).rstrip())


@contextmanager
def stage(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Print `text` on stderr if the block takes longer than `PATIENCE` seconds."""
    begun = time.monotonic()
    timer = threading.Timer(PATIENCE, print_message, [f"deconvviz: {printable(text)} ..."])
    timer.daemon = True
    if not quiet:
        timer.start()
    try:
        yield
        detail(f"{text}: {time.monotonic() - begun:.2f} s")
    finally:
        timer.cancel()


@contextmanager
def counting(total: int, *, quiet: bool = False) -> Iterator[Counter]:
    """Show the progress of `total` steps: a bar on a terminal, otherwise a line every few seconds."""
    counter = Counter(total, quiet=quiet)
    begun = time.monotonic()
    try:
        yield counter
        detail(f"recording, projecting and drawing: {time.monotonic() - begun:.2f} s")
    finally:
        counter.close()


class Counter:
    """Progress display for a known number of steps."""

    EVERY = 10.0  # seconds between lines if stderr is not a terminal

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._done, self._quiet = total, 0, quiet
        self._begun = self._last_line = time.monotonic()
        self._bar: Any = None

    def step(self, text: str) -> None:
        """Show that the next step, described by `text`, starts."""
        self._show(printable(text))
        self._done += 1

    def reach(self, done: int, total: int, text: str = "") -> None:
        """Show that `done` of `total` steps are complete. A bar also shows `text`."""
        self._done, self._total = done, total
        self._show(text)

    def _show(self, text: str) -> None:
        now = time.monotonic()
        if self._quiet or now - self._begun < PATIENCE or self._total < 2:
            return
        if sys.stderr.isatty():
            self._draw(text)
        elif now - self._last_line >= self.EVERY or self._last_line == self._begun:
            self._last_line = now
            print_message(f"deconvviz: {self._done} of {self._total} done{self._left(now)}")

    def _left(self, now: float) -> str:
        if not self._done:
            return ""
        left = (now - self._begun) / self._done * (self._total - self._done)
        return f", about {left:.0f} s left"

    def _draw(self, text: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(text, total=self._total)
        self._bar.update(self._task, description=text, completed=self._done, total=self._total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
