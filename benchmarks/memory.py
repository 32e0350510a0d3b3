"""Memory of projecting units, and memory that a recording keeps.

    peak     Peak memory of recording and projecting, relative to the peak of a plain forward pass of the same
             network. Each runs in its own process, and the memory used before the pass (Python, PyTorch,
             weights) is subtracted.
    kept     Memory that a recording of a batch keeps, relative to the memory that autograd keeps for a
             backward pass through the same network.

Linux only. `--budget` limits the memory for the signals of a batch of units, in megabytes; the default
is a share of the free memory.
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
MODES = ("bare", "windows", "full size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument(
        "--batch", type=int, default=32, help="images in the recording whose memory is measured"
    )
    parser.add_argument("--budget", type=int, metavar="MB", help="memory for signals in one batch")
    parser.add_argument("--measure", nargs=2, metavar=("MODE", "LAYER"), help="internal: one measurement")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    budget = None if options.budget is None else options.budget << 20
    if options.measure:
        mode, layer = options.measure
        print(json.dumps(peak(mode, layer, options.units, budget)))
        return
    print(
        f"vgg19, one image of 224 px, {options.units} units, float32: peaks in MB, and ratio to the bare pass"
    )
    print(f"{'layer':<9} {'bare':>7} {'windows':>8} {'ratio':>6} {'full size':>10} {'ratio':>6}")
    for layer in LAYERS:
        bare, windows, full = (_in_own_process(mode, layer, sys.argv[1:]) for mode in MODES)
        numbers = f"{bare:>7.0f} {windows:>8.0f} {windows / bare:>6.2f} {full:>10.0f} {full / bare:>6.2f}"
        print(f"{layer:<9} {numbers}", flush=True)
    print(f"\nvgg19, {options.batch} images of 224 px, recorded up to conv5_4: memory kept, in MB")
    ours, theirs = kept_by_recording(options.batch), kept_by_autograd(options.batch)
    print(f"deconvviz {ours / 1e6:.0f}, autograd {theirs / 1e6:.0f}, ratio {ours / theirs:.3f}")


def _in_own_process(mode: str, layer: str, options: list[str]) -> float:
    command = [sys.executable, __file__, *options, "--measure", mode, layer]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def peak(mode: str, layer: str, units: int, budget: int | None) -> float:
    """Return the peak memory in megabytes, minus the memory used before the pass."""
    net = dv.load("vgg19", weights="random")
    layer_found = net.layers[layer]
    images = torch.randn(1, 3, 224, 224)
    _warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (VmHWM)
    before = _status("VmRSS")
    if mode == "bare":
        with torch.no_grad():
            net.module(images)
    else:
        recording = net.record(images, layer)
        if mode == "windows":
            recording.project(layer, recording.strongest(layer, units), memory=budget)
        else:  # a tensor without zeros needs windows of full size
            signals = torch.ones(units, *layer_found.shape)
            recording.project(layer, signals, memory=budget)
    return _status("VmHWM") - before


def _warm_up() -> None:
    """Run one convolution, so that the initialisation of PyTorch is not measured."""
    with torch.no_grad():
        torch.conv2d(torch.randn(1, 8, 16, 16), torch.randn(8, 8, 3, 3))


def _status(name: str) -> float:
    """Return an entry of /proc/self/status in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def kept_by_recording(batch: int) -> int:
    """Return the bytes of all tensors that a recording keeps."""
    net = dv.load("vgg19", weights="random")
    net.record(torch.randn(1, 3, 224, 224), "conv5_4")  # computes the table of layers, once for each network
    before = _tensor_storages()
    recording = net.record(torch.randn(batch, 3, 224, 224), "conv5_4")
    found = _tensor_storages()
    assert len(recording) == batch
    return sum(size for address, size in found.items() if address not in before)


def _tensor_storages() -> dict[int, int]:
    """Return the bytes of each storage that a tensor uses, by address."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor and not thing.is_meta]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def kept_by_autograd(batch: int) -> int:
    """Return the bytes of all tensors except weights that autograd saves for a backward pass from conv5_4."""
    net = dv.load("vgg19", weights="random")
    last = int(net.layers["conv5_4"].module.split(".")[1])
    weights = {p.untyped_storage().data_ptr() for p in net.module.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = torch.nn.Sequential(*list(net.module.features)[: last + 1])(
            torch.randn(batch, 3, 224, 224, requires_grad=True)
        )
    assert output.requires_grad
    return sum(saved.values())


if __name__ == "__main__":
    main()
