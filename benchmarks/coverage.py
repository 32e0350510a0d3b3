"""Which networks have an exact way down, which one by analogy, and where is it refused?

Every network is built without weights and run once on an empty picture, as `deconvviz check` does. "calls"
are those that take part in a way down from any layer, "exact" is how many of them are. Of what is refused
the operation nearest to the picture is named.

Torchvision's families are its modules, with all their networks. timm's are those of its modules where at
least a quarter of the parts with a matrix of weights are convolutions (a vision transformer has one, at its
foot), with some networks of each (--each).
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

HEAD = ("family", "networks", "calls", "exact", "by analogy", "refused")


@dataclass(frozen=True)
class Family:
    """What was found in the networks of one family."""

    name: str
    found: tuple[dv.Coverage, ...]
    failed: tuple[str, ...] = ()  # networks that do not run on meta tensors, and why

    def row(self) -> tuple[str, ...]:
        calls = sum(one.calls for one in self.found)
        exact = sum(use.count for one in self.found for use in one.exact)
        return (
            self.name,
            str(len(self.found)),
            str(calls),
            f"{percent(exact, calls)} %",
            ", ".join(unique(use.short for one in self.found for use in one.by_analogy)) or "–",
            self._refused() or "–",
        )

    def _refused(self) -> str:
        """The operation at which the way down first fails, and in how many of the networks."""
        some = [one.refused[0] for one in self.found if one.refused]
        told = "; ".join(unique(f"{use.short} ({use.note.partition(':')[0]})" for use in some))
        if told and len(some) < len(self.found):
            told = f"in {len(some)} of {len(self.found)}: {told}"
        return "; ".join([*([told] if told else []), *(f"not run: {why}" for why in self.failed)])


def percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 means all."""
    return f"{1000 * part // whole / 10:g}" if whole else "0"


def unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as README has it")
    parser.add_argument("--each", type=int, default=3, help="so many networks of each of timm's families")
    parser.add_argument("--only", default="", help="families whose name holds this text")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    start = perf_counter()
    families = [*torchvision_families(asked.only), *timm_families(asked.only, asked.each)]
    if asked.markdown:
        print_markdown(families)
    else:
        print_plain([family.row() for family in families])
    networks = sum(len(family.found) for family in families)
    print(f"{networks} networks in {perf_counter() - start:.0f} s", file=sys.stderr)


def torchvision_families(only: str) -> Iterator[Family]:
    """Classification networks by torchvision's modules, then its segmentation networks."""
    names: dict[str, list[str]] = {}
    for name in models.list_models(module=models):
        names.setdefault(module_of(name), []).append(name)
    for name in models.list_models(module=models.segmentation):
        names.setdefault(f"segmentation.{module_of(name)}", []).append(name)
    for family, members in names.items():
        if only in family:
            make = segmentation if family.startswith("segmentation.") else sketch
            yield surveyed(family, [make(name) for name in members])


def module_of(name: str) -> str:
    return str(models.get_model_builder(name).__module__).rpartition(".")[2]


def segmentation(name: str) -> dv.Network:
    with torch.device("meta"):
        module = models.get_model(name, weights=None, weights_backbone=None)
    return dv.Network(module, size=224, name=name)


def timm_families(only: str, each: int) -> Iterator[Family]:
    """Those of timm's modules that are convolutional, if timm is installed."""
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed: its families are left out", file=sys.stderr)
        return
    import timm

    for module in timm.list_modules():
        members = timm.list_models(module=module)
        if not members or only not in f"timm {module}":
            continue
        if convolutional(sketch(f"timm:{members[0]}").module):
            chosen = unique(members[len(members) * n // each] for n in range(each))
            yield surveyed(f"timm {module}", [sketch(f"timm:{name}") for name in chosen])


def convolutional(module: nn.Module) -> bool:
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    return 3 * convolutions >= sum(isinstance(part, nn.Linear) for part in module.modules())


def surveyed(family: str, networks: Iterable[dv.Network]) -> Family:
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
                [*short, row[-2], *(["· refused: " + row[-1]] if row[-1] not in ("–", HEAD[-1]) else [])]
            )
        )


def print_markdown(families: Sequence[Family]) -> None:
    """Families of timm's of which there is the same to say share a row."""
    alike: dict[tuple[str, ...], list[Family]] = {}
    for family in families:
        own = family.name if not family.name.startswith("timm ") else "timm"
        alike.setdefault((own, *family.row()[-2:]), []).append(family)
    merged = [
        Family(
            "timm " + ", ".join(f"`{family.name.removeprefix('timm ')}`" for family in some)
            if key[0] == "timm"
            else f"`{key[0]}`",
            tuple(one for family in some for one in family.found),
            tuple(one for family in some for one in family.failed),
        )
        for key, some in alike.items()
    ]
    for row in (HEAD, ("---",) * len(HEAD), *(family.row() for family in merged)):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
