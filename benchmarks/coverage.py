"""Coverage of the networks of several libraries: which operations have exact or approximate rules?

Every network is built without weights, or with random ones, and run once on an empty image, as
`deconvviz check` does. "calls" is the number of calls that take part in the projection of any layer, and
"exact" is the share of them that have an exact rule. If operations are unsupported, the table names the one
nearest to the image. Networks that cannot be recorded are listed with the reason.

With --oracle, units of three layers of every network are also projected by a second implementation
(`dv.verify`), with random weights in double precision, and the largest difference is printed.

A family is a module of torchvision, with all its networks; a module of timm that is based on convolutions,
with some of its networks (--each); or a network of transformers, segmentation_models_pytorch, MONAI or
Ultralytics.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from families import Make, families, unique
from second_implementation import largest_difference

import deconvviz as dv
from deconvviz.errors import DeconvvizError

HEAD = ("family", "networks", "calls", "exact", "approximate", "unsupported")


@dataclass(frozen=True)
class Family:
    """Coverage of the networks of one family."""

    name: str
    found: tuple[dv.Coverage, ...]
    failed: tuple[str, ...] = ()  # names and errors of networks that cannot be recorded

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table in Markdown, as in the documentation"
    )
    parser.add_argument("--each", type=int, default=3, help="number of networks for each family of timm")
    parser.add_argument("--oracle", action="store_true", help="compare with the second implementation (slow)")
    parser.add_argument("--only", default="", help="only families whose name contains this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = perf_counter()
    found = []
    for name, members in families(options.only, options.each):
        found.append(survey(name, members))
        if options.oracle:
            compare(name, members)
    if options.markdown:
        print_markdown(found)
    else:
        print_plain([family.row() for family in found])
    networks = sum(len(family.found) for family in found)
    print(f"{networks} networks in {perf_counter() - start:.0f} s", file=sys.stderr)


def survey(family: str, members: Mapping[str, Make]) -> Family:
    found, failed = [], []
    for name, make in members.items():
        try:
            found.append(make().coverage())
        except DeconvvizError as reason:
            failed.append(f"{name}: {reason}")
    return Family(family, tuple(found), tuple(failed))


def compare(family: str, members: Mapping[str, Make]) -> None:
    """Print the largest difference of each network from the second implementation."""
    for name, make in members.items():
        try:
            print(f"{family}: {name}: {largest_difference(make())}", flush=True)
        except DeconvvizError as reason:
            print(f"{family}: {name}: not compared: {reason}", flush=True)


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[n]) for row in (HEAD, *rows)) for n in range(len(HEAD) - 2)]
    for row in (HEAD, *rows):
        short = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print(
            "  ".join(
                [*short, row[-2], *(["· unsupported: " + row[-1]] if row[-1] not in ("–", HEAD[-1]) else [])]
            )
        )


def print_markdown(found: Sequence[Family]) -> None:
    """Print a Markdown table; families of timm with equal last two columns share a row."""
    groups: dict[tuple[str, ...], list[Family]] = {}
    for family in found:
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
