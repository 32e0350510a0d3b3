"""Weights of a part of a network: which tensors are missing, and whether only the last layers need them."""

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

Shape = tuple[int, int, int]
"""Channels, rows and columns of a network's input."""


@dataclass(frozen=True)
class MissingWeights:
    """Tensors that a network has and its weights do not, or in another shape.

    All layers below the first one that depends on them are whole.
    """

    names: tuple[str, ...]
    first: str  # the first module that depends on them; empty if none does
    note: str


def missing_weights(
    module: nn.Module, given: Mapping[str, Tensor], shape: Shape | None
) -> MissingWeights | None:
    """Return what is missing in weights that fill the lower layers of a network and nothing above them.

    None if something is missing further below: if a layer whose weights are there depends on a layer whose
    weights are not. To find this out the network runs once on an empty image of this `shape`.
    """
    own = module.state_dict(keep_vars=True)
    absent = _absent(given, own)
    whole = _whole(own, absent)
    if shape is None or not absent or not _is_beginning(own, given, absent, whole):
        return None
    try:
        with stdout_to_stderr():  # stdout belongs to the results
            reached, continues = _followed(module, own, absent, whole, shape)
    except Exception:  # whatever a network's code may raise: nothing is known then
        return None
    if continues:
        return None
    first = next((name for name in reached if name), "the output" if reached else "")
    ask = f"layers from {first} on cannot be asked for" if first else "no layer depends on them"
    names = tuple(key for key in own if key in absent)
    return MissingWeights(names, first, f"{differences(given, own)}: {ask}")


def clear(module: nn.Module, missing: MissingWeights) -> None:
    """Fill tensors that are missing with NaN (whole numbers: zero), so that no random number is left."""
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name in missing.names:
            own[name].fill_(float("nan") if own[name].is_floating_point() else 0)


def _absent(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> set[str]:
    """The needed tensors that are not there in the right shape, unless they are tied to one that is."""
    fitting = {key for key in own if key in given and given[key].shape == own[key].shape}
    there = {id(own[key]) for key in fitting}
    return {key for key in needed(own) - fitting if id(own[key]) not in there}


def _whole(own: Mapping[str, Tensor], absent: set[str]) -> set[str]:
    """The tensors of modules that miss none of their own tensors, and that no other module has."""
    lacking = {_module(key) for key in absent}
    shared = {id(own[key]) for key in needed(own) if _module(key) in lacking}
    return {key for key in needed(own) if _module(key) not in lacking and id(own[key]) not in shared}


def _is_beginning(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], absent: set[str], whole: set[str]
) -> bool:
    """Whether some matrix is whole, and tensors that the network does not have belong to what is missing."""
    registered = all(isinstance(tensor, Tensor) for tensor in own.values())
    some = any(own[key].dim() > 1 for key in whole)
    return registered and some and all(_is_within(key, own, absent) for key in given if key not in own)


def _is_within(key: str, own: Mapping[str, Tensor], absent: set[str]) -> bool:
    """Whether a tensor lies in a part of the network of which nothing is there: ``fc.0.weight`` in ``fc``."""
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
    """Run the network; return the outputs that depend on what is missing, and whether whole parts do."""
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
