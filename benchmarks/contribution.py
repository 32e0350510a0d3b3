"""Scores of `contribution` and `contrast`, and of the definitions that they were chosen from.

Scenes: each part in the receptive field is left out of the scene, and the fall of a unit's activation,
relative to the activation, is the true effect of the part. The units are the six strongest channels at the
place of the strongest unit. A map says of each part the sum over its pixels, in one of three readings:

    energy        Logarithm of the part's share of the map's squares.
    contribution  Map times detail (picture minus blurred picture), relative to the sum of absolute values.
                  Contributions are already multiplied by the detail.
    of activation The same, relative to the unit's activation: the share that is lost without the part.

    finds         Mean rank correlation with the true effects of the parts, for each unit.
    tells apart   Rank correlation over parts and units, after the mean over the units is taken out.

Intervals are 95 % bootstrap intervals over scenes. Definitions were chosen on scenes 0 to 49 and are reported
on scenes 50 to 249. The lines `blurred` and `recoloured` are not maps: the part is blurred, or has another
colour, and the true effect of this is compared to that of leaving it out.

Photographs (`--photographs FOLDER`, with `--weights FILE` of SqueezeNet 1.0): each map is scaled to the
contrast of the picture, put on the mean picture and run forward. A hit is a map that excites its own unit
more than the other units of the place. `as drawn` shows the map itself, `detail` shows the detail of the
picture, weighted by what the map says of each pixel where this is positive.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.methods.blur import blurred
from deconvviz.methods.method import Subject, method
from deconvviz.scenes import scene
from deconvviz.trust_measures import part_scores
from deconvviz.trust_measures.identification import answers_to, hits
from deconvviz.trust_measures.pictures import pictures_of
from deconvviz.trust_measures.place import Case, Place, place_in
from deconvviz.trust_measures.statistics import Sample
from deconvviz.trust_measures.true_effects import effects_at

UNITS = 6
MAPS = ("deconvnet", "guided", "gradient")
SIGNED = ("contribution", "contrast")
READINGS = ("energy", "contribution", "of activation")
Shares = Sequence[tuple[float, float]]  # (share of the detail, weight) for each gradient
Scores = Mapping[tuple[str, str], tuple[Sample, Sample]]  # by name and reading: finds, tells apart

GAUSS: Shares = tuple((0.5 + node * sqrt(0.6) / 2, weight / 18) for node, weight in ((-1, 5), (0, 8), (1, 5)))
GRADIENTS: dict[str, Shares] = {
    "gradient at the midpoint": ((0.5, 1.0),),
    "integrated gradients, 12 steps": tuple(((step + 0.5) / 12, 1 / 12) for step in range(12)),
    "integrated gradients, 3 Gauss nodes": GAUSS,
    "integrated gradients, 1/3 2/3 1": tuple((step / 3, 1 / 3) for step in (1, 2, 3)),
}
"""Definitions that are kept for comparison: mean gradient at several pictures, times the detail."""


def integrated(place: Place, shares: Shares) -> Tensor:
    """Return integrated gradients from the blurred picture, (K, C, H, W), through the engine."""
    soft = blurred(place.inputs)
    detail = place.inputs - soft
    signals = torch.zeros(len(place.units), *place.subject.activations().shape[1:])
    for signal, unit in zip(signals, place.units, strict=True):
        signal[unit.channel, unit.y, unit.x] = 1
    found = torch.zeros(len(place.units), *detail.shape[1:])
    for share, weight in shares:
        recording = place.network.record(soft + share * detail, place.layer, methods="gradient")
        indices = [0] * len(signals)
        gradients = recording.project(place.layer, signals, method="gradient", image_indices=indices).pixels
        found += weight * gradients * detail
    return found


def softened(place: Place, share: float = 0.75) -> Tensor:
    """Return the gradient with softened gates times the detail, (K, C, H, W), at one picture.

    The gate of a ReLU passes the share P(z + s * noise > 0) of the signal, where s is the standard deviation
    of z over the map of its channel and the noise is normal. Only for the convolutions of minivgg, in plain
    PyTorch.
    """
    soft = blurred(place.inputs)
    detail = place.inputs - soft
    image = (soft + share * detail).requires_grad_()
    values = image
    features = place.network.module.features
    last = [name for name, _ in features.named_children()].index(place.layer.module.rpartition(".")[2])
    for part in features[: last + 1]:
        values = _SoftGate.apply(values) if isinstance(part, nn.ReLU) else part(values)
    found = []
    for unit in place.units:
        (gradient,) = torch.autograd.grad(values[0, unit.channel, unit.y, unit.x], image, retain_graph=True)
        found.append(gradient[0] * detail[0])
    return torch.stack(found).detach()


class _SoftGate(torch.autograd.Function):
    """ReLU whose backward pass has softened gates."""

    @staticmethod
    def forward(context: Any, z: Tensor) -> Tensor:
        context.save_for_backward(z)
        return F.relu(z)

    @staticmethod
    def backward(context: Any, signal: Tensor) -> Tensor:  # type: ignore[override]
        (z,) = context.saved_tensors
        return signal * torch.special.ndtr(z / z.std(dim=(2, 3), keepdim=True).clamp_min(1e-12))


def maps_at(place: Place, twelve: bool = True) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield the name, the maps (K, C, H, W), and whether the maps are contributions."""
    for name in (*MAPS, *SIGNED):
        yield name, method(name).maps(place.subject, place.units), name in SIGNED
    for name, shares in GRADIENTS.items():
        if twelve or len(shares) < 12:
            yield name, integrated(place, shares), True
    if place.network.name == "minivgg":
        yield "softened gates", softened(place), True


