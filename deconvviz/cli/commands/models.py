"""``deconvviz models``: which networks can be named, and which need a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deconvviz.cli.support.console import print_json, print_table, say, stage
from deconvviz.cli.support.options import Json, Verbose

if TYPE_CHECKING:
    from deconvviz.models.providers.provider import ListedModel


def models(json: Json = False, verbose: Verbose = False) -> None:
    """List the networks that --model knows, and where their default weights are.

    "ships inside": no download. "cached": downloaded already. Otherwise the size of the download. With
    --weights random or --weights FILE any of them works without a network connection.

    --model also takes timm:NAME, one of timm's networks (pip install 'deconvviz[timm]'), and
    path/to/file.py:factory, a function of your own that returns a network: the code in that file is run.
    """
    with stage("importing torch"):
        from deconvviz.models.providers import PROVIDERS

        found = [one for provider in PROVIDERS for one in provider.listed()]
    if json:
        print_json({"models": [_as_json(one) for one in found]})
        return
    rows: list[tuple[str, ...]] = [(one.name, one.weights or "trained by us", _where(one)) for one in found]
    print_table(("network", "default weights", "where"), rows)
    say(
        "--model also takes timm:NAME (pip install 'deconvviz[timm]') and path/to/file.py:factory, "
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
