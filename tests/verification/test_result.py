"""Numbers of a verification."""

from __future__ import annotations

import math

import pytest
import torch

from deconvviz.verification.passes import relative_difference, turns
from deconvviz.verification.result import ALLOWED, Verification


def test_difference_is_relative_to_the_largest_value_of_the_second_map() -> None:
    theirs = torch.tensor([0.0, -4.0, 2.0])
    assert relative_difference(theirs + torch.tensor([0.0, 0.0, 0.02]), theirs) == pytest.approx(0.005)
    assert relative_difference(theirs, theirs) == 0
    zero = torch.zeros(3)
    assert relative_difference(zero, zero) == 0
    assert relative_difference(theirs, zero) == math.inf
    assert relative_difference(zero, theirs) == 1
    assert math.isnan(relative_difference(theirs * math.nan, theirs))


@pytest.mark.parametrize(
    ("differences", "passed", "largest", "worst"),
    [
        ((), True, 0.0, None),
        ((1e-7, 9e-5), True, 9e-5, 1),
        ((1e-7, 1.1e-4, 1e-9), False, 1.1e-4, 1),
        ((1e-7, math.inf), False, math.inf, 1),
        ((1e-7, math.nan, 1e-6), False, None, 1),
    ],
)
def test_verification_passes_if_no_difference_is_too_large(
    differences: tuple[float, ...], passed: bool, largest: float | None, worst: int | None
) -> None:
    found = Verification("captum", differences, ALLOWED["float32"])
    assert found.passed is passed
    assert found.units == len(differences)
    if largest is not None:
        assert found.largest_difference == largest
    if worst is not None:
        assert found.worst == worst


def test_verifications_are_joined() -> None:
    one, two = Verification("captum", (1e-7, 3e-7), 1e-4), Verification("autograd", (2e-7,), 1e-4)
    both = Verification.together([one, two, one])
    assert both.to_json() == {"route": "captum, autograd", "largest_difference": 3e-7, "units": 5}
    assert both.passed


def test_units_are_grouped_with_one_of_each_image() -> None:
    assert turns([1, 0, 1, 1, 0]) == [[0, 1], [2, 4], [3]]
    assert turns([]) == []