def places(net: dv.Network, layer: str, pictures: Any, k: int) -> Iterator[Place]:
    """Yield the place of the strongest unit of each picture."""
    found = net.layers.find(layer)
    for number, picture in enumerate(pictures_of(pictures, found)):
        subject = Subject.record(net, picture.open(), found, [*MAPS, *SIGNED])
        place = place_in(picture, number, subject, k, 0, [])
        if isinstance(place, Place):
            yield place


def study_scenes(layer: str, seeds: Sequence[int], twelve: bool) -> Scores:
    """Return the scores on scenes, by name and reading."""
    scores: dict[tuple[str, str], tuple[Sample, Sample]] = defaultdict(lambda: (Sample(), Sample()))
    falls: dict[str, list[float]] = defaultdict(list)
    net = dv.load("minivgg")
    for place in places(net, layer, [scene(seed) for seed in seeds], UNITS):
        effects = effects_at(place)
        if effects is None or effects.moved.sum() < 2:
            continue

        def add(name: str, reading: str, said: Any, effects: Any = effects) -> None:
            finds, apart = scores[name, reading]
            finds.add_values(part_scores.finds(said, effects))
            apart.add(part_scores.tells_apart(said, effects))

        add("area of the part", "", np.broadcast_to(effects.areas[:, None], effects.removed.shape))
        add("blurred", "(another truth)", effects.blurred)
        add("recoloured", "(another truth)", effects.recoloured)
        soft = blurred(place.inputs)
        detail = (place.inputs - soft)[0]
        true_fall = place.activations - place.of_units(_activations(place, soft))[0]
        for name, maps, signed in maps_at(place, twelve):
            energy = place.cut(maps.double().square().sum(1).numpy())
            own = maps if signed else maps * detail
            pixels = place.cut(own.double().sum(1).numpy())
            add(name, "energy", _shares(effects.sums(energy), energy, logarithm=True))
            add(name, "contribution", _shares(effects.sums(pixels), pixels))
            add(name, "of activation", effects.sums(pixels) / place.activations)
            if signed and name != "contrast":
                falls[name] += list(np.abs(pixels.sum((1, 2)) - true_fall) / true_fall)
    print(f"\n{layer}: {len(scores['blurred', '(another truth)'][0].groups)} of {len(seeds)} scenes")
    for (name, reading), (finds, apart) in scores.items():
        print(f"{name:<36} {reading:<16} finds {_text(finds)}   tells apart {_text(apart)}", flush=True)
    print(
        "sum of all contributions against the true fall to the blurred picture, median relative difference:"
    )
    for name, differences in falls.items():
        print(f"{name:<36} {np.median(differences):.0%}")
    return scores


