"""What does it take: memory for projecting units, and what a recording keeps?

    peak     of recording and projecting, over the peak of a bare forward pass of the same network; each in
             a process of its own, what was there before the pass (Python, PyTorch, weights) taken off
    kept     by a recording of a batch, over what autograd keeps of the same pass for a backward pass

Linux only. With `--budget` the signals of a batch of units may take so many megabytes; by default a share
of what is free.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

import deconvviz as dv

LAYERS = ("conv3_4", "conv4_4", "conv5_1", "conv5_4")
WAYS = ("bare", "windows", "full size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32, help="pictures in the recording whose size is told")
    parser.add_argument("--budget", type=int, metavar="MB")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "LAYER"), help="one measurement, for ourselves")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    budget = None if asked.budget is None else asked.budget << 20
    if asked.measure:
        way, layer = asked.measure
        print(json.dumps(peak(way, layer, asked.units, budget)))
        return
    print(f"vgg19, one picture of 224 px, {asked.units} units, float32: peaks in MB, and over the bare pass")
    print(f"{'layer':<9} {'bare':>7} {'windows':>8} {'ratio':>6} {'full size':>10} {'ratio':>6}")
    for layer in LAYERS:
        bare, windows, full = (_in_a_process_of_its_own(way, layer, sys.argv[1:]) for way in WAYS)
        numbers = f"{bare:>7.0f} {windows:>8.0f} {windows / bare:>6.2f} {full:>10.0f} {full / bare:>6.2f}"
        print(f"{layer:<9} {numbers}", flush=True)
    print(f"\nvgg19, {asked.batch} pictures of 224 px, recorded up to conv5_4: kept, in MB")
    ours, theirs = kept_by_recording(asked.batch), kept_by_autograd(asked.batch)
    print(f"deconvviz {ours / 1e6:.0f}, autograd {theirs / 1e6:.0f}: {ours / theirs:.3f} of it")


def _in_a_process_of_its_own(way: str, layer: str, options: list[str]) -> float:
    command = [sys.executable, __file__, *options, "--measure", way, layer]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def peak(way: str, layer: str, units: int, budget: int | None) -> float:
    """Megabytes at the highest, above what was there before."""
    net = dv.load("vgg19", weights="random")
    layer_found = net.layers[layer]
    pictures = torch.randn(1, 3, 224, 224)
    _warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = _status("VmRSS")
    if way == "bare":
        with torch.no_grad():
            net.module(pictures)
    else:
        recording = net.record(pictures, layer)
        if way == "windows":
            recording.project(layer, recording.strongest(layer, units), memory=budget)
        else:  # a tensor without zeros sees everything
            signals = torch.ones(units, *layer_found.shape)
            recording.project(layer, signals, memory=budget)
    return _status("VmHWM") - before


def _warm_up() -> None:
    """What PyTorch sets up at its first convolution is none of either's."""
    with torch.no_grad():
        torch.conv2d(torch.randn(1, 8, 16, 16), torch.randn(8, 8, 3, 3))


def _status(name: str) -> float:
    """A number of this process in megabytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def kept_by_recording(batch: int) -> int:
    """Bytes of every tensor that is there because of a recording."""
    net = dv.load("vgg19", weights="random")
    net.record(torch.randn(1, 3, 224, 224), "conv5_4")  # the table of layers is made once
    before = _alive()
    recording = net.record(torch.randn(batch, 3, 224, 224), "conv5_4")
    found = _alive()
    assert len(recording) == batch
    return sum(size for memory, size in found.items() if memory not in before)


def _alive() -> dict[int, int]:
    """Bytes of each piece of memory that a tensor stands in."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor and not thing.is_meta]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def kept_by_autograd(batch: int) -> int:
    """Bytes of every tensor, other than weights, that is saved for a backward pass to conv5_4."""
    net = dv.load("vgg19", weights="random")
    last = int(net.layers["conv5_4"].dotted.split(".")[1])
    weights = {p.untyped_storage().data_ptr() for p in net.module.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        said = torch.nn.Sequential(*list(net.module.features)[: last + 1])(
            torch.randn(batch, 3, 224, 224, requires_grad=True)
        )
    assert said.requires_grad
    return sum(saved.values())


if __name__ == "__main__":
    main()
