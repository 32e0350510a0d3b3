"""Replace weights of a network at random, and put them back bit for bit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deconvviz.engine.hooks import exclusive
from deconvviz.engine.preservation import is_plain
from deconvviz.engine.wrappers import named_parts
from deconvviz.layers import Layer
from deconvviz.network import Network


@dataclass(frozen=True, eq=False)
class WeightGroup:
    """The weights, biases and buffers of one module on the way to a layer."""

    module: str  # dotted name
    tensors: tuple[Tensor, ...]


def weight_groups(network: Network, layer: Layer) -> list[WeightGroup]:
    """Return the groups of weights that a layer can depend on, in the order of the forward pass.

    They are the modules that return their output before the layer does, and the layer itself. The weights of
    a part without a row in the table of layers belong to the module around it.
    """
    order: dict[str, int] = {}
    for number, row in enumerate(network.layers):
        order.setdefault(row.module.partition(":")[0], number)
    own = layer.module.partition(":")[0]
    last = order.get(own, len(order))
    found: dict[str, dict[int, Tensor]] = {}
    for name, part in named_parts(network.module):
        holder = _holder(name, order)
        above = holder == "" or own.startswith(f"{holder}.")  # the layer is inside this module
        if order.get(holder, last) > last and not above:
            continue
        for tensor in _own_tensors(part):
            found.setdefault(holder, {})[id(tensor)] = tensor
    seen: set[int] = set()
    groups = []
    for name in sorted(found, key=lambda one: order.get(one, last)):
        new = [tensor for key, tensor in found[name].items() if key not in seen]
        seen |= set(found[name])
        if new:
            groups.append(WeightGroup(name, tuple(new)))
    return groups


def _holder(name: str, order: dict[str, int]) -> str:
    """Return the module itself, or the nearest module around it that has a row."""
    while name and name not in order:
        name = name.rpartition(".")[0]
    return name


def _own_tensors(part: nn.Module) -> list[Tensor]:
    tensors = [*part._parameters.values(), *part._buffers.values()]
    return [t for t in tensors if t is not None and t.is_floating_point() and is_plain(t) and t.numel()]


@contextmanager
def random_weights(network: Network, groups: Sequence[WeightGroup], seed: int) -> Iterator[None]:
    """Replace the weights of some groups at random inside this context.

    The values of each tensor are shuffled, so that they keep their distribution: weights, biases and the
    statistics of batch norm. The tensors get other memory; their own memory is not written to, and they get
    it back at the end, also after an exception or an interrupt. Other threads wait for the network.
    """
    with exclusive(network.module):
        own = [(tensor, tensor.data) for group in groups for tensor in group.tensors]
        try:
            for group in groups:
                # seeded by module, so that a module has the same random weights in every state
                shuffler = torch.Generator().manual_seed(zlib.crc32(f"{seed} {group.module}".encode()))
                for tensor in group.tensors:
                    tensor.data = shuffled(tensor.data, shuffler)
            yield
        finally:
            for tensor, data in own:
                tensor.data = data


def shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor with the same values in random order, in the same memory format."""
    order = torch.randperm(values.numel(), generator=generator).to(values.device)
    return torch.empty_like(values).copy_(values.reshape(-1)[order].view(values.shape))
