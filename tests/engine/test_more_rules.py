"""Operations that the autograd oracle does not cover, each compared with its projection in formulas.

Also a batch of one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from torch import Tensor, nn

from deconvviz.engine.units import Unit

Wiring = Callable[[Tensor, Tensor], Tensor]


class Two(nn.Module):
    """Two convolutions of the image, combined by a function."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = (nn.Conv2d(3, 4, 3, padding=1, bias=False) for _ in range(2))
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(self.a(x), self.b(x))


def _project(network: Two, to_a: Tensor, to_b: Tensor) -> Tensor:
    """Project signals at both convolutions to the image."""
    a = F.conv_transpose2d(to_a, network.a.weight.detach(), padding=1)
    return a + F.conv_transpose2d(to_b, network.b.weight.detach(), padding=1)


IMAGES = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(1)).double()
SIGNAL = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(2)).double()
MASK = torch.rand(4, 6, 7, generator=torch.Generator().manual_seed(4)) > 0.4
ZERO = torch.zeros_like(SIGNAL)
SLOPE = torch.full((4,), 0.2).double()
EXPONENT = torch.tensor([[[1.5]], [[0.5]], [[2.0]], [[1.0]]]).double()

CASES: dict[str, tuple[Wiring, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]] = {
    "clamp from 0": (lambda a, b: a.clamp(min=0), lambda a, b: (SIGNAL.clamp(min=0), ZERO)),
    "clamp_min 0": (lambda a, b: torch.clamp_min(a, 0), lambda a, b: (SIGNAL.clamp(min=0), ZERO)),
    "clamp 0 to 1": (lambda a, b: a.clamp(0, 1), lambda a, b: (SIGNAL.clamp(min=0), ZERO)),
    "threshold 0": (lambda a, b: F.threshold(a, 0, 0), lambda a, b: (SIGNAL.clamp(min=0), ZERO)),
    "prelu": (lambda a, b: F.prelu(a, SLOPE), lambda a, b: (SIGNAL.clamp(min=0), ZERO)),
    "where": (lambda a, b: torch.where(MASK, a, b), lambda a, b: (SIGNAL * MASK, SIGNAL * ~MASK)),
    "where with a computed condition": (
        lambda a, b: torch.where(a > 0.1, a, b),
        lambda a, b: (SIGNAL * (a > 0.1), SIGNAL * (a <= 0.1)),
    ),
    "where with a number": (
        lambda a, b: torch.where(b > 0, a, torch.zeros(()).double()),
        lambda a, b: (SIGNAL * (b > 0), ZERO),
    ),
    "masked_fill": (
        lambda a, b: a.masked_fill(MASK, 5.0) + b,
        lambda a, b: (SIGNAL * ~MASK, SIGNAL),
    ),
    "masked_fill in place": (
        lambda a, b: a.masked_fill_(b > 0, 0.0),
        lambda a, b: (SIGNAL * (b <= 0), ZERO),
    ),
    "maximum": (lambda a, b: torch.maximum(a, b), lambda a, b: (SIGNAL * (a >= b), SIGNAL * (a < b))),
    "addcmul": (
        lambda a, b: torch.addcmul(a, a, b, value=0.5),
        lambda a, b: (SIGNAL + 0.5 * SIGNAL * b, 0.5 * SIGNAL * a),
    ),
    "in-place product": (lambda a, b: a.mul_(b), lambda a, b: (SIGNAL * b, SIGNAL * a)),
    "cube": (lambda a, b: a**3 + b, lambda a, b: (3 * SIGNAL * a**2, SIGNAL)),
    "product with a mask": (lambda a, b: a * (b > 0), lambda a, b: (SIGNAL * (b > 0), ZERO)),
    "roll and flip": (
        lambda a, b: a.roll((1, -2), (2, 3)) + b.flip(1, 2),
        lambda a, b: (SIGNAL.roll((-1, 2), (2, 3)), SIGNAL.flip(1, 2)),
    ),
    "clamp at other values": (
        lambda a, b: a.clamp(-0.2, 0.3),
        lambda a, b: (SIGNAL * ((a > -0.2) & (a < 0.3)), ZERO),
    ),
    "in-place clamp from above": (
        lambda a, b: a.clamp_max_(0.3) + b,
        lambda a, b: (SIGNAL * (a < 0.3), SIGNAL),
    ),
    "clamp at a tensor": (
        lambda a, b: torch.clamp(a, min=SLOPE.reshape(4, 1, 1)),
        lambda a, b: (SIGNAL * (a > 0.2), ZERO),
    ),
    "threshold with another value": (
        lambda a, b: F.threshold(a, 0, -1),
        lambda a, b: (SIGNAL * (a > 0), ZERO),
    ),
    "power that is not whole": (
        lambda a, b: (a * a) ** 0.75,
        lambda a, b: (2 * a * SIGNAL * 0.75 * (a * a) ** -0.25, ZERO),
    ),
    "power of a learned exponent": (
        lambda a, b: (a * a) ** EXPONENT,
        lambda a, b: (2 * a * SIGNAL * EXPONENT * (a * a) ** (EXPONENT - 1), ZERO),
    ),
    "square root": (lambda a, b: (b * b).sqrt(), lambda a, b: (ZERO, SIGNAL * b.sign())),
    "negative power": (lambda a, b: a * (b * b) ** -0.5, lambda a, b: (SIGNAL / b.abs(), ZERO)),
    "absolute value": (lambda a, b: a.abs() + b, lambda a, b: (SIGNAL * (2.0 * (a > 0) - 1), SIGNAL)),
    "absolute value in place": (lambda a, b: b.mul(1).abs_(), lambda a, b: (ZERO, SIGNAL * b / b.abs())),
    "logarithm": (lambda a, b: (a * a + 0.1).log(), lambda a, b: (2 * a * SIGNAL / (a * a + 0.1), ZERO)),
    "logarithm in place": (
        lambda a, b: (b * b + 0.1).log2_() + a,
        lambda a, b: (SIGNAL, 2 * b * SIGNAL / (b * b + 0.1) / math.log(2)),
    ),
    "logarithm of 1 + x": (
        lambda a, b: (a * a).log1p() + (b * b + 1).log10(),
        lambda a, b: (2 * a * SIGNAL / (a * a + 1), 2 * b * SIGNAL / (b * b + 1) / math.log(10)),
    ),
    "minimum": (lambda a, b: torch.minimum(a, b), lambda a, b: (SIGNAL * (a <= b), SIGNAL * (a > b))),
    "zeros_like": (lambda a, b: torch.zeros_like(b) + a, lambda a, b: (SIGNAL, ZERO)),
}


