"""A model that was recorded is afterwards what it was, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import passes
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from deconvviz.engine import recorder as forward
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
    """Everything that recording could spoil: dropout, batch norm, in-place ReLU, and a place to fail."""

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
    """All that must not change, numbers as bytes."""
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
def pictures() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _some_in_training(net: Net) -> None:
    net.train()
    net.features[1].eval()
    net.features[5].eval()
    net.features[5][1].train()


def test_flags_of_each_submodule_hooks_and_outputs(net: Net, pictures: Tensor) -> None:
    called: list[int] = []
    net.features[0].register_forward_hook(lambda part, args, output: called.append(1))
    net.eval()
    before = net(pictures)
    _some_in_training(net)
    with unchanged(net):
        ours = passes.run(net, pictures)
        ours.units("features.5", [Unit(0, 0, 1, 1)])
    assert called == [1, 1]  # the user's own hook runs as ever
    assert torch.equal(ours.said[""], before)  # recorded as in evaluation mode
    assert torch.equal(net.eval()(pictures), before)
    net(pictures).sum().backward()  # and it can be trained on
    assert all(number.grad is not None for number in net.parameters())


def test_pictures_are_left_alone(net: Net, pictures: Tensor) -> None:
    first_in_place = nn.Sequential(nn.ReLU(inplace=True), net)
    pictures.requires_grad_(True)
    before = pictures.detach().clone()
    ours = passes.run(first_in_place, pictures)
    assert torch.equal(pictures, before) and pictures.grad is None and pictures._version == 0
    assert not ours.said[""].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_within_any_grad_mode(net: Net, pictures: Tensor, mode: Any) -> None:
    want, _ = passes.run(net, pictures).units("", [Unit(0, 3)])
    with mode():
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        pixels, _ = passes.run(net, pictures).units("", [Unit(0, 3)])
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (grad, inference)
    assert torch.equal(pixels, want)


class Trap(RuntimeError):
    """Something of the user's own that goes wrong."""


@pytest.mark.parametrize("error", [Trap, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["forward", "hook", "pre-hook", "wanted"])
def test_after_an_exception_inside(
    net: Net, pictures: Tensor, error: type[BaseException], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise error("on the way up")

    _some_in_training(net)
    handles = []
    if place == "hook":
        handles.append(net.trap.register_forward_hook(fail))
    if place == "pre-hook":
        handles.append(net.trap.register_forward_pre_hook(fail))
    if place == "forward":
        monkeypatch.setattr(nn.Identity, "forward", fail)
    with unchanged(net), pytest.raises(error, match="on the way up"):
        forward.record_tape(net, pictures, fail if place == "wanted" else lambda out, tensor: True)
    monkeypatch.undo()
    for handle in handles:
        handle.remove()
    assert passes.run(net, pictures).said[""].shape == (2, 5)  # and it can be recorded now


def test_after_an_exception_in_a_rule(net: Net, pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise Trap("in a rule")

    pool = lookup(torch.ops.aten.max_pool2d_with_indices.default)
    with monkeypatch.context() as broken, unchanged(net):
        broken.setattr(
            pool, "__init__", fail
        )  # while recording: this call is refused, the layers below it are not
        ours = passes.run(net, pictures)
        ours.units("features.3", [Unit(0, 0, 1, 1)])
        with pytest.raises(RefusedOp, match="its rule failed with Trap: in a rule"):
            ours.units("features.4", [Unit(0, 0, 1, 1)])
    with monkeypatch.context() as broken, unchanged(net):
        broken.setattr(pool, "project", fail)
        with pytest.raises(Trap, match="in a rule"):
            passes.run(net, pictures).units("", [Unit(0, 0)])
    with unchanged(net):
        passes.run(net, pictures).units("", [Unit(0, 0)])


def test_a_network_that_catches_everything_is_stopped_all_the_same(pictures: Tensor) -> None:
    class Stubborn(Net):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return super().forward(x)
            except Exception:
                return self.head(x.mean((1, 2)))

    net = Stubborn().eval()
    with unchanged(net):
        ours = passes.run(net, pictures, deepest="features.2")
    assert "features.3" not in ours.said and "features.2" in ours.said


def test_a_recording_inside_a_recording(net: Net, pictures: Tensor) -> None:
    """As when a hook of the user's asks for a projection of its own."""
    inner = Net().eval()
    found: list[Tensor] = []

    def ask(part: nn.Module, args: Any, output: Tensor) -> None:
        found.append(passes.run(inner, pictures).units("", [Unit(0, 0)])[0])

    want, _ = passes.run(net, pictures).units("", [Unit(0, 0)])
    handle = net.trap.register_forward_hook(ask)
    with unchanged(net), unchanged(inner):
        pixels, _ = passes.run(net, pictures).units("", [Unit(0, 0)])
    handle.remove()
    assert torch.equal(pixels, want)
    assert torch.equal(found[0], passes.run(inner, pictures).units("", [Unit(0, 0)])[0])
