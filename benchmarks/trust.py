"""How far to trust each method: a table of methods and measures, for trained and random networks.

    squeezenet1_0  trained on ImageNet, photographs
    vgg19          random weights, photographs
    resnet18       random weights, scenes
    minivgg        trained on scenes, all convolutions, scenes that were not used for training

The table is Markdown: a value with its 95 % interval for each method, and the baseline (the value that means
"nothing") in the last row of each layer. `weights` is the rank correlation with the map after all weights up
to the layer were shuffled. The photographs and the weights of SqueezeNet are in the folder that the
environment variable DECONVVIZ_REAL_DATA names; without it, their rows are left out.

    python benchmarks/trust.py --quick            # a few images, one layer for each network
    python benchmarks/trust.py --only minivgg
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

import deconvviz as dv
from deconvviz.methods.method import DEFAULT_METHODS

SINGLE = ("likeness", "identification", "switches", "deletion", "insertion")
OF_PARTS = ("finds", "tells_apart", "energy_over_area", "pointing")
QUICK = {"squeezenet1_0": "features.5", "vgg19": "conv3_4", "resnet18": "layer2", "minivgg": "conv3_2"}
CONVOLUTIONS = tuple(f"conv{block}_{number}" for block in (1, 2, 3, 4) for number in (1, 2))


@dataclass(frozen=True)
class Case:
    """A network with its weights, some of its layers, and images."""

    network: str
    weights: str
    layers: tuple[str, ...]
    images: Any
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, one layer for each network")
    parser.add_argument("--only", metavar="NETWORK", help="measure this network only")
    parser.add_argument("--methods", default=",".join(DEFAULT_METHODS), metavar="NAME,...")
    parser.add_argument("--top", type=int, default=9, metavar="K", help="units for each image (default: 9)")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print_table(given.methods.split(","), given.top, list(cases(given.quick, given.only)))


def cases(quick: bool, only: str | None) -> Iterator[Case]:
    """Yield the cases that can be measured here."""
    folder = os.environ.get("DECONVVIZ_REAL_DATA")
    photographs = [] if folder is None else sorted((Path(folder) / "imagenet-sample").glob("*"))[::15]
    found = []
    if folder is not None:
        file = str(Path(folder) / "squeezenet1_0.pth")
        layers = ("features.3", "features.5", "features.9", "features.12")
        count = 3 if quick else 20
        found += [
            Case("squeezenet1_0", file, layers, photographs[:count], f"trained, {count} photographs"),
            Case("vgg19", "random", ("conv3_4", "conv5_1"), photographs[: 1 if quick else 4],
                 f"random, {1 if quick else 4} photographs"),
        ]  # fmt: skip
    scenes = 4 if quick else 12
    found.append(
        Case("resnet18", "random", ("layer2", "layer3"), f"scenes:{scenes}@5000", f"random, {scenes} scenes")
    )
    scenes = 4 if quick else 60
    found.append(
        Case("minivgg", "default", CONVOLUTIONS, f"scenes:{scenes}@5000", f"trained, {scenes} scenes")
    )
    for case in found:
        if only in (None, case.network):
            layers = (QUICK[case.network],) if quick else case.layers
            yield Case(case.network, case.weights, layers, case.images, case.note)


def print_table(methods: Sequence[str], top: int, chosen: Sequence[Case]) -> None:
    """Print the rows of each layer as soon as it is measured."""
    columns = ["network", "layer", "method", *SINGLE, "weights", "reading", *OF_PARTS]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    notes = []
    for case in chosen:
        network = dv.load(case.network, weights=case.weights)
        for layer in case.layers:
            begun, cpu = perf_counter(), process_time()
            found = dv.trust(network, case.images, layer, top, methods)
            for name, one in found.measures.items():
                print(row([case.network, layer, name], one), flush=True)
            print(baseline_row([case.network, layer, "*baseline*"], found), flush=True)
            count = len(found.pictures)
            notes.append(
                f"- {case.network} {layer} ({case.note}): {found.units} units of {count} images, "
                f"{perf_counter() - begun:.0f} s, {process_time() - cpu:.0f} s of processor time. "
                f"{' '.join(found.summary())}{controls(found)}"
            )
    print()
    print("\n".join(notes))


def row(head: Sequence[str], one: Mapping[str, Any]) -> str:
    """Return the row of one method."""
    cells = [with_interval(one[name]) for name in SINGLE]
    cells.append(plain(one["weights"]["cascading"][-1]["spearman"]))
    parts = one["parts"]
    if parts is None:
        cells += ["–"] * (1 + len(OF_PARTS))
    else:
        cells += [parts["reading"], *(with_interval(parts[name]) for name in OF_PARTS)]
    return f"| {' | '.join([*head, *cells])} |"


def baseline_row(head: Sequence[str], found: dv.Trust) -> str:
    """Return the row of baselines: their range over the methods where it differs between methods."""
    every = list(found.measures.values())
    cells = [between([one[name]["baseline"] for one in every]) for name in SINGLE]
    cells.append(between([one["weights"]["baselines"]["noise"]["spearman"] for one in every]))
    scored = [one["parts"] for one in every if one["parts"] is not None]
    cells.append("–")
    cells += [between([parts[name]["baseline"] for parts in scored]) for name in OF_PARTS]
    return f"| {' | '.join([*head, *cells])} |"


def controls(found: dv.Trust) -> str:
    """Return the controls on parts as a sentence."""
    if found.controls is None:
        return ""
    known = {name: one for name, one in found.controls.items() if name != "meaning"}
    said = (f"{name} {plain(one['finds'])} / {plain(one['tells_apart'])}" for name, one in known.items())
    return f" Controls (finds / tells apart): {', '.join(said)}."


def with_interval(measure: Mapping[str, Any]) -> str:
    if measure["low"] is None:
        return plain(measure["value"])
    return f"{measure['value']:.2f} [{measure['low']:.2f}, {measure['high']:.2f}]"


def between(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{low} to {high}"


def plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
