"""Advice for a network that does not run on an input, chosen by the exception."""

from __future__ import annotations

import re

from torch import nn

ONE_INPUT = (
    "its forward() takes more than one input, but deconvviz passes one: name the inputs, with the shapes of "
    'those that are not pictures, in deconvviz.Network(module, inputs={"image": None, "text": (512,)}), or '
    "wrap the network in a module whose forward(x) supplies the others"
)
SEVERAL = (
    "all its inputs were taken for pictures: give the shapes of those that are not, "
    'deconvviz.Network(module, inputs={"image": None, "text": (512,)})'
)
EVALUATION = (
    "it must be in evaluation mode: call module.eval() first; deconvviz sets the flag `training` to False "
    "but calls neither eval() nor train()"
)
TYPES = "its tensors have different types or devices: convert the network with module.to(...)"
SIZE = "set the expected input with deconvviz.Network(module, size=..., mean=..., std=...)"

_MISSING = r"missing \d+ required (positional|keyword-only) arg"
_IN_TRAINING = r"\beval\b|evaluation mode|when training|training mode"
_OF_TYPES = (
    r"(scalar|data|input|weight|bias) ?type|dtype|same type|same device|on device|devices"
    r"|\bhalf\b|cuda|bfloat16|not implemented for '"
)
_OF_DIMENSIONS = (
    r"expected (?:2D|3D|4D) \(unbatched\) or (\d)D \(batched\)",
    r"expected input to be (?:2D or )?(\d)D",
    r"expected (?:2D or )?(\d)-?D (?:or \dD )?input",
    r"(\d)-?d(?:imensional)? input (?:is )?(?:expected|required)",
    r"(?:not enough|too many) values to unpack \(expected (\d)",
    r"input\.dim\(\) = 4 is not equal to len\(dims\) = (\d)",
)


def advice(reason: Exception, module: nn.Module, *, several: bool = False) -> str:
    """Return advice on an exception that a network's forward() raised; `several`: for several pictures."""
    text = str(reason)
    if several:
        return SEVERAL
    if isinstance(reason, TypeError) and re.search(_MISSING, text):
        return ONE_INPUT
    if dimensions := _dimensions(text) or _of_first_part(module):
        return (
            f"it expects {dimensions}-D input, but images are 4-D, (B, C, H, W): wrap the network in a "
            "module that converts its input"
        )
    if re.search(_IN_TRAINING, text, re.IGNORECASE):
        return EVALUATION
    return TYPES if re.search(_OF_TYPES, text, re.IGNORECASE) else SIZE


def _dimensions(text: str) -> int | None:
    """Return the number of dimensions that an error message asks for, if it is not 4."""
    for pattern in _OF_DIMENSIONS:
        if found := re.search(pattern, text, re.IGNORECASE):
            return int(found[1]) if int(found[1]) != 4 else None
    if found := re.search(r"weight of size \[([\d, ]+)\]", text):
        count = found[1].count(",") + 1
        return count if count in (3, 5) else None
    return None


def _of_first_part(module: nn.Module) -> int | None:
    """Return the number of dimensions that the first layer with a fixed number needs, if it is not 4."""
    for part in module.modules():
        kind = type(part).__name__
        if not type(part).__module__.startswith("torch.nn.modules."):
            continue
        if isinstance(part, nn.RNNBase) or kind.endswith("1d"):
            return 3
        if kind.endswith(("2d", "3d")):
            return 5 if kind.endswith("3d") else None
    return None
