"""Recording leaves a network unchanged, also if an exception is raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import passes
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from deconvviz.engine import recorder
from deconvviz.engine.rules import lookup
from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class Net(nn.Module):
    """Network with dropout, batch norm and in-place ReLUs, and a module `trap` that tests can make fail."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)),
        )
        self.trap = nn.Identity()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trap(self.features(x)).mean((2, 3)))


def _state(module: nn.Module) -> dict[str, Any]:
    """Return everything that must not change, with weights as bytes."""
    parts = list(module.named_modules())
    numbers = [*module.named_parameters(), *module.named_buffers()]
    return {
        "hooks": [(name, kind, dict(getattr(part, kind))) for name, part in parts for kind in HOOKS],
        "training": [(name, part.training) for name, part in parts],
        "attributes": [(name, sorted(vars(part))) for name, part in parts],
        "in place": [(name, getattr(part, "inplace", None)) for name, part in parts],
        "numbers": [(name, id(n), n._version, n.detach().numpy().tobytes()) for name, n in numbers],
        "gradients": [(name, n.requires_grad, n.grad) for name, n in numbers],
    }


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    grad, random, before = torch.is_grad_enabled(), torch.get_rng_state(), _state(module)
    try:
        yield
    finally:
        assert _state(module) == before
        assert torch.is_grad_enabled() == grad
        assert torch.equal(torch.get_rng_state(), random)
        assert _get_current_dispatch_mode() is None


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _some_in_training(net: Net) -> None:
    net.train()
    net.features[1].eval()
    net.features[5].eval()
    net.features[5][1].train()


def test_recording_keeps_training_flags_hooks_and_outputs(net: Net, images: Tensor) -> None:
    called: list[int] = []
    net.features[0].register_forward_hook(lambda part, args, output: called.append(1))
    net.eval()
    before = net(images)
    _some_in_training(net)
    with unchanged(net):
        ours = passes.run(net, images)
        ours.units("features.5", [Unit(0, 0, 1, 1)])
    assert called == [1, 1]  # the user's own hook still runs
    assert torch.equal(ours.outputs[""], before)  # recorded as in evaluation mode
    assert torch.equal(net.eval()(images), before)
    net(images).sum().backward()  # it can still be trained
    assert all(number.grad is not None for number in net.parameters())


def test_recording_does_not_change_the_images(net: Net, images: Tensor) -> None:
    in_place = nn.Sequential(nn.ReLU(inplace=True), net)
    images.requires_grad_(True)
    before = images.detach().clone()
    ours = passes.run(in_place, images)
    assert torch.equal(images, before) and images.grad is None and images._version == 0
    assert not ours.outputs[""].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_recording_keeps_the_grad_mode(net: Net, images: Tensor, mode: Any) -> None:
    want, _ = passes.run(net, images).units("", [Unit(0, 3)])
    with mode():
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        pixels, _ = passes.run(net, images).units("", [Unit(0, 3)])
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (grad, inference)
    assert torch.equal(pixels, want)


class Trap(RuntimeError):
    """Error in user code."""


@pytest.mark.parametrize("error", [Trap, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["forward", "hook", "pre-hook", "wanted"])
def test_network_is_unchanged_after_an_exception_in_the_forward_pass(
    net: Net, images: Tensor, error: type[BaseException], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise error("in user code")

    _some_in_training(net)
    handles = []
    if place == "hook":
        handles.append(net.trap.register_forward_hook(fail))
    if place == "pre-hook":
        handles.append(net.trap.register_forward_pre_hook(fail))
    if place == "forward":
        monkeypatch.setattr(nn.Identity, "forward", fail)
    with unchanged(net), pytest.raises(error, match="in user code"):
        recorder.record_tape(net, images, fail if place == "wanted" else lambda out, tensor: True)
    monkeypatch.undo()
    for handle in handles:
        handle.remove()
    assert passes.run(net, images).outputs[""].shape == (2, 5)  # it can be recorded again


def test_network_is_unchanged_after_an_exception_in_a_rule(
    net: Net, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise Trap("in a rule")

    pool = lookup(torch.ops.aten.max_pool2d_with_indices.default)
    with monkeypatch.context() as broken, unchanged(net):
        broken.setattr(pool, "__init__", fail)  # only this call is unsupported, not the layers below
        ours = passes.run(net, images)
        ours.units("features.3", [Unit(0, 0, 1, 1)])
        with pytest.raises(RefusedOp, match="its rule failed with Trap: in a rule"):
            ours.units("features.4", [Unit(0, 0, 1, 1)])
    with monkeypatch.context() as broken, unchanged(net):
        broken.setattr(pool, "project", fail)
        with pytest.raises(Trap, match="in a rule"):
            passes.run(net, images).units("", [Unit(0, 0)])
    with unchanged(net):
        passes.run(net, images).units("", [Unit(0, 0)])


def test_network_that_catches_all_exceptions_is_stopped(images: Tensor) -> None:
    class CatchesExceptions(Net):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return super().forward(x)
            except Exception:
                return self.head(x.mean((1, 2)))

    net = CatchesExceptions().eval()
    with unchanged(net):
        ours = passes.run(net, images, deepest="features.2")
    assert "features.3" not in ours.outputs and "features.2" in ours.outputs


def test_recording_inside_a_hook_of_another_recording(net: Net, images: Tensor) -> None:
    inner = Net().eval()
    found: list[Tensor] = []

    def record_inner(part: nn.Module, args: Any, output: Tensor) -> None:
        found.append(passes.run(inner, images).units("", [Unit(0, 0)])[0])

    want, _ = passes.run(net, images).units("", [Unit(0, 0)])
    handle = net.trap.register_forward_hook(record_inner)
    with unchanged(net), unchanged(inner):
        pixels, _ = passes.run(net, images).units("", [Unit(0, 0)])
    handle.remove()
    assert torch.equal(pixels, want)
    assert torch.equal(found[0], passes.run(inner, images).units("", [Unit(0, 0)])[0])


class HookedOnce(nn.Module):
    """Network that registers a hook in its first forward pass and collects the outputs of a layer with it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.collected: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "hooked"):
            self.layer.register_forward_hook(lambda part, args, output: self.collected.append(output))
            self.hooked = True
        self.collected.clear()
        self.layer(x)
        return torch.cat(self.collected, 1)


def test_hooks_that_a_forward_pass_registers_are_removed() -> None:
    network, images = HookedOnce(), torch.randn(1, 3, 4, 4)
    for _ in range(2):
        assert passes.run(network, images).outputs[""].shape == (1, 4, 4, 4)
    assert not network.layer._forward_hooks and not hasattr(network, "hooked")
    assert network(images).shape == network(images).shape == (1, 4, 4, 4)
