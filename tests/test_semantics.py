"""The oracle equals closed forms, and raises instead of using the plain gradient of an unknown operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.oracles import Autograd
from torch import Tensor, nn


class Calls(nn.Module):
    """Module that calls a function."""

    def __init__(self, wiring: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(x)


def _x() -> Tensor:
    return torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _projected(wiring: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return a random signal at the output of a call, and its projection to the input."""
    network = Calls(wiring).eval()
    oracle = Autograd(network, _x())
    torch.testing.assert_close(oracle.outputs[""].detach(), wiring(_x()), rtol=1e-12, atol=1e-14)
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(oracle.outputs[""].shape, generator=generator, dtype=torch.float64)
    return signal, oracle.project("", signal)


def _close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


RECTIFIED: list[Callable[[Tensor], Tensor]] = [
    torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_, lambda x: F.relu(x, inplace=True),
    nn.ReLU(True), F.relu6, lambda x: F.relu6(x, True), F.hardtanh, lambda x: F.hardtanh_(x, 0.1, 0.7),
    nn.Hardtanh(-2, 1, True), F.leaky_relu, lambda x: F.leaky_relu(x, 0.3, inplace=True), F.elu,
    lambda x: F.elu(x, inplace=True), F.selu,
    F.silu, lambda x: F.silu(x, inplace=True), F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.hardswish,
    nn.Hardswish(inplace=True), F.mish, nn.Mish(inplace=True), F.softplus, nn.Softplus(2, 3),
]  # fmt: skip


@pytest.mark.parametrize("call", RECTIFIED)
def test_activation_function_rectifies_the_signal(call: Callable[[Tensor], Tensor]) -> None:
    signal, below = _projected(lambda x: call(x.clone()))
    _close(below, signal.clamp_min(0))


def _written(x: Tensor, key: Tensor) -> Tensor:
    x[key] = 0
    return x


WRITTEN_OUT: list[Callable[[Tensor], Tensor]] = [
    lambda x: torch.maximum(x, torch.zeros(())), lambda x: torch.maximum(x.new_zeros(5), x),
    lambda x: torch.max(x, torch.zeros_like(x)), lambda x: x.fmax(x.new_zeros(())),
    lambda x: x.clamp(min=0), lambda x: x.clamp_(0), lambda x: torch.clamp(x, min=x.new_zeros(())),
    lambda x: x.clamp(0, 1), lambda x: torch.where(x > 0, x, 0), lambda x: x.where(x >= 0, x.new_zeros(())),
    lambda x: torch.where(x <= 0, torch.zeros_like(x), x), lambda x: x * (x > 0), lambda x: (x > 0) * x,
    lambda x: x * (x >= 0).double(), lambda x: x.mul_(x > 0), lambda x: x * torch.gt(x, 0).to(x.dtype),
    lambda x: x * ~(x <= 0), lambda x: x.masked_fill(x < 0, 0), lambda x: x.masked_fill_(x < 0, 0.0),
    lambda x: _written(x, x < 0), lambda x: torch.maximum(x, 0.2 * x), lambda x: torch.max(x / 5, x),
    lambda x: torch.where(x > 0, x, 0 * x), lambda x: torch.where(x < 0, 0.1 * x, x),
    lambda x: x * x.sigmoid(), lambda x: x * torch.sigmoid(1.702 * x), lambda x: x.mul_(x.sigmoid()),
    lambda x: x * torch.sigmoid(x * torch.arange(1.0, 6)), lambda x: torch.maximum(torch.tensor(0.3) * x, x),
    lambda x: x.clone() * x.sigmoid(), lambda x: x * F.hardsigmoid(x), lambda x: x * F.softplus(x).tanh(),
    lambda x: x * F.relu6(x + 3) / 6, lambda x: x * (F.relu6(x + 3) / 6), lambda x: x / 6 * F.relu6(x + 3),
]  # fmt: skip