@pytest.mark.parametrize("name", CASES)
def test_projection_equals_the_formula(name: str) -> None:
    wiring, formula = CASES[name]
    network = Two(wiring).double().eval()
    ours = passes.run(network, IMAGES)
    with torch.no_grad():
        want = _project(network, *formula(network.a(IMAGES), network.b(IMAGES)))
    torch.testing.assert_close(ours.signals("", SIGNAL, [0, 1]), want, rtol=0, atol=1e-13)
    peak = Unit(1, 2, 3, 4)
    alone = torch.zeros_like(SIGNAL[:1])
    alone[0, 2, 3, 4] = ours.outputs[""][1, 2, 3, 4]
    in_a_window, _ = ours.units("", [peak])
    torch.testing.assert_close(in_a_window, ours.signals("", alone, [1]), rtol=0, atol=1e-13)


class Heads(nn.Module):
    """Attention over windows of a map. Its einsums may move a batch of one to any dimension."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.mixed = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 8, 4, 6)
        pieces = x.unflatten(2, (2, 2)).unflatten(4, (2, 3)).permute(0, 2, 4, 3, 5, 1)  # (B, 2, 2, 2, 3, 8)
        pieces = pieces.flatten(3, 4).flatten(0, 2)  # (B * 4, 6, 8)
        q, k, v = self.mixed(pieces).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # each (B * 4, 2, 6, 4)
        weights = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
        out = torch.einsum("bhnm,bhmd->bhnd", weights, v).transpose(1, 2).flatten(2)  # (B * 4, 6, 8)
        out = out.unflatten(0, (-1, 2, 2)).unflatten(3, (2, 3)).permute(0, 5, 1, 3, 2, 4)
        return x + out.flatten(4, 5).flatten(2, 3)  # (B, 8, 4, 6)


def test_single_image_is_projected_as_in_a_batch() -> None:
    network = Heads().double().eval()
    images = torch.randn(3, 3, 4, 6, generator=torch.Generator().manual_seed(6)).double()
    together = passes.run(network, images)
    for number in range(3):
        alone = passes.run(network, images[number : number + 1])
        mine, box = alone.units("", [Unit(0, 5, 1, 2)])
        theirs, same_box = together.units("", [Unit(number, 5, 1, 2)])
        assert mine.any() and box == same_box
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)
