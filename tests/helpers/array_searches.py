"""Small networks for signals, bands, volumes and video, folders of their files, and a full sort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import deconvviz as dv
from helpers.asking import seeded

Array = np.ndarray[Any, Any]


class Kind(NamedTuple):
    """One kind of input: its shape, a module with the layers ``0`` and ``4``, and their receptive fields."""

    shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    axes: str


KINDS: Mapping[str, Kind] = {
    "signal": Kind(
        (2, 60),
        lambda: nn.Sequential(
            nn.Conv1d(2, 5, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(5, 4, 3),
            nn.ReLU(inplace=True),
        ),
        "x",
    ),
    "bands": Kind(
        (5, 14, 18),
        lambda: nn.Sequential(
            nn.Conv2d(5, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 4, 3),
            nn.ReLU(inplace=True),
        ),
        "yx",
    ),
    "volume": Kind(
        (1, 8, 10, 12),
        lambda: nn.Sequential(
            nn.Conv3d(1, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(5, 4, 2),
            nn.ReLU(inplace=True),
        ),
        "zyx",
    ),
}
LAYERS = ("0", "4")


def network(kind: str, dtype: torch.dtype = torch.float64) -> dv.Network:
    """Return a network whose inputs are standardised with another mean and deviation in each channel."""
    one = KINDS[kind]
    channels = one.shape[0]
    mean = [0.25 * number for number in range(channels)]
    std = [1.0 + number for number in range(channels)]
    return dv.Network(seeded(one.build).to(dtype), shape=one.shape, mean=mean, std=std, name=kind)


def write_arrays(folder: Path, kind: str, count: int = 13) -> Path:
    """Write arrays into two subfolders: every third is longer than the shape, and every fifth shorter."""
    shape = KINDS[kind].shape
    for number in range(count):
        longer = 3 if number % 3 == 1 else -2 if number % 5 == 3 else 0
        lengths = tuple(length + longer for length in shape[1:])
        values = np.random.default_rng(number).normal(size=(shape[0], *lengths)).astype(np.float32)
        path = folder / ("even" if number % 2 == 0 else "odd") / f"{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 4:
            np.save(path, values)
        else:
            np.savez(path, values=values)
    return folder


def prepared(net: dv.Network, file: Path) -> Tensor:
    """Return the network's input (C, ...) for a file: cut or padded around its centre, standardised."""
    loaded = np.load(file)
    values: Array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    shape = net.preprocessing.input_shape
    found = np.zeros(shape)
    into, out_of = [slice(None)], [slice(None)]
    for have, want in zip(values.shape[1:], shape[1:], strict=True):
        spare = abs(have - want) // 2
        into.append(slice(None) if have >= want else slice(spare, spare + have))
        out_of.append(slice(None) if have <= want else slice(spare, spare + want))
    found[tuple(into)] = values[tuple(out_of)]
    ones = [1] * (len(shape) - 1)
    mean, std = (np.reshape(one, (-1, *ones)) for one in (net.preprocessing.mean, net.preprocessing.std))
    return torch.from_numpy((found - mean) / std).float()


class Found(NamedTuple):
    """One peak of a full sort."""

    activation: float
    image: str
    position: tuple[int, ...]


def full_sort(
    net: dv.Network, inputs: Mapping[str, Tensor], layers: Sequence[str], k: int
) -> dict[tuple[str, int], list[Found]]:
    """Return the strongest unit of every channel in each input, sorted, from plain forward passes."""
    rows: dict[tuple[str, int], list[Found]] = {}
    parts = dict(net.module.named_children())
    for image, tensor in inputs.items():
        outputs: dict[str, Array] = {}
        value = tensor[None].to(net.dtype)
        with torch.no_grad():
            for name, part in parts.items():
                value = part(value)
                outputs[name] = value[0].numpy().copy()
        for layer in layers:
            for channel, values in enumerate(outputs[layer]):
                place = max(np.ndindex(values.shape), key=lambda at: (values[at], tuple(-n for n in at)))
                rows.setdefault((layer, channel), []).append(Found(float(values[place]), image, place))
    return {
        key: [one for one in sorted(found, key=lambda one: (-one.activation, one.image)) if one.activation][
            :k
        ]
        if key[0] == "4"  # rectified
        else sorted(found, key=lambda one: (-one.activation, one.image))[:k]
        for key, found in rows.items()
    }