@pytest.mark.parametrize("call", WRITTEN_OUT)
def test_activation_function_in_several_calls_rectifies_the_signal(call: Callable[[Tensor], Tensor]) -> None:
    signal, below = _projected(lambda x: call(x.clone()))
    alone = torch.autograd.functional.vjp(lambda x: call(x.clone()), _x(), signal)[1]
    assert not torch.allclose(below, alone)  # the plain gradient is different
    _close(below, signal.clamp_min(0))


ALMOST: list[Callable[[Tensor], Tensor]] = [
    lambda x: torch.where(x > 0.5, x, 0), lambda x: torch.where(x > 0, 0, x),
    lambda x: x.masked_fill_(x < 0, 1), lambda x: x.clamp_(-1, 1), lambda x: torch.where(x > 0, x, 0 * x + 1),
]  # fmt: skip


@pytest.mark.parametrize("call", ALMOST)
def test_call_that_resembles_an_activation_function_raises(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotImplementedError):
        _projected(lambda x: call(x.clone()))


OWN_GRADIENT: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clamp(min=0.1), lambda x: x.clamp(-1, 0.5), lambda x: x.clamp_max(0.3),
    lambda x: x.masked_fill(x > 0, 0), lambda x: _written(x, x < 0.1), lambda x: F.threshold(x, 0, -1),
    lambda x: x**3, lambda x: (x * x + 1) ** 0.3, lambda x: (x * x).sqrt(),
    lambda x: torch.minimum(x, x.flip(1)), lambda x: x[:, [2, 0, 0]], lambda x: torch.fft.rfft2(x).imag,
]  # fmt: skip


@pytest.mark.parametrize("call", OWN_GRADIENT)
def test_projection_through_selection_clamp_and_power_is_the_gradient(
    call: Callable[[Tensor], Tensor],
) -> None:
    signal, below = _projected(lambda x: call(x.clone()))
    _close(below, torch.autograd.functional.vjp(lambda x: call(x.clone()), _x(), signal)[1])


def test_product_with_the_sign_of_another_map_is_gated() -> None:
    x = _x()
    for mask in (lambda x: x.roll(1, 1) > 0, lambda x: x > 0.2, lambda x: x < 0, lambda x: 2 * x + 1 > 0):
        signal, below = _projected(lambda x, mask=mask: x * mask(x))
        _close(below, signal * mask(x))
    signal, below = _projected(lambda x: _masked_before_overwriting(x))
    _close(below, 2 * signal * (x > 0))


def test_activation_function_of_a_shifted_map_rectifies_the_signal() -> None:
    written_out = (
        lambda x: x * x.sigmoid(),
        lambda x: x * (x > 0),
        lambda x: torch.where(x > 0, x, 0.2 * x),
        lambda x: torch.maximum(x, x / 2),
        lambda x: x.masked_fill(x < 0, 0),
    )
    for call in written_out:
        signal, below = _projected(lambda x, call=call: call(3 - 2 * x))
        _close(below, -2 * signal.clamp_min(0))


def _masked_before_overwriting(x: Tensor) -> Tensor:
    """Multiply by a mask of the values before they were overwritten."""
    x = x.clone()
    mask = x > 0
    return x.mul_(2).add_(1) * mask


def test_hard_sigmoid_in_several_calls_receives_no_signal() -> None:
    for gate in (
        lambda x: F.relu6(x + 3) / 6,
        lambda x: F.relu6(3 + x, True) / 6.0,
        lambda x: F.relu6(3 - x),
    ):
        _, below = _projected(gate)
        assert not below.any()
        signal, below = _projected(lambda x, gate=gate: x * gate(x.flip(1)))
        _close(below, signal * gate(_x().flip(1)))


