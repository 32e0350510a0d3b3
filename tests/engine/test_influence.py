"""Outputs that depend on some weights: views, in-place calls, computed weights, gates, constants."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deconvviz.engine.influence import Influence
from deconvviz.engine.recorder import record_tape


class Net(nn.Module):
    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("table", torch.zeros(3, 1, 1))
        self.seen = nn.Identity()
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def reached(
    forward: Callable[[Net, Tensor], Tensor], doubtful: str = "b.weight", device: str = "cpu"
) -> tuple[set[str], bool]:
    """Return the outputs that depend on a weight, and whether other weights are applied to them."""
    module = Net(forward).eval().to(device)
    sound = [name for name in module.state_dict() if name.partition(".")[0] != doubtful.partition(".")[0]]
    influence = Influence.of(module, [doubtful], sound)
    images = torch.rand(1, 3, 4, 4, device=device)
    influence.mark_images(images)
    with influence:
        record_tape(module, images, influence.watch(lambda out, tensor: True))
    assert not set(influence.reached) & set(influence.unreached)
    return set(influence.reached), influence.continues


def write_into_a_slice(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y[:, 1:2] = net.b(x)[:, :1]
    return net.seen(y)  # type: ignore[no-any-return]


def write_into_a_buffer(net: Net, x: Tensor) -> Tensor:
    net.table.copy_(net.b(x).mean((0, 2, 3))[:, None, None])
    return net.seen(net.a(x) + net.table)  # type: ignore[no-any-return]


def computed_kernel(net: Net, x: Tensor) -> Tensor:
    kernel = net.b.weight - net.b.weight.mean()
    return net.seen(nn.functional.conv2d(net.a(x), kernel))  # type: ignore[no-any-return]


def overwrite_after_output(net: Net, x: Tensor) -> Tensor:
    y = net.seen(net.a(x))
    return y.add_(net.b(x))


CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], set[str], bool]] = {
    "chain": (lambda net, x: net.c(net.b(net.a(x))), {"b", "c", ""}, True),
    "last layer": (lambda net, x: net.b(net.c(net.a(x))), {"b", ""}, False),
    "unused": (lambda net, x: net.c(net.a(x)), set(), False),
    "parallel branch": (lambda net, x: net.c(x) + net.b(net.a(x)), {"b", ""}, False),
    "gate": (lambda net, x: net.seen(net.a(x) * net.b(x).sigmoid()), {"b", "seen", ""}, False),
    "view": (lambda net, x: net.seen(net.b(x).permute(0, 2, 3, 1)[..., :1]), {"b", "seen", ""}, False),
    "in place": (lambda net, x: net.seen(net.a(x).mul_(net.b(x))), {"b", "seen", ""}, False),
    "written into a slice": (write_into_a_slice, {"b", "seen", ""}, False),
    "written into a buffer": (write_into_a_buffer, {"b", "seen", ""}, True),  # the buffer was sound
    "computed kernel": (computed_kernel, {"seen", ""}, False),
    "output overwritten later": (overwrite_after_output, {"b", ""}, False),
    "scaled by a sound parameter": (lambda net, x: net.b(x) * net.scale, {"b", ""}, True),
    "concat": (lambda net, x: net.seen(torch.cat([net.a(x), net.b(x)])), {"b", "seen", ""}, False),
    "where": (lambda net, x: net.seen(torch.where(net.b(x) > 0, x, -x)), {"b", "seen", ""}, False),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("case", CASES)
def test_influence_finds_outputs_that_depend_on_a_weight(case: str, device: str) -> None:
    forward, expected, continues = CASES[case]
    assert reached(forward, device=device) == (expected, continues)


def test_kernel_computed_from_sound_weights_continues() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return nn.functional.conv2d(net.b(x), net.a.weight - net.a.weight.mean())

    assert reached(forward) == ({"b", ""}, True)


def test_influence_distinguishes_calls_of_one_module() -> None:
    assert reached(lambda net, x: net.b(net.a(net.seen(net.a(x)))))[0] == {"b", ""}
    assert reached(lambda net, x: net.seen(net.b(net.seen(x))))[0] == {"b", "seen:2", ""}


def test_influence_follows_buffers_and_biases() -> None:
    assert reached(lambda net, x: net.seen(x + net.table), "table")[0] == {"seen", ""}
    assert reached(lambda net, x: net.b(net.a(x)), "b.bias")[0] == {"b", ""}


def test_influence_leaves_buffers_unchanged() -> None:
    module = Net(write_into_a_buffer).eval()
    influence = Influence.of(module, ["b.weight"])
    images = torch.rand(1, 3, 4, 4)
    influence.mark_images(images)
    with influence:
        record_tape(module, images, influence.watch(lambda out, tensor: True))
    assert not module.table.any()  # type: ignore[operator]
