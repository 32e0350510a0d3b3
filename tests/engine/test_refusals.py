"""Unsupported operations raise with their name, and overwritten tensors are detected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules import Support, lookup
from deconvviz.engine.rules import registry as rule_registry
from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp

aten = torch.ops.aten


class Wired(nn.Module):
    """Convolution `a`, the module `odd`, which calls `wiring`, and convolution `b`."""

    def __init__(self, wiring: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.odd = Odd(wiring)
        self.b = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.odd(self.a(x)))


class Odd(nn.Module):
    def __init__(self, wiring: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(x)


def _message(wiring: Callable[[Tensor], Tensor], module: str = "b") -> str:
    ours = passes.run(Wired(wiring), torch.randn(2, 3, 6, 6))
    with pytest.raises(RefusedOp) as error:
        ours.units(module, [Unit(0, 0, 0, 0)])
    return str(error.value)


def _no_rule(op: str, more: int = 0) -> str:
    register = f"deconvviz.rule(torch.ops.aten.{op})"
    others = f" (and {more} more)" if more else ""
    return f"aten.{op} (in module 'odd') has no rule; register a rule with {register}{others}"


NO_RULE = [
    (torch.exp, _no_rule("exp.default")),
    (torch.sin, _no_rule("sin.default")),
    (torch.erf, _no_rule("erf.default")),
    (lambda x: x.exp().sin(), _no_rule("exp.default", more=1)),
    (lambda x: x.take(torch.arange(x.numel()).view(x.shape)), _no_rule("take.default")),
    (lambda x: x.masked_scatter(x > 0, -x), _no_rule("masked_scatter.default")),
    (lambda x: torch.cumsum(x, 1), _no_rule("cumsum.default")),
    (lambda x: torch.sort(x, 1).values, _no_rule("sort.default")),
    (lambda x: torch.topk(x, 4, 1).values, _no_rule("topk.default")),
    (lambda x: torch.prod(x, 3, keepdim=True), _no_rule("prod.dim_int")),
    (lambda x: torch.median(x, 3, keepdim=True).values, _no_rule("median.dim")),
    (lambda x: torch.logsumexp(x, 3, keepdim=True), _no_rule("logsumexp.default")),
]


@pytest.mark.parametrize(("wiring", "message"), NO_RULE, ids=[message.split()[0] for _, message in NO_RULE])
def test_operation_without_a_rule_raises(wiring: Callable[[Tensor], Tensor], message: str) -> None:
    assert _message(wiring) == message


UNFOLLOWED = "one of its arguments was overwritten through a view that cannot be followed"


def _through_integers(x: Tensor) -> Tensor:
    x.view(torch.int32)[:, :2] = 0
    return x


@pytest.mark.parametrize(
    ("wiring", "op"),
    [(_through_integers, "alias.default"), (lambda x: _through_integers(x) + 0, "add.Tensor")],
)
def test_map_that_is_overwritten_through_another_dtype_is_unsupported(
    wiring: Callable[[Tensor], Tensor], op: str
) -> None:
    message = f"aten.{op} (in module 'odd') is unsupported: {UNFOLLOWED}"
    assert _message(wiring) == message
    assert _message(wiring, "odd") == message
    with torch.inference_mode():  # here tensors have no version counter
        assert _message(wiring) == message


MIXED = [
    (
        lambda x: x.reshape(1, 8, 6, 6)[:, :4],
        "aten.slice.Tensor (in module 'odd') is unsupported: the images of the batch are not along the first "
        "dimension (and 1 more)",
    ),
    (
        lambda x: x[[1, 0]],
        "aten.index.Tensor (in module 'odd') is unsupported: its positions select images of the batch "
        "(and 1 more)",
    ),
    (
        lambda x: x.reshape(1, 4, 12, 6)[:, :, :6],
        "aten.view.default (in module 'odd') is unsupported: it mixes the images of a batch: "
        "(2, 4, 6, 6) to (1, 4, 12, 6) (and 2 more)",
    ),
    (
        lambda x: torch.cat([x, x], 0),
        "aten.cat.default (in module 'odd') is unsupported: it concatenates along the batch (and 1 more)",
    ),
    (
        lambda x: x + x.mean(0, keepdim=True),
        "aten.mean.dim (in module 'odd') is unsupported: it reduces over the images of a batch (and 1 more)",
    ),
    (
        lambda x: nn.BatchNorm2d(4, track_running_stats=False)(x),
        "aten.native_batch_norm.default (in module 'odd') is unsupported: it normalises by the statistics of "
        "the batch, not by stored ones",
    ),
]


@pytest.mark.parametrize(("wiring", "message"), MIXED)
def test_mixing_the_images_of_a_batch_is_unsupported(
    wiring: Callable[[Tensor], Tensor], message: str
) -> None:
    assert _message(wiring) == message


class ComputedWeights(nn.Module):
    """Network whose weights are computed from the image."""

    def __init__(self, wiring: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:  # (3, 3, 6, 6)
        return self.wiring(x)


COMPUTED_WEIGHTS = [
    (
        lambda x: F.conv2d(x, F.adaptive_avg_pool2d(x, 3)),
        "aten.convolution.default is unsupported: its weight or bias is computed from the image",
    ),
    (
        lambda x: F.conv2d(x, torch.ones(3, 3, 1, 1), x.mean((1, 2, 3))),
        "aten.convolution.default is unsupported: its weight or bias is computed from the image",
    ),
    (
        lambda x: x.mean((2, 3)) @ x.mean((2, 3)),
        "aten.mm.default is unsupported: it multiplies the images of a batch with one another",
    ),
    (
        lambda x: torch.ones(3, 3) @ x.mean((2, 3)),
        "aten.mm.default is unsupported: it multiplies by something other than a weight",
    ),
    (
        lambda x: torch.addmm(x.mean((2, 3)), x.mean((2, 3)), torch.ones(3, 3)),
        "aten.addmm.default is unsupported: its bias is computed from the image",
    ),
    (
        lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), x.mean((1, 2, 3))),
        "aten.native_batch_norm.default is unsupported: "
        "its scale, shift or statistics are computed from the image",
    ),
]


@pytest.mark.parametrize(("wiring", "message"), COMPUTED_WEIGHTS)
def test_weights_computed_from_the_image_are_unsupported(
    wiring: Callable[[Tensor], Tensor], message: str
) -> None:
    ours = passes.run(ComputedWeights(wiring), torch.randn(3, 3, 6, 6))
    place = (0, 0) if ours.outputs[""].dim() == 4 else ()
    with pytest.raises(RefusedOp) as error:
        ours.units("", [Unit(0, 0, *place)])
    assert str(error.value) == message


def test_layer_below_an_unsupported_call_can_be_projected() -> None:
    ours = passes.run(Wired(torch.exp), torch.randn(1, 3, 6, 6))
    pixels, _ = ours.units("a", [Unit(0, 0, 2, 2)])
    assert bool(pixels.any())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """Remove the rules that a test registers."""
    monkeypatch.setattr(rule_registry, "_registry", dict(rule_registry._registry))
    return rule_registry._registry


def test_registered_rule_is_used_for_projection(registry: dict[Any, Any]) -> None:
    assert lookup(aten.sin.default) is None

    @dv.rule(aten.sin.default)
    class Negation(dv.Rule):
        supports_windows = True

        def project(
            self, signal: Tensor, window: Any, input_windows: Sequence[Any]
        ) -> Sequence[Tensor | None]:
            return [-signal]

    assert lookup(aten.sin.default) is Negation and Negation.support is Support.EXACT
    network = Wired(torch.sin).double()
    images = torch.randn(1, 3, 6, 6).double()
    pixels, boxes = passes.run(network, images).units("b", [Unit(0, 1, 2, 3)])
    activation = network(images)[0, 1, 2, 3].item()
    want = torch.zeros(1, 4, 6, 6).double()
    want[0, :, 2, 3] = -activation * network.b.weight[1, :, 0, 0].detach()
    want = F.conv_transpose2d(want, network.a.weight.detach(), padding=1)
    torch.testing.assert_close(pixels, want, rtol=0, atol=1e-14)
    assert boxes == [(2, 1, 5, 4)]


def test_registered_rule_replaces_a_builtin_one(registry: dict[Any, Any]) -> None:
    class Identity(dv.Rule):
        supports_windows = True

        def project(
            self, signal: Tensor, window: Any, input_windows: Sequence[Any]
        ) -> Sequence[Tensor | None]:
            return [signal]

    ours = lookup(aten.relu.default)
    assert dv.rule(aten.relu.default, aten.relu_.default)(Identity) is Identity
    assert lookup(aten.relu.default) is lookup(aten.relu_.default) is Identity is not ours


def test_rules_of_other_tests_are_removed() -> None:
    assert lookup(aten.sin.default) is None
    found = lookup(aten.relu.default)
    assert found is not None and found.__module__ == "deconvviz.engine.rules.activation"


@pytest.mark.parametrize("wrong", [aten.sin, "aten.sin", torch.sin])
def test_registering_a_rule_for_something_else_than_an_overload_raises(wrong: Any) -> None:
    with pytest.raises(TypeError, match="is not an overload of an operation; did you mean"):
        dv.rule(wrong)


def test_error_in_a_registered_rule_reaches_the_user(registry: dict[Any, Any]) -> None:
    @dv.rule(aten.sin.default)
    class Broken(dv.Rule):
        def project(
            self, signal: Tensor, window: Any, input_windows: Sequence[Any]
        ) -> Sequence[Tensor | None]:
            raise ZeroDivisionError("in the rule")

    ours = passes.run(Wired(torch.sin), torch.randn(1, 3, 6, 6))
    with pytest.raises(ZeroDivisionError, match="in the rule"):
        ours.units("b", [Unit(0, 0, 0, 0)])