CONSTANT: list[Callable[[Tensor], Tensor]] = [
    torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid, nn.Sigmoid(),
    torch.special.expit, F.hardsigmoid, lambda x: F.hardsigmoid(x, inplace=True), nn.Hardsigmoid(),
    torch.tanh, Tensor.tanh_, F.tanh, nn.Tanh(), lambda x: x.softmax(1), lambda x: F.softmax(x, dim=-1),
    lambda x: torch.softmax(x, 0), nn.Softmax(1),
    lambda x: x.var(1), lambda x: torch.std(x, (2, 3)), lambda x: x.norm(dim=1), torch.linalg.vector_norm,
    lambda x: (x * x) ** -0.7, lambda x: (x * x).rsqrt(), lambda x: 3 / x, lambda x: x.reciprocal(),
    lambda x: torch.var_mean(x, 1)[1],
]  # fmt: skip


@pytest.mark.parametrize("call", CONSTANT)
def test_constant_receives_no_signal(call: Callable[[Tensor], Tensor]) -> None:
    _, below = _projected(lambda x: call(x.clone()))
    assert not below.any()


def test_projections_of_gates_and_products() -> None:
    x = _x()
    signal, below = _projected(lambda x: x * torch.sigmoid(x.flip(1)))
    _close(below, signal * torch.sigmoid(x.flip(1)))
    signal, below = _projected(lambda x: x * F.relu(x))
    _close(below, signal * x.relu() + (signal * x).clamp_min(0))
    squares = (torch.square, lambda x: x**2, lambda x: x.pow(2), lambda x: x * x, lambda x: x.clone().mul_(x))
    for square in squares:
        signal, below = _projected(square)
        _close(below, signal * 2 * x)
    signal, below = _projected(lambda x: x @ x.transpose(2, 3).softmax(-1))
    _close(below, signal @ x.transpose(2, 3).softmax(-1).transpose(2, 3))


def test_denominators_are_constants() -> None:
    x = _x()
    length = x.norm(dim=1, keepdim=True)
    for normalised in (lambda x: x / x.norm(dim=1, keepdim=True), lambda x: F.normalize(x, dim=1)):
        signal, below = _projected(normalised)
        _close(below, signal / length)
    signal, below = _projected(lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1))
    _close(below, signal * ((x * x).mean(1, keepdim=True) + 1) ** -0.5)


def test_statistics_of_norms_are_constants() -> None:
    x, weight, bias = _x(), torch.rand(4).double() + 0.5, torch.rand(4).double()
    per_channel = weight.reshape(4, 1, 1)

    signal, below = _projected(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [4], weight, bias))
    scale = weight * (x.permute(0, 2, 3, 1).var(3, correction=0, keepdim=True) + 1e-5) ** -0.5
    _close(below, (signal * scale).permute(0, 3, 1, 2))

    signal, below = _projected(lambda x: F.group_norm(x, 2, weight, bias))
    deviation = (x.reshape(2, 2, 30).var(2, correction=0) + 1e-5) ** 0.5
    _close(below, signal * per_channel / deviation.repeat_interleave(2, 1).reshape(2, 4, 1, 1))

    signal, below = _projected(lambda x: F.instance_norm(x, weight=weight, bias=bias))
    _close(below, signal * per_channel * (x.var((2, 3), correction=0, keepdim=True) + 1e-5) ** -0.5)

    signal, below = _projected(lambda x: F.rms_norm(x, [5], weight.new_full((5,), 3.0), 1e-6))
    _close(below, signal * 3 * ((x * x).mean(3, keepdim=True) + 1e-6) ** -0.5)

    signal, below = _projected(lambda x: F.local_response_norm(x, 1, 0.3, 2, 0.7))
    _close(below, signal * (0.7 + 0.3 * x * x) ** -2)

    signal, below = _projected(lambda x: F.batch_norm(x, bias, weight, per_channel.flatten(), bias, eps=0.0))
    _close(below, signal * per_channel * per_channel**-0.5)


