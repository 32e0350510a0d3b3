"""Compare a state dict with the tensors of a network: names, shapes, number of classes."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deconvviz.printable_names import printable
from deconvviz.wording import counted

# Published weights of DenseNet and of the vision transformers still have names of earlier releases.
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$"), r"\1\2"),
    (re.compile(r"(mlp)\.linear_1\.(\w+)$"), r"\1.0.\2"),
    (re.compile(r"(mlp)\.linear_2\.(\w+)$"), r"\1.3.\2"),
)
_AUXILIARY = re.compile(r"^(AuxLogits|aux1|aux2)\.")  # heads of inception_v3 and googlenet for training
_NAME = 200  # maximum length of a name in messages: names in a file can have any length
_COUNTER = "num_batches_tracked"


def other_classes(state: dict[str, Tensor], module: nn.Module) -> int | None:
    """Return the number of classes in the weights if nothing else differs from the module, otherwise None."""
    own = module.state_dict()
    return only_classes_differ(with_current_names(state, own), own)


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Return the keys of tensors that contain NaN or infinity."""
    return [key for key, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor)]


def _is_finite(tensor: Tensor) -> bool:
    tensor = tensor if tensor.element_size() > 1 else tensor.float()
    # The sum is fast. It is not finite if any value is not, but it can also overflow: then check all values.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def outputs(module: nn.Module) -> int:
    """Return the number of outputs: the length of the last tensor, as in torchvision's classifiers."""
    count: int = next(reversed(module.state_dict().values())).shape[0]
    return count


def needed(own: Mapping[str, Tensor]) -> set[str]:
    """Return the names that a state dict must contain: all but the counters of batch normalisation."""
    return {key for key in own if not key.endswith(_COUNTER)}


def with_current_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the network's own names, without auxiliary heads."""
    given: OrderedDict[str, Tensor] = OrderedDict()
    for key, tensor in state.items():
        if key in own:
            given[key] = tensor
        elif not _AUXILIARY.match(key):
            given[current_name(key)] = tensor
    for key, tensor in own.items():  # older files lack these counters, which only training reads
        if key.endswith(_COUNTER) and key not in given:
            given[key] = torch.zeros_like(tensor, device="cpu")
    # MNASNet needs the version of its layout, which .safetensors files do not store
    metadata = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
    if metadata is not None:
        given._metadata = metadata  # type: ignore[attr-defined]
    return given


def current_name(key: str) -> str:
    """Return the current name of a tensor in published weights, with the same prefix."""
    for pattern, current in _RENAMED:
        key = pattern.sub(current, key)
    return key


def differences(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return a text that lists the names and shapes that differ; empty if none do."""
    absent = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    other = [
        f"{key} {tuple(given[key].shape)} in the file, {tuple(own[key].shape)} in the network"
        for key in given
        if key in own and given[key].shape != own[key].shape
    ]
    parts = []
    if absent:
        parts.append(f"{counted(len(absent), 'tensor')} missing ({listed(absent)})")
    if unexpected:
        parts.append(f"{counted(len(unexpected), 'unexpected tensor')} ({listed(unexpected)})")
    if other:
        parts.append(f"{counted(len(other), 'tensor')} with a different shape ({listed(other, ';')})")
    return ", ".join(parts)


def listed(keys: Sequence[str], comma: str = ",", shown: int = 3) -> str:
    """Return the first `shown` names in one text."""
    names = [printable(key) if len(key) <= _NAME else f"{printable(key[:_NAME])}..." for key in keys[:shown]]
    return f"{comma} ".join([*names, "..."] if len(keys) > shown else names)


def only_classes_differ(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes in the weights if nothing else differs, otherwise None."""
    differing = [key for key in own if key not in given or given[key].shape != own[key].shape]
    if given.keys() != own.keys() or not differing:
        return None
    matrices = [key for key in own if own[key].dim() > 1]
    if not matrices:
        return None
    last = matrices[-1]
    of_last = all(key.rpartition(".")[0] == last.rpartition(".")[0] for key in differing)
    same_inputs = all(given[key].shape[1:] == own[key].shape[1:] for key in differing)
    return given[last].shape[0] if of_last and same_inputs else None
