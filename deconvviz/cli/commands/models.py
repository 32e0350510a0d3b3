"""``deconvviz models``: the available networks and where their weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deconvviz.cli.support.console import print_json, print_message, print_table, stage
from deconvviz.cli.support.options import Json, Verbose

if TYPE_CHECKING:
    from deconvviz.models.providers.provider import ListedModel


def models(json: Json = False, verbose: Verbose = False) -> None:
    """List the networks for --model and where their default weights are.

    The weights ship inside deconvviz, are cached from an earlier download or
    have to be downloaded. With --weights random or --weights FILE, every
    network works without an internet connection.

    --model also accepts timm:NAME (needs the extra "timm" of deconvviz) and
    path/to/file.py:factory, a function that returns a network. This runs
    the code in that file.
    """
    with stage("importing torch"):
        from deconvviz.models.providers import PROVIDERS

        found = [one for provider in PROVIDERS for one in provider.listed()]
    if json:
        print_json({"models": [_as_json(one) for one in found]})
        return
    rows: list[tuple[str, ...]] = [
        (one.name, one.weights or "trained for deconvviz", _where(one)) for one in found
    ]
    print_table(("network", "default weights", "where"), rows)
    print_message(
        "--model also accepts timm:NAME (pip install 'deconvviz[timm]') and path/to/file.py:factory, "
        "which runs the code in that file."
    )


def _as_json(one: ListedModel) -> dict[str, object]:
    return {
        "name": one.name,
        "weights": one.weights,
        "ships_inside": one.ships_inside,
        "cached": str(one.cached) if one.cached else None,
        "download_mb": one.download_mb,
    }


def _where(one: ListedModel) -> str:
    if one.ships_inside:
        return "ships inside"
    return f"cached: {one.cached}" if one.cached else f"download of {one.download_mb:.0f} MB"