ANTIALIASED: list[dict[str, Any]] = [
    {"size": (2, 3)}, {"size": (7, 4)}, {"scale_factor": 2}, {"scale_factor": (0.7, 1.1)},
]  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("how", ANTIALIASED, ids=str)
def test_projection_of_antialiased_interpolation(how: dict[str, Any], mode: str) -> None:
    """Compared with the matrix of the interpolation, measured with one image per pixel."""

    def call(x: Tensor) -> Tensor:
        return F.interpolate(x, mode=mode, antialias=True, **how)

    signal, below = _projected(call)
    matrix = call(torch.eye(15, dtype=torch.float64).view(15, 1, 3, 5)).flatten(1)  # (H * W, h * w)
    _close(below, (signal.flatten(2) @ matrix.T).view(below.shape))


def test_batch_norm_of_one_image_below_a_transposition() -> None:
    scale, x = torch.rand(4).double() + 0.5, torch.randn(1, 4, 3, 5).double()
    oracle = Autograd(
        Calls(
            lambda x: F.batch_norm(x, scale, scale, scale, scale, eps=0.0).flatten(2).transpose(1, 2)
        ).eval(),
        x,
    )
    signal = torch.randn(1, 15, 4).double()
    below = oracle.project("", signal)
    _close(below, signal.transpose(1, 2).reshape(x.shape) * scale.reshape(4, 1, 1) ** 0.5)


def test_attention_weights_are_constants() -> None:
    x = _x()
    signal, below = _projected(lambda x: F.scaled_dot_product_attention(x, 2 * x, 3 * x, scale=0.5))
    weights = (0.5 * x @ (2 * x).transpose(2, 3)).softmax(-1)
    _close(below, 3 * weights.transpose(2, 3) @ signal)


def test_maximum_sends_the_signal_to_the_first_of_equal_values() -> None:
    even = torch.ones(1, 2, 1, 3, dtype=torch.float64)
    highest = (
        lambda x: x.amax((2, 3)),
        lambda x: torch.amax(x, (2, 3)),
        lambda x: x.flatten(2).max(2).values,
    )
    for call in highest:
        below = Autograd(Calls(call).eval(), even).project("", torch.tensor([[5.0, 7.0]]).double())
        assert below.tolist() == [[[[5, 0, 0]], [[7, 0, 0]]]]


class CustomFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:
        return signal


def _overwritten(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :1].exp_()
    return x


UNKNOWN: list[Callable[[Tensor], Tensor]] = [
    torch.exp, torch.sort, torch.erf, lambda x: torch.cumsum(x, 1), CustomFunction.apply,
    lambda x: x.sin(), F.logsigmoid, lambda x: torch.ops.aten.sigmoid(x),
    lambda x: torch.ops.aten.div.Tensor(x, x), F.hardshrink, _overwritten,
    lambda x: F.conv_transpose2d(x, x.mean(0)[:, None, :2, :2]),
    lambda x: torch.native_layer_norm(x, [5], None, None, 1e-5),
    lambda x: F.batch_norm(x, None, None, training=True),
]  # fmt: skip


@pytest.mark.parametrize("call", UNKNOWN)
def test_oracle_raises_for_unknown_operations(call: Callable[[Tensor], Any]) -> None:
    def one(x: Tensor) -> Tensor:
        result = call(x)
        return result if isinstance(result, Tensor) else result[0]

    with pytest.raises((NotImplementedError, AssertionError)):
        oracle = Autograd(Calls(one).eval(), _x())
        oracle.project("", torch.ones_like(oracle.outputs[""]))


def test_oracle_raises_for_an_activation_function_in_a_jit_script() -> None:
    scripted = torch.jit.CompilationUnit("def gate(x):\n    return x.sigmoid()\n").gate
    oracle = Autograd(Calls(scripted).eval(), _x())
    with pytest.raises(NotImplementedError, match="SigmoidBackward0"):
        oracle.project("", _x())


def test_oracle_does_not_change_requires_grad_of_weights() -> None:
    network = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU()).double().eval()
    network[0].bias.requires_grad_(False)  # type: ignore[union-attr]
    Autograd(network, _x())
    assert [number.requires_grad for number in network.parameters()] == [True, False]