def compare(scores: Scores, name: str, others: Sequence[str], reading: str = "of activation") -> None:
    """Print the paired differences of the scores to those of other definitions."""
    print(f"{name} minus another definition, {reading}:")
    for other in others:
        if (other, reading) not in scores:
            continue
        cells = []
        for own, theirs in zip(scores[name, reading], scores[other, reading], strict=True):
            sample = Sample()
            for value in own.values - theirs.values:
                sample.add_values(np.array([value]))
            cells.append(_text(sample, sign="+"))
        print(f"{other:<36} finds {cells[0]}   tells apart {cells[1]}")


def study_photographs(weights: Path, folder: Path, layers: Sequence[str], count: int, k: int) -> None:
    """Print the share of hits on photographs."""
    net = dv.load("squeezenet1_0", weights=str(weights))
    paths = [str(path) for path in islice(sorted(folder.glob("*.JPEG")), count)]
    for layer in layers:
        drawn: dict[str, Sample] = defaultdict(Sample)
        weighted: dict[str, Sample] = defaultdict(Sample)
        chance = Sample()
        for place in places(net, layer, paths, k):
            detail = (place.inputs - blurred(place.inputs))[0]
            chance.add_values(np.full(len(place.units), 1 / len(place.units)))
            for name, maps, signed in maps_at(place, twelve=False):
                shown = {"drawn": maps, "weighted": (maps if signed else maps * detail).sum(1, keepdim=True)}
                shown["weighted"] = shown["weighted"].clamp_min(0) * detail
                for samples, key in ((drawn, "drawn"), (weighted, "weighted")):
                    case = Case(place, method("gradient"), shown[key].float().numpy(), np.zeros(0))
                    samples[name].add_values(hits(answers_to(case)))
        print(f"\nsqueezenet1_0 {layer}: {chance.pictures} photographs, chance {chance.value:.2f}")
        for name in drawn:
            print(f"{name:<36} as drawn {_text(drawn[name])}   detail {_text(weighted[name])}", flush=True)


def _activations(place: Place, inputs: Tensor) -> Tensor:
    return place.network.record(inputs, place.layer).activations(place.layer)


def _shares(parts: Any, pixels: Any, logarithm: bool = False) -> Any:
    share = parts / np.maximum(np.abs(pixels).sum((1, 2)), 1e-30)
    return np.log(share + 1e-4) if logarithm else share


def _text(sample: Sample, sign: str = "") -> str:
    low, high = sample.interval()
    return f"{sample.value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs=2, type=int, default=(50, 250), metavar=("FIRST", "END"))
    parser.add_argument("--layers", nargs="*", default=["conv4_2", "conv3_2"], help="layers of minivgg")
    parser.add_argument("--quick", action="store_true", help="leave out the 12 steps")
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files")
    parser.add_argument("--weights", type=Path, help="file with the weights of SqueezeNet 1.0")
    parser.add_argument("--photograph-layers", nargs="*", default=["features.5", "features.9", "features.12"])
    parser.add_argument("--count", type=int, default=40, help="number of photographs")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    for layer in options.layers:
        scores = study_scenes(layer, range(*options.scenes), not options.quick)
        compare(scores, "contribution", [*GRADIENTS, "softened gates", "guided"])
    if options.photographs is not None:
        study_photographs(
            options.weights, options.photographs, options.photograph_layers, options.count, UNITS
        )


if __name__ == "__main__":
    main()
