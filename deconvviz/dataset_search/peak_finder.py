"""The highest position of every channel, for each picture of a batch, while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.hooks import capture_outputs
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import LayerError
from deconvviz.image_sources.batches import Batch
from deconvviz.layers import Layer
from deconvviz.models.structure import check_has_numbers
from deconvviz.network import Network

Numbers: TypeAlias = npt.NDArray[Any]
Finder: TypeAlias = Callable[[Tensor], tuple[Numbers, Numbers]]
"""Prepared pictures (B, C, H, W) -> what each channel says at most (B, N), and where on its map (B, N).

N counts the channels of all layers, one layer after the other. A place is row times columns plus column, the
first of equal ones; 0 for a unit without position.
"""


@dataclass(frozen=True, eq=False)
class Peaks:
    """What a batch of b pictures gave."""

    said: Numbers  # (b, N) float, finite
    places: Numbers  # (b, N) int32
    numbers: Numbers  # (b) int64, of the pictures
    skipped: Mapping[int, str]  # pictures that count for nothing: number, reason


@contextmanager
def finding(network: Network, layers: Sequence[Layer]) -> Iterator[Finder]:
    """The network with hooks on these layers alone, run no further than the deepest of them.

    Nothing of a map is kept but its peaks. Raises LayerError where a layer is not reached, or gives something
    else than in the sketch.
    """
    check_has_numbers(network.module, network.name)
    asked = {layer.module: layer for layer in layers}
    parts = dict(named_parts(network.module))
    found: dict[str, tuple[Tensor, Tensor]] = {}
    count = 0
    last: tuple[TensorWeakRef, int, str] | None = None  # what was seen before, its version, its name

    def see(name: str, output: Tensor) -> None:
        nonlocal last
        part = parts[name] if name in parts else parts[name.rpartition(":")[0]]
        if last is not None and _is_rectified(part, output, *last[:2]):
            found[name] = _rectified(*found[last[2]])  # its maps need not be read once more
        else:
            found[name] = _highest(_flat(output, asked[name], network, count))
        last = (TensorWeakRef(output), output._version, name)

    def find(pictures: Tensor) -> tuple[Numbers, Numbers]:
        nonlocal last, count
        found.clear()
        last, count = None, len(pictures)
        run(pictures.to(network.device, network.dtype, non_blocking=True))
        if missed := [layer.name for layer in layers if layer.module not in found]:
            raise LayerError(f"{', '.join(missed)} of {network.name} was not reached with these pictures")
        said = torch.cat([found[layer.module][0] for layer in layers], dim=1)
        places = torch.cat([found[layer.module][1] for layer in layers], dim=1)
        return said.cpu().numpy(), places.cpu().numpy()

    with capture_outputs(network.module, asked, see) as run:
        yield find


def _is_rectified(part: nn.Module, output: Tensor, reference: TensorWeakRef, version: int) -> bool:
    """Whether a ReLU in place, and nothing else, has written to the tensor that was seen before."""
    if type(part) is not nn.ReLU or "forward" in vars(part):
        return False
    return reference() is output and output._version == version + 1


def _rectified(said: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The peaks of a ReLU from those of what it was given. A map that is all zero has its first place."""
    return said.clamp(min=0), places.where(said > 0, 0)


def look(find: Finder, layers: Sequence[Layer], batch: Batch, size: int) -> Peaks:
    """The peaks in one batch. The network always sees `size` pictures: its last digits depend on that."""
    count, skipped = len(batch.numbers), dict(batch.failures)
    if not count:
        nothing = np.empty((0, sum(layer.shape[0] for layer in layers)))
        return Peaks(nothing, nothing.astype(np.int32), batch.numbers, skipped)
    said, places = (found[:count] for found in find(_filled(batch.inputs, size)))
    finite = np.isfinite(said).all(axis=1)
    for row in np.flatnonzero(~finite):
        skipped[int(batch.numbers[row])] = _not_finite(layers, said[row])
    return Peaks(said[finite], places[finite], batch.numbers[finite], skipped)


def _filled(inputs: Tensor, size: int) -> Tensor:
    if len(inputs) == size:
        return inputs
    return torch.cat([inputs, inputs.new_zeros(size - len(inputs), *inputs.shape[1:])])


def _not_finite(layers: Sequence[Layer], said: Numbers) -> str:
    ends = np.cumsum([layer.shape[0] for layer in layers])
    first = int(np.flatnonzero(~np.isfinite(said))[0])
    return f"{layers[int(np.searchsorted(ends, first, side='right'))].name} gives NaN or infinity"


def _flat(output: Tensor, layer: Layer, network: Network, count: int) -> Tensor:
    """(B, C, positions), in double precision if the network computes so, else in single."""
    if len(output) != count:
        raise LayerError(
            f"{layer.name} of {network.name} gave {len(output)} rows for {count} pictures: what it says "
            "cannot be told picture by picture"
        )
    maps = output.detach().movedim(-1, 1) if layer.channels_last else output.detach()
    if tuple(maps.shape[1:]) != layer.shape:
        raise LayerError(
            f"{layer.name} of {network.name} gave {tuple(maps.shape[1:])} for a picture and not {layer.shape}"
        )
    whole = maps.to(torch.float64 if network.dtype == torch.float64 else torch.float32)
    return whole.reshape(*whole.shape[:2], -1)  # (B, C, H, W) -> (B, C, H * W)


def _highest(flat: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, P) -> (B, C) the highest number, NaN if there is one, and the first place that has it."""
    if flat.device.type == "cpu":  # one look at the memory; torch's own takes four times as long
        places = torch.from_numpy(np.argmax(flat.numpy(), axis=2))
    else:
        places = flat.argmax(dim=2)
    return flat.gather(2, places[..., None])[..., 0], places.int()
