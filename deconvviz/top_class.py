"""The class that a network gives an image, with its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

_TOLERANCE = 5e-3  # of a sum of 1000 probabilities in half precision


@dataclass(frozen=True)
class TopClass:
    """The class with the highest score for one image.

    `score` is the network's output as it is. `probability` is the same if the outputs are probabilities that
    add up to 1, else their softmax. It is None if the outputs are all between 0 and 1 and do not add up to 1:
    such scores belong to classes that do not exclude one another.
    """

    name: str
    index: int
    probability: float | None
    score: float

    def __str__(self) -> str:
        if self.probability is None:
            return f"{self.name} (score {self.score:.3g})"
        percent = 100 * self.probability
        return f"{self.name} ({'>99.9' if percent > 99.9 else f'{percent:.3g}'} %)"

    def to_json(self) -> dict[str, Any]:
        """Return the class as plain JSON values."""
        return asdict(self)


def top_classes(scores: Tensor, classes: Sequence[str]) -> tuple[TopClass | None, ...]:
    """Return the top class of each image from scores (B, number of classes).

    None where nothing can be said: fewer than two classes, scores that are not finite, two classes that share
    the highest score.
    """
    return tuple(_top_class(row, classes) for row in scores.detach().cpu().double())


def _top_class(scores: Tensor, classes: Sequence[str]) -> TopClass | None:
    if len(classes) < 2 or not bool(scores.isfinite().all()):
        return None
    highest = float(scores.max())
    if int((scores == highest).sum()) > 1:
        return None
    index = int(scores.argmax())
    probability = _probabilities(scores)
    return TopClass(
        classes[index], index, None if probability is None else float(probability[index]), highest
    )


def _probabilities(scores: Tensor) -> Tensor | None:
    """Return probabilities of classes that exclude one another; None if the scores are not of that kind."""
    if bool((scores >= 0).all()) and bool((scores <= 1 + _TOLERANCE).all()):
        return scores if abs(float(scores.sum()) - 1) <= _TOLERANCE else None
    return torch.softmax(scores, dim=0)  # of logits, or of the logarithms of probabilities
