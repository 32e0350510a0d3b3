"""Coverage of the networks of several libraries: which operations have exact or approximate rules?

Every network is built without weights, or with random ones, and run once on an empty image, as
`deconvviz check` does. "calls" is the number of calls that take part in the projection of any layer, and
"exact" is the share of them that have an exact rule. If operations are unsupported, the table names the one
nearest to the image. Networks that cannot be recorded are listed with the reason.

With --oracle, units of three maps of every network, the last one among them, its scores and a detection are
also projected by a second implementation (`dv.verify`), with random weights in double precision. The largest
relative difference is printed, and is the last column. The exit code is 1 if one is larger than 1e-9.

A family is a module of torchvision, with all its networks; a module of timm that is based on convolutions,
with some of its networks (--each); or a network of transformers, segmentation_models_pytorch, MONAI or
Ultralytics.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from families import Make, families, unique
from second_implementation import Compared, compare

import deconvviz as dv
from deconvviz.errors import DeconvvizError

HEAD = ("family", "networks", "calls", "exact", "approximate", "unsupported")


@dataclass(frozen=True)
class Family:
    """Coverage of the networks of one family."""

    name: str
    found: tuple[dv.Coverage, ...]
    failed: tuple[str, ...] = ()  # names and errors of networks that cannot be recorded
    compared: tuple[Compared, ...] = ()
    not_compared: tuple[str, ...] = ()  # names and reasons

    @property
    def difference(self) -> str:
        """The largest difference of the second implementation, and which networks were not compared."""
        found = max(
            (one.difference for one in self.compared), key=lambda one: (one != one, one), default=None
        )
        text = "" if found is None else f"{found:.1e}"
        text += " in single precision" if any(one.single for one in self.compared) else ""
        return "; ".join([*([text] if text else []), *(f"not compared: {one}" for one in self.not_compared)])

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
        family = survey(name, members)
        found.append(with_differences(family, members) if options.oracle else family)
    if options.markdown:
        print_markdown(found, differences=options.oracle)
    else:
        print_plain([family.row() for family in found])
    networks = sum(len(family.found) for family in found)
    print(f"{networks} networks in {perf_counter() - start:.0f} s", file=sys.stderr)
    compared = [one for family in found for one in family.compared]
    different = sum(not one.equal for one in compared)
    if options.oracle:
        print(f"{len(compared)} networks compared, {different} different", file=sys.stderr)
    if different:
        sys.exit(1)


def survey(family: str, members: Mapping[str, Make]) -> Family:
    found, failed = [], []
    for name, make in members.items():
        try:
            found.append(make().coverage())
        except DeconvvizError as reason:
            failed.append(f"{name}: {reason}")
    return Family(family, tuple(found), tuple(failed))


def with_differences(family: Family, members: Mapping[str, Make]) -> Family:
    """Return a family with the differences from the second implementation, and print them on stderr."""
    compared, not_compared = [], []
    for name, make in members.items():
        try:
            compared.append(compare(make()))
            print(f"{family.name}: {name}: {compared[-1]}", file=sys.stderr, flush=True)
        except DeconvvizError as reason:
            not_compared.append(f"{name} ({reason})")
            print(f"{family.name}: {name}: not compared: {reason}", file=sys.stderr, flush=True)
    return replace(family, compared=tuple(compared), not_compared=tuple(not_compared))


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[n]) for row in (HEAD, *rows)) for n in range(len(HEAD) - 2)]
    for row in (HEAD, *rows):
        short = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print(
            "  ".join(
                [*short, row[-2], *(["· unsupported: " + row[-1]] if row[-1] not in ("–", HEAD[-1]) else [])]
            )
        )


def print_markdown(found: Sequence[Family], *, differences: bool) -> None:
    """Print a Markdown table; families of timm with equal approximate operations share a row."""
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
            tuple(one for family in members for one in family.compared),
            tuple(one for family in members for one in family.not_compared),
        )
        for key, members in groups.items()
    ]
    more = ("difference",) if differences else ()
    rows = [(*family.row(), *([family.difference] if differences else [])) for family in merged]
    for row in ((*HEAD, *more), ("---",) * len((*HEAD, *more)), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
