"""Weights of a part of a network: which tensors are missing, and which layers depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from deconvviz.engine.influence import Influence
from deconvviz.engine.recorder import record_tape
from deconvviz.models.state_dict import differences, needed
from deconvviz.models.stdout import stdout_to_stderr

Shape = tuple[int, ...]
"""Channels, rows and columns of a network's input."""


@dataclass(frozen=True)
class MissingWeights:
    """Tensors of a network that its weights lack, or have with a different shape.

    All layers before the first one that depends on them have all their weights.
    """

    names: tuple[str, ...]
    first: str  # the first module that depends on them; empty if none does
    note: str


def missing_weights(
    module: nn.Module, given: Mapping[str, Tensor], shape: Shape | None
) -> MissingWeights | None:
    """Return the missing tensors if the weights fill the lower layers of a network and no others.

    Returns None if a layer that has its weights depends on a layer that lacks them. To find out, the network
    runs once on a zero image of this `shape`.
    """
    own = module.state_dict(keep_vars=True)
    absent = _absent(given, own)
    whole = _whole(own, absent)
    if shape is None or not absent or not _is_beginning(own, given, absent, whole):
        return None
    try:
        with stdout_to_stderr():
            reached, continues = _followed(module, own, absent, whole, shape)
    except Exception:  # a network's code can raise anything; the dependencies are then unknown
        return None
    if continues:
        return None
    first = next((name for name in reached if name), "the output" if reached else "")
    effect = f"layers from {first} on cannot be requested" if first else "no layer depends on them"
    names = tuple(key for key in own if key in absent)
    return MissingWeights(names, first, f"{differences(given, own)}: {effect}")


def clear(module: nn.Module, missing: MissingWeights) -> None:
    """Fill the missing tensors with NaN, or zero for integers, so that no random values remain."""
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name in missing.names:
            own[name].fill_(float("nan") if own[name].is_floating_point() else 0)


def _absent(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> set[str]:
    """Return the needed tensors that are absent or misshapen, unless they are tied to a fitting one."""
    fitting = {key for key in own if key in given and given[key].shape == own[key].shape}
    present = {id(own[key]) for key in fitting}
    return {key for key in needed(own) - fitting if id(own[key]) not in present}


def _whole(own: Mapping[str, Tensor], absent: set[str]) -> set[str]:
    """Return the tensors of complete modules, without those that are shared with an incomplete one."""
    lacking = {_module(key) for key in absent}
    shared = {id(own[key]) for key in needed(own) if _module(key) in lacking}
    return {key for key in needed(own) if _module(key) not in lacking and id(own[key]) not in shared}


def _is_beginning(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], absent: set[str], whole: set[str]
) -> bool:
    """Return True if some matrix is present and all unexpected tensors belong to missing parts."""
    registered = all(isinstance(tensor, Tensor) for tensor in own.values())
    some = any(own[key].dim() > 1 for key in whole)
    return registered and some and all(_is_within(key, own, absent) for key in given if key not in own)


def _is_within(key: str, own: Mapping[str, Tensor], absent: set[str]) -> bool:
    """Return True if a part of the network that contains this tensor is entirely missing."""
    names = key.split(".")
    for depth in range(1, len(names)):
        prefix = ".".join(names[:depth]) + "."
        inside = [one for one in needed(own) if one.startswith(prefix)]
        if inside and absent.issuperset(inside):
            return True
    return False


def _module(key: str) -> str:
    return key.rpartition(".")[0]


def _followed(
    module: nn.Module, own: Mapping[str, Tensor], absent: set[str], whole: set[str], shape: Shape
) -> tuple[list[str], bool]:
    """Run the network; return which outputs depend on missing tensors, and whether complete parts do."""
    registered = {id(tensor) for tensor in chain(module.parameters(), module.buffers())}
    if any(id(own[key]) not in registered for key in absent):
        raise ValueError("the state dict has tensors that the network does not compute with")
    influence = Influence.of(module, absent, whole)
    like = next((tensor for tensor in own.values() if tensor.is_floating_point()), torch.empty(0))
    blank = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
    influence.mark_images(blank)
    with influence:
        record_tape(module, blank, influence.watch(lambda out, tensor: True))
    return influence.reached, influence.continues
