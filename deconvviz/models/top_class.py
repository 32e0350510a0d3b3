"""Top classes of an image, with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

RANKED = 5
"""Number of classes that are kept for each image: the top class and the others."""

_TOLERANCE = 5e-3  # rounding error of the sum of 1000 probabilities in half precision


@dataclass(frozen=True)
class TopClass:
    """Class with the highest score for one image.

    Attributes:
        name: Name of the class.
        index: Position of the class in the network's output.
        probability: The score, if the outputs are probabilities that add up to 1; otherwise the softmax of
            the outputs. None if all outputs are between 0 and 1 but do not add up to 1, because such classes
            do not exclude one another.
        score: The network's output for the class.
        others: The classes with the next highest scores, at most four, in this order.
    """

    name: str
    index: int
    probability: float | None
    score: float
    others: tuple[TopClass, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        if self.probability is None:
            return f"{self.name} (score {self.score:.3g})"
        percent = 100 * self.probability
        return f"{self.name} ({'>99.9' if percent > 99.9 else f'{percent:.3g}'} %)"

    def to_json(self) -> dict[str, Any]:
        """Return the class, without `others`, as plain JSON values."""
        return {name: getattr(self, name) for name in ("name", "index", "probability", "score")}


def top_classes(scores: Tensor, classes: Sequence[str]) -> tuple[TopClass | None, ...]:
    """Return the top class of each image from scores (B, number of classes).

    The entry of an image is None if there are fewer than two classes, if a score is not finite, or if two
    classes share the highest score.
    """
    return tuple(_top_class(row, classes) for row in scores.detach().cpu().double())


def _top_class(scores: Tensor, classes: Sequence[str]) -> TopClass | None:
    if len(classes) < 2 or not bool(scores.isfinite().all()):
        return None
    highest = float(scores.max())
    if int((scores == highest).sum()) > 1:
        return None
    probabilities = _probabilities(scores)
    order = torch.sort(scores, descending=True, stable=True).indices[:RANKED].tolist()
    first, *others = (
        TopClass(
            classes[index],
            index,
            None if probabilities is None else float(probabilities[index]),
            float(scores[index]),
        )
        for index in order
    )
    return replace(first, others=tuple(others))


def _probabilities(scores: Tensor) -> Tensor | None:
    """Return the probabilities of the classes; None if the classes do not exclude one another."""
    if bool((scores >= 0).all()) and bool((scores <= 1 + _TOLERANCE).all()):
        return scores if abs(float(scores.sum()) - 1) <= _TOLERANCE else None
    return torch.softmax(scores, dim=0)  # correct for logits and for logarithms of probabilities
