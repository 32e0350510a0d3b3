"""Detections of a detector, and the class score that each had before the final selection.

A detector computes class scores for thousands of anchors or proposals, and selects a few. The selection is
differentiable, because it only indexes scores. The gradient of a detection's score therefore shows which
class score it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.entries import Entry
from deconvviz.engine.hooks import evaluation, exclusive, without_gradients_of_weights
from deconvviz.engine.network_inputs import NetworkInputs
from deconvviz.engine.preservation import preserved
from deconvviz.engine.wrappers import eager, named_parts
from deconvviz.errors import NetworkError, UnitError

_HEADS = {
    "RoIHeads": "{name}.box_predictor[0]",
    "RetinaNetClassificationHead": "{name}",
    "FCOSClassificationHead": "{name}",
    "SSDScoringHead": "{name}",
    "SSDClassificationHead": "{name}",
    "SSDLiteClassificationHead": "{name}",
}
"""Classes of modules of torchvision, and the name of the output that has the class scores."""


@dataclass(frozen=True)
class Detection(Entry):
    """Class score of one detection, before the final selection.

    `channel` is the class and `number` that of the detection. `score` is the score that the detector returns,
    `box` is (x0, y0, x1, y1) in pixels of the picture. Boxes and the selection are constants.
    """

    number: int = 0
    score: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Detection:
        return cls(**{**stored, "index": tuple(stored["index"]), "box": tuple(stored["box"])})

    def __str__(self) -> str:
        return (
            f"detection {self.number}, class {self.channel}, score {self.score:.3g} = {self.activation:.4g}"
        )


def takes_list(module: nn.Module) -> bool:
    """Return whether a module is a detector of torchvision, which is called with a list of pictures."""
    return type(module).__module__.startswith("torchvision.models.detection.")


def scores_output(module: nn.Module, network: str) -> str:
    """Return the name of the output of a detector with its class scores. Raise NetworkError if unknown."""
    for name, part in named_parts(module):
        if form := _HEADS.get(type(part).__name__):
            return form.format(name=name).removeprefix(".")
    raise NetworkError(
        f"{network} is not a detector whose class scores are known: there are torchvision's. Project units "
        "of a layer instead"
    )


def find_detections(module: nn.Module, given: NetworkInputs, output: str) -> list[Detection]:
    """Return the detections in a picture, each with the index of its class score in an output of a module.

    Raises:
        UnitError: If the network does not return boxes, labels and scores.
    """
    call, *keys = output.replace("]", "").split("[")
    with (
        exclusive(module) as parts,
        eager(module),
        torch.inference_mode(False),
        torch.enable_grad(),
        preserved(parts, weights=True),
        evaluation(parts),
        without_gradients_of_weights(module),
        _leaf_at(dict(parts)[call], keys) as leaves,
    ):
        result = given.copied().call(module)
        return _found(result, leaves)


def _found(result: Any, leaves: Sequence[Tensor]) -> list[Detection]:
    one = result[0] if isinstance(result, (list, tuple)) and result else None
    if not isinstance(one, Mapping) or not {"boxes", "labels", "scores"} <= set(one) or not leaves:
        raise UnitError("the network does not return boxes, labels and scores for a picture")
    found = []
    for number, score in enumerate(one["scores"]):
        index, value = _source(score, leaves[0])
        found.append(
            Detection(
                image=0,
                channel=int(one["labels"][number]),
                activation=value,
                index=index,
                number=number,
                score=float(score.detach()),
                box=tuple(one["boxes"][number].detach().tolist()),
            )
        )
    return found


def _source(score: Tensor, scores: Tensor) -> tuple[tuple[int, ...], float]:
    """Return the index and the value of the class score that became the score of a detection."""
    gradient = None
    if score.requires_grad:
        gradient = torch.autograd.grad(score, scores, retain_graph=True, allow_unused=True)[0]
    if gradient is None or not bool((gradient > 0).any()):
        raise UnitError(
            f"the class score of a detection with score {float(score.detach()):.6g} is not known: the score "
            "does not change with any class score, because it is saturated"
        )
    flat, place = int(gradient.flatten().argmax()), []
    for length in reversed(gradient.shape):
        place.append(flat % length)
        flat //= length
    index = tuple(reversed(place))
    return index, float(scores.detach()[index])


@contextmanager
def _leaf_at(head: nn.Module, keys: Sequence[str]) -> Iterator[list[Tensor]]:
    """Replace an output of a module, or a part of it, by a copy with gradients. Yield a list with it."""
    leaves: list[Tensor] = []

    def hook(part: nn.Module, args: Any, output: Any) -> Any:
        own = output[int(keys[0])] if keys else output
        leaf = own.detach().clone().requires_grad_(True)
        leaves.append(leaf)
        changed = leaf.clone()  # a leaf cannot be overwritten
        if not keys:
            return changed
        return tuple(changed if number == int(keys[0]) else one for number, one in enumerate(output))

    handle = head.register_forward_hook(hook)
    try:
        yield leaves
    finally:
        handle.remove()
