"""Time and results of the experiments of the paper (`deconvviz.experiments`).

    python benchmarks/experiments.py occlusion --model squeezenet1_0 --weights W --layer features.9 --image X
    python benchmarks/experiments.py filters --model squeezenet1_0 --weights FILE --source FOLDER
    python benchmarks/experiments.py correspondence --source DIR --parts examples/dogs.csv --layer features.9
    python benchmarks/experiments.py evolution --source scenes:200 --layer relu1_2,relu4_2
    python benchmarks/experiments.py invariance --source scenes:4 --layer relu1_1,relu4_2

occlusion: squares per second of `dv.occlusion` (one grid, one fill), of the bare network on batches that were
prepared before, and of captum's `Occlusion` on the same squares. All run in turn, several rounds; the medians
and the median ratios are printed, of the time on the clock and of the CPU time of this process. The CPU time
of one thread (--threads 1) depends little on other programs that use the same cores. `dv.occlusion` also
records the image, measures a layer, and projects its strongest unit, which is part of its time.
filters, correspondence: seconds, and the sentences of the result.
evolution: seconds of `dv.evolution` for four checkpoints, and of a plain loop that loads each checkpoint,
reads the images again and keeps the maximum of each channel, without projections.
invariance: transformed pictures per second of CPU time (on a GPU: of time) of `dv.invariance`, of a plain
loop that transforms single pictures with torchvision and runs the network on each, and of the bare network on
batches that were prepared before.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import rotate

import deconvviz as dv
from deconvviz.dataset_search.plan import BATCH_SIZE
from deconvviz.experiments.invariance.transforms import amounts_of
from deconvviz.experiments.invariance.vary import CPU_BATCH
from deconvviz.experiments.occlusion import SIZE, STRIDE
from deconvviz.experiments.occlusion_fills import fill_of
from deconvviz.experiments.occlusion_squares import squares
from deconvviz.image_sources import open_source
from deconvviz.methods.forward import GPU_BATCH, batch_size


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = {
        "occlusion": occlusion,
        "filters": filters,
        "correspondence": correspondence,
        "evolution": evolution,
        "invariance": invariance,
    }
    parser.add_argument("experiment", choices=commands)
    parser.add_argument("--model", default="minivgg")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--layer", default="relu4_2")
    parser.add_argument("--image", help="image of occlusion (default: a scene)")
    parser.add_argument("--source", default="scenes:64")
    parser.add_argument("--parts", default="eye", help="CSV file, or a part of scenes")
    parser.add_argument("--batch", type=int, help="images in a batch (default: as the function)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    net = dv.load(asked.model, asked.weights, device=asked.device)
    print(f"{net.name}, {asked.threads} threads, {asked.device}, torch {torch.__version__}")
    commands[asked.experiment](net, asked)


def occlusion(net: dv.Network, asked: argparse.Namespace) -> None:
    """Compare squares per second."""
    asked.batch = asked.batch or batch_size(net)
    from deconvviz.scenes import scene

    image = asked.image or scene(2)
    rgb = image.image if hasattr(image, "image") else image
    recording = net.record(rgb, asked.layer, scores=True)
    inputs = recording.inputs
    top = recording.top_class(0)
    places = squares(tuple(inputs.shape[2:]), SIZE, STRIDE)
    corners = list(places.corners())
    copies = fill_of("mean", inputs[0], net.preprocessing).hide_squares(corners, places.side)
    step = max(1, round(STRIDE * min(inputs.shape[2:])))
    captum = CaptumOcclusion(net.module)
    windows = (inputs.shape[1], places.side, places.side)
    target = 0 if top is None else top.index

    def bare(batches: list[Tensor]) -> None:
        with torch.no_grad():
            for batch in batches:
                net.module(batch)

    plain = list(copies.contiguous().split(asked.batch))
    last = [batch.contiguous(memory_format=torch.channels_last) for batch in plain]
    runs: dict[str, Callable[[], object]] = {
        "dv.occlusion": lambda: dv.occlusion(
            net, rgb, asked.layer, fill="mean", phases=1, compare_fills=False, batch=asked.batch
        ),
        "bare network": lambda: bare(plain),
        "bare network, channels last": lambda: bare(last),
        "captum": lambda: captum.attribute(
            inputs,
            sliding_window_shapes=windows,
            strides=(inputs.shape[1], step, step),
            baselines=0,
            target=target,
            perturbations_per_eval=asked.batch,
        ),
    }
    net.module.eval()
    clocks = {"clock": time.perf_counter, "CPU time": time.process_time}
    if asked.device != "cpu":
        del clocks["CPU time"]
    found = {clock: {name: list[float]() for name in runs} for clock in clocks}
    for number in range(asked.rounds + 1):
        for name, run in runs.items():
            begun = {clock: read() for clock, read in clocks.items()}
            run()
            if asked.device != "cpu":
                torch.cuda.synchronize()
            for clock, read in clocks.items():
                if number:  # the first round warms up
                    found[clock][name].append(len(corners) / (read() - begun[clock]))
    print(f"{len(corners)} squares of {places.side} px, layer {asked.layer}, batches of {asked.batch}")
    for clock, of_runs in found.items():
        for name, rates in of_runs.items():
            ratio = median(own / other for own, other in zip(of_runs["dv.occlusion"], rates, strict=True))
            print(f"{clock:9s} {name:28s} {median(rates):7.1f} squares/s   dv.occlusion / this: {ratio:.2f}")


def filters(net: dv.Network, asked: argparse.Namespace) -> None:
    """Print the time of the measures, with projections, and the result in words."""
    begun = time.perf_counter()
    found = dv.filters(net)
    middle = time.perf_counter()
    seen = dv.filters(net, source=asked.source)
    print(f"{len(found.banks[0].weights)} filters: {middle - begun:.2f} s")
    print(f"with projections from {asked.source}: {time.perf_counter() - middle:.2f} s")
    print("\n".join(seen.sentences()))


def correspondence(net: dv.Network, asked: argparse.Namespace) -> None:
    """Print the time and the table."""
    begun = time.perf_counter()
    parts = asked.parts if asked.parts.endswith(".csv") else asked.parts.split(",")
    found = dv.correspondence(net, asked.source, parts, asked.layer.split(","))
    print(f"{len(found.images)} images, {len(found.parts)} parts: {time.perf_counter() - begun:.2f} s")
    print(found.text())
    print("\n".join(found.sentences()))


def evolution(net: dv.Network, asked: argparse.Namespace) -> None:
    """Compare the seconds of an evolution over four checkpoints with those of a plain loop."""
    asked.batch = asked.batch or BATCH_SIZE
    layers = asked.layer.split(",")
    parts = dict(net.module.named_modules())
    modules = [parts[net.layers.find(layer).module] for layer in layers]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(4):
            torch.manual_seed(number)
            state = {
                name: t * (1 + 0.01 * torch.randn_like(t)) for name, t in net.module.state_dict().items()
            }
            files.append(f"{folder}/epoch_{number}.pt")
            torch.save(state, files[-1])
        begun = time.perf_counter()
        found = dv.evolution(net, files, asked.source, layers, workers=0, batch_size=asked.batch)
        middle = time.perf_counter()
        maxima = plain_searches(net, files, asked, modules)
        plain = time.perf_counter() - middle
    ours = middle - begun
    rows = found.table.to_pylist()
    names = [net.layers.find(layer).name for layer in layers]
    largest = max(
        abs(
            row["activation"]
            - float(maxima[int(row["checkpoint"])][names.index(row["layer"])][row["channel"]])
        )
        for row in rows
    )
    print(f"{found.images} images, {len(rows) // 4} measured channels, largest difference {largest:.1e}")
    print(f"dv.evolution {ours:.1f} s (search and projections), plain loop {plain:.1f} s (search only)")
    print(f"dv.evolution / plain loop: {ours / plain:.2f}")


def plain_searches(
    net: dv.Network, files: list[str], asked: argparse.Namespace, modules: list[torch.nn.Module]
) -> list[list[Tensor]]:
    """Return the maxima of all channels of some modules with each checkpoint, in a plain loop."""
    source = open_source(asked.source)
    module, found = copy.deepcopy(net.module).eval(), []
    hooked = [
        dict(module.named_modules())[name] for name, one in net.module.named_modules() if one in modules
    ]
    for file in files:
        module.load_state_dict(torch.load(file, weights_only=True))
        maxima: list[Tensor] = [torch.empty(0)] * len(hooked)
        for first in range(0, len(source), asked.batch):
            numbers = range(first, min(first + asked.batch, len(source)))
            inputs = torch.stack([net.preprocessing.apply(source.image(n).rgb) for n in numbers])
            outputs: list[Tensor] = []
            handles = [
                one.register_forward_hook(lambda m, a, out, kept=outputs: kept.append(out.clone()))
                for one in hooked
            ]
            with torch.no_grad():
                module(inputs)
            for handle in handles:
                handle.remove()
            for number, out in enumerate(outputs):
                peaks = out.transpose(0, 1).flatten(1).amax(1)
                before = maxima[number]
                maxima[number] = torch.maximum(before, peaks) if before.numel() else peaks
        found.append(maxima)
    return found


def invariance(net: dv.Network, asked: argparse.Namespace) -> None:
    """Compare pictures per second."""
    asked.batch = asked.batch or (CPU_BATCH if asked.device == "cpu" else GPU_BATCH)
    layers = asked.layer.split(",")
    source = open_source(asked.source)
    amounts = amounts_of("rotate", net.preprocessing.shape[1:], None, None)[1:]
    parts = dict(net.module.named_modules())
    modules = [parts[net.layers.find(layer).module] for layer in layers]
    pictures = [source.image(number).rgb for number in range(len(source))]
    prepared = torch.stack([net.preprocessing.apply(rgb) for rgb in pictures])
    batches = list(prepared.repeat_interleave(len(amounts), 0).split(asked.batch))
    count = len(pictures) * len(amounts)
    found: dict[str, list[float]] = {"dv.invariance": [], "plain loop": [], "bare network": []}
    clock = time.process_time if asked.device == "cpu" else time.perf_counter
    for number in range(asked.rounds + 1):
        begun = clock()
        dv.invariance(net, asked.source, layers, transforms=["rotate"], batch=asked.batch)
        middle = clock()
        plain_distances(net, pictures, amounts, modules)
        end = clock()
        with torch.no_grad():
            for batch in batches:
                net.module(batch)
        times = (middle - begun, end - middle, clock() - end)
        if number:  # the first round warms up
            for rates, seconds in zip(found.values(), times, strict=True):
                rates.append(count / seconds)
    print(f"{count} rotated pictures, layers {asked.layer}, batches of {asked.batch}")
    for name, rates in found.items():
        ratio = median(own / other for own, other in zip(found["dv.invariance"], rates, strict=True))
        print(f"{name:14s} {median(rates):8.1f} pictures/s   dv.invariance / this: {ratio:.2f}")


def plain_distances(
    net: dv.Network, pictures: list[Any], amounts: Any, modules: list[torch.nn.Module]
) -> list[list[float]]:
    """Return the distances of rotated pictures in a plain loop over single pictures."""
    features: list[Tensor] = []
    handles = [
        one.register_forward_hook(lambda m, a, out: features.append(out.flatten().clone())) for one in modules
    ]
    found = []
    with torch.no_grad():
        for rgb in pictures:
            original = net.preprocessing.apply(rgb)[None]
            features.clear()
            net.module(original)
            reference = list(features)
            for amount in amounts:
                features.clear()
                net.module(rotate(original, float(amount), InterpolationMode.BILINEAR))
                found.append([float((a - b).norm()) for a, b in zip(features, reference, strict=True)])
    for handle in handles:
        handle.remove()
    return found


if __name__ == "__main__":
    main()
