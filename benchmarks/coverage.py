"""Coverage of the networks of torchvision and timm: which operations have exact or approximate rules?

Every network is built without weights and run once on an empty image, as `deconvviz check` does. "calls"
is the number of calls that take part in the projection of any layer, and "exact" is the share of them
that have an exact rule. If operations are unsupported, the table names the one nearest to the image.

A family is a module of torchvision, with all its networks, or a module of timm, with some of its
networks (--each). Only convolutional modules of timm are included: at least a quarter of the layers with
a weight matrix must be convolutions. A vision transformer has only one convolution, its first layer.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn
from torchvision import models

import deconvviz as dv
from deconvviz.errors import NetworkError
from deconvviz.loading import sketch

HEAD = ("family", "networks", "calls", "exact", "approximate", "unsupported")


@dataclass(frozen=True)
class Family:
    """Coverage of the networks of one family."""

    name: str
    found: tuple[dv.Coverage, ...]
    failed: tuple[str, ...] = ()  # errors of networks that do not run on meta tensors

    def row(self) -> tuple[str, ...]:
        calls = sum(one.calls for one in self.found)
        exact = sum(use.count for one in self.found for use in one.exact)
        return (
            self.name,
            str(len(self.found)),
            str(calls),
            f"{percent(exact, calls)} %",
            ", ".join(unique(use.short for one in self.found for use in one.approximate)) or "–",
            self._unsupported() or "–",
        )

    def _unsupported(self) -> str:
        """Return the unsupported operations nearest to the image, and in how many networks they occur."""
        uses = [one.unsupported[0] for one in self.found if one.unsupported]
        text = "; ".join(unique(f"{use.short} ({use.note.partition(':')[0]})" for use in uses))
        if text and len(uses) < len(self.found):
            text = f"in {len(uses)} of {len(self.found)}: {text}"
        return "; ".join([*([text] if text else []), *(f"not run: {reason}" for reason in self.failed)])


def percent(part: int, whole: int) -> str:
    """Return a percentage, rounded down so that 100 means all."""
    return f"{1000 * part // whole / 10:g}" if whole else "0"


def unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table in Markdown, as in the documentation"
    )
    parser.add_argument("--each", type=int, default=3, help="number of networks for each family of timm")
    parser.add_argument("--only", default="", help="only families whose name contains this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = perf_counter()
    families = [*torchvision_families(options.only), *timm_families(options.only, options.each)]
    if options.markdown:
        print_markdown(families)
    else:
        print_plain([family.row() for family in families])
    networks = sum(len(family.found) for family in families)
    print(f"{networks} networks in {perf_counter() - start:.0f} s", file=sys.stderr)


def torchvision_families(only: str) -> Iterator[Family]:
    """Yield the classification networks of torchvision by module, then its segmentation networks."""
    names: dict[str, list[str]] = {}
    for name in models.list_models(module=models):
        names.setdefault(module_of(name), []).append(name)
    for name in models.list_models(module=models.segmentation):
        names.setdefault(f"segmentation.{module_of(name)}", []).append(name)
    for family, members in names.items():
        if only in family:
            make = segmentation if family.startswith("segmentation.") else sketch
            yield survey(family, [make(name) for name in members])


def module_of(name: str) -> str:
    return str(models.get_model_builder(name).__module__).rpartition(".")[2]


def segmentation(name: str) -> dv.Network:
    with torch.device("meta"):
        module = models.get_model(name, weights=None, weights_backbone=None)
    return dv.Network(module, size=224, name=name)


def timm_families(only: str, each: int) -> Iterator[Family]:
    """Yield the families of convolutional networks of timm, if timm is installed."""
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed: its families are skipped", file=sys.stderr)
        return
    import timm

    for module in timm.list_modules():
        members = timm.list_models(module=module)
        if not members or only not in f"timm {module}":
            continue
        if convolutional(sketch(f"timm:{members[0]}").module):
            chosen = unique(members[len(members) * n // each] for n in range(each))
            yield survey(f"timm {module}", [sketch(f"timm:{name}") for name in chosen])


def convolutional(module: nn.Module) -> bool:
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    return 3 * convolutions >= sum(isinstance(part, nn.Linear) for part in module.modules())


def survey(family: str, networks: Iterable[dv.Network]) -> Family:
    found, failed = [], []
    for network in networks:
        try:
            found.append(network.coverage())
        except NetworkError as reason:
            failed.append(str(reason))
    return Family(family, tuple(found), tuple(failed))


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[n]) for row in (HEAD, *rows)) for n in range(len(HEAD) - 2)]
    for row in (HEAD, *rows):
        short = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print(
            "  ".join(
                [*short, row[-2], *(["· unsupported: " + row[-1]] if row[-1] not in ("–", HEAD[-1]) else [])]
            )
        )


def print_markdown(families: Sequence[Family]) -> None:
    """Print a Markdown table; families of timm with equal last two columns share a row."""
    groups: dict[tuple[str, ...], list[Family]] = {}
    for family in families:
        library = family.name if not family.name.startswith("timm ") else "timm"
        groups.setdefault((library, *family.row()[-2:]), []).append(family)
    merged = [
        Family(
            "timm " + ", ".join(f"`{family.name.removeprefix('timm ')}`" for family in members)
            if key[0] == "timm"
            else f"`{key[0]}`",
            tuple(one for family in members for one in family.found),
            tuple(one for family in members for one in family.failed),
        )
        for key, members in groups.items()
    ]
    for row in (HEAD, ("---",) * len(HEAD), *(family.row() for family in merged)):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
