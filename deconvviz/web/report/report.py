"""Write a report: one HTML file made of results, which opens with a browser and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvviz.errors import FigureError, NetworkError
from deconvviz.files import write_text
from deconvviz.results import Result
from deconvviz.web.page import render
from deconvviz.web.report.blocks import given
from deconvviz.web.report.compose import compose
from deconvviz.web.report.target import checked_target

if TYPE_CHECKING:
    from deconvviz.network import Network

_PROTOCOL = ("figure", "spec", "describe", "places")


def report(
    results: Result[Any] | Sequence[Result[Any]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    notes: str = "",
    network: Network | None = None,
    command: str = "",
    force: bool = False,
) -> Path:
    """Write a report: one HTML file that opens in a browser without a server and without network.

    Projections of one image each come first, grouped by image: what the network takes the image for, its
    units as cards, and how far to trust them. All other results follow in the given order. If a `TopNine` of
    the same network shows the channel of a card, the card shows the strongest images of this channel.

    Args:
        results: One or several results of any kind: `Projection`, `Comparison`, `Trust`, `TopNine`.
        path: File of the report, ending in .html.
        title: Title. Default: the names of the images and of the network.
        notes: Text below the title. Each line is a paragraph.
        network: The network of the results. If it is given, the report lists all its layers, draws them to
            the scale of their receptive fields, and lists all operations of the projections.
        command: Command line that makes the whole report again, if there is one.
        force: Overwrite an existing file.

    Returns:
        The path of the file.

    Raises:
        FigureError: If there is no result, or something is not a result or cannot be drawn.
        NetworkError: If no result is from `network`.
        OutputError: If the file exists or cannot be written.
    """
    target = checked_target(path, force=force)
    for name, text in (("title", title or ""), ("notes", notes), ("command", command)):
        if not isinstance(text, str):
            raise FigureError(f"the {name} must be text, not {text!r}")
    every = _checked(results)
    found = [given(number, one, target.parent) for number, one in enumerate(every, 1)]
    if network is not None and network.digest not in {one.network for one in found}:
        raise NetworkError(
            f"no result is from the network {network.name} with its current weights. Give the network of the "
            "results, or leave it out"
        )
    document = compose(found, title=title, notes=notes, network=network, command=command)
    page = render("report.html", styles=["base.css", "report.css"], scripts=["report.js"], document=document)
    return write_text(target, page, force=force)


def _checked(results: Any) -> list[Any]:
    """Return results as a list. Raises FigureError."""
    if _is_result(results):
        return [results]
    every = list(results) if isinstance(results, Sequence) and not isinstance(results, str) else None
    if every is None:
        raise FigureError(
            f"a report is made of results, not of {type(results).__name__}. Give a list of results"
        )
    if not every:
        raise FigureError("a report needs at least one result, such as a projection")
    for number, one in enumerate(every, 1):
        if not _is_result(one):
            raise FigureError(
                f"result {number} is {type(one).__name__}, which cannot be drawn. Give results, such as the "
                "projections of Recording.project"
            )
    return every


def _is_result(one: Any) -> bool:
    return not isinstance(one, type) and all(callable(getattr(one, name, None)) for name in _PROTOCOL)
