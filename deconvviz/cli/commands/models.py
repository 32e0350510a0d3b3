"""``deconvviz models``: which networks can be named, and which need a download."""

from __future__ import annotations

from deconvviz.cli.support.console import print_json, print_table, say, stage
from deconvviz.cli.support.options import Json


def models(json: Json = False) -> None:
    """List the networks that --model knows, and where their default weights are.

    "ships inside": no download. "cached": downloaded already. Otherwise the size of the download. With
    --weights random or --weights FILE any of them works without a network connection.

    --model also takes timm:NAME, one of timm's networks (pip install 'deconvviz[timm]'), and
    path/to/file.py:factory, a function of your own that returns a network: the code in that file is run.
    """
    with stage("importing torch"):
        from deconvviz.models.downloads import cached, download_size
        from deconvviz.models.torchvision_models import default_entry, model_names
    found: list[dict[str, object]] = []
    for name in model_names():
        entry = default_entry(name)
        place = cached(name)
        found.append(
            {
                "name": name,
                "weights": entry.name if entry else None,
                "ships_inside": entry is None,
                "cached": str(place) if place else None,
                "download_mb": download_size(name),
            }
        )
    if json:
        print_json({"models": found})
        return
    rows: list[tuple[str, ...]] = [
        (str(one["name"]), str(one["weights"] or "trained by us"), _where(one)) for one in found
    ]
    print_table(("network", "default weights", "where"), rows)
    say(
        "--model also takes timm:NAME (pip install 'deconvviz[timm]') and path/to/file.py:factory, "
        "which runs the code in that file."
    )


def _where(one: dict[str, object]) -> str:
    if one["ships_inside"]:
        return "ships inside"
    return f"cached: {one['cached']}" if one["cached"] else f"download of {one['download_mb']:.0f} MB"
