"""Names and defaults of priors, parametrisations and objectives. Does not import torch."""

from __future__ import annotations

import math

from deconvviz.errors import MethodError
from deconvviz.paths import file_part, image_part

PRIORS = ("tv", "sparse", "none")
PRIOR_TEXT = {"tv": "total variation", "sparse": "sparse wavelets", "none": "no prior"}
WEIGHTS = {"tv": 0.05, "sparse": 0.2, "none": 0.0}
"""Default weight of each prior (ours: chosen on scenes in minivgg and photographs in SqueezeNet)."""

INVERT_STEPS, INVERT_LR = 400, 0.05
RANGE_WEIGHT = 0.01
"""Default weight of the penalty for colours outside 0 to 1 (ours)."""
VARIATION_EXPONENT = 2.0
"""Exponent of total variation that the paper uses for convolutional networks."""
RANGE_EXPONENT = 6.0
"""Exponent of the penalty for colours outside the range, as in the paper."""

PARAMETRISATIONS = ("fourier", "pixels", "norm")
OBJECTIVES = ("mean", "centre")
MAXIMISE_STEPS, MAXIMISE_LR = 256, 0.05
JITTER, SCALE, ROTATE = 4, 0.1, 5.0
"""Default random changes of `maximise`: pixels, share, degrees (ours; lucid moves by up to 12 pixels, scales
by up to 10 % and rotates by up to 10 degrees)."""
CONTRAST = 0.2
"""Default root mean square of the deviation from mid-grey, for the parametrisation ``norm`` (ours)."""


HIGHEST_LR = 1000.0


def inversion_file(image: str, layer: str, prior: str) -> str:
    """Return the name of the files of an inversion without suffix: NAME-LAYER-inversion-PRIOR."""
    return f"{image_part(image)}-{file_part(layer)}-inversion-{prior}"


def maximisation_file(layer: str) -> str:
    """Return the name of the files of a maximisation without suffix: LAYER-maximised."""
    return f"{file_part(layer)}-maximised"


def check_choice(name: str, choices: tuple[str, ...], what: str) -> None:
    """Raise MethodError, which names all choices, if there is no such choice."""
    if name not in choices:
        raise MethodError(f"no {what} {name!r}: there are {', '.join(choices)}")


def check_numbers(steps: int, lr: float, **at_least_zero: float) -> None:
    """Raise MethodError for a number of steps, a learning rate or a weight that is impossible."""
    if steps < 1:
        raise MethodError(f"{steps} steps were requested: request 1 or more")
    if not 0 < lr <= HIGHEST_LR:
        raise MethodError(
            f"a learning rate of {lr:g} was requested: give a number above 0, at most {HIGHEST_LR:g}"
        )
    for name, value in at_least_zero.items():
        if not (math.isfinite(value) and value >= 0):
            raise MethodError(f"{name} {value:g} was requested: give a finite number of at least 0")
