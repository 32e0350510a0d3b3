"""`capture_outputs`: which outputs it returns, where the network stops, and what it leaves unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.engine.hooks import capture_outputs, evaluation

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class MustNotRun(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("this module is above the deepest requested layer")


class Functional(nn.Module):
    """Network with functional ReLU and pooling, an in-place ReLU, and a convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = self.relu(self.conv(x))
        return self.last(x)


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Assert that hooks, training flags, weights and the grad mode are unchanged at the end."""

    def state() -> list[object]:
        return [
            (name, part.training, dict(part._forward_hooks), dict(part._forward_pre_hooks), part.forward)
            for name, part in module.named_modules()
        ]

    flags, weights = state(), {name: value.clone() for name, value in module.state_dict().items()}
    needed = [(name, value.requires_grad) for name, value in module.named_parameters()]
    grad = torch.is_grad_enabled()
    try:
        yield
    finally:
        assert state() == flags
        assert torch.is_grad_enabled() == grad
        assert [(name, value.requires_grad) for name, value in module.named_parameters()] == needed
        assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def captured(module: nn.Module, *names: str, images: Tensor = IMAGES) -> dict[str, Tensor]:
    """Run a module, and return the outputs of the named modules in the order in which they returned."""
    found: dict[str, Tensor] = {}

    def on_output(name: str, output: Tensor) -> None:
        assert name not in found
        found[name] = output.clone()

    with unchanged(module), capture_outputs(module, names, on_output) as run:
        assert run(images) is None
    return found


def test_module_called_twice_has_two_outputs() -> None:
    net = Functional().eval()
    with torch.no_grad():
        first = net.conv(IMAGES)
        second = net.conv(F.max_pool2d(F.relu(first), 2))
    both = captured(net, "conv", "conv:2")
    assert torch.equal(both["conv"], first)
    assert torch.equal(both["conv:2"], second)
    assert list(captured(net, "conv:2")) == ["conv:2"]
    assert torch.equal(captured(net, "conv:2")["conv:2"], second)


def test_output_is_captured_before_it_is_overwritten_in_place() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        activations = net[0](IMAGES)
    found = captured(net, "0", "1")
    assert activations.min() < 0
    assert torch.equal(found["0"], activations)
    assert torch.equal(found["1"], activations.relu())


def test_empty_name_captures_the_output_of_the_network() -> None:
    net = Functional().eval()
    with torch.no_grad():
        want = net(IMAGES)
    assert torch.equal(captured(net, "")[""], want)


@pytest.mark.parametrize("names", [("0",), ("1", "0"), ("1",)])
def test_modules_above_the_deepest_requested_layer_do_not_run(names: tuple[str, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), MustNotRun())
    assert set(captured(net, *names)) == set(names)
    with pytest.raises(AssertionError, match="above the deepest"):
        captured(net, "1", "2")


def test_network_runs_to_its_end_if_a_requested_call_does_not_happen() -> None:
    assert list(captured(Functional(), "conv", "relu:2")) == ["conv"]


def test_call_numbers_start_again_in_each_run() -> None:
    net = Functional()
    names: list[str] = []
    with capture_outputs(net, ["conv:2", "conv"], lambda name, output: names.append(name)) as run:
        run(IMAGES)
        run(IMAGES)
    assert names == ["conv", "conv:2"] * 2


def test_call_numbers_start_again_after_a_failed_run() -> None:
    class FailsOnce(nn.Module):
        fails = True

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if self.fails:
                raise ValueError("failed")
            return self.conv(x.repeat(1, 2, 1, 1)[:, :3])

    net, names = FailsOnce(), list[str]()
    with capture_outputs(net, ["conv", "conv:2"], lambda name, output: names.append(name)) as run:
        with pytest.raises(ValueError, match="failed"):
            run(IMAGES)
        net.fails = False
        run(IMAGES)
    assert names == ["conv", "conv", "conv:2"]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_network_is_unchanged_after_an_error_anywhere(grad: bool, training: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), MustNotRun()).train(training)
    net[1].training = not training  # unlike the other modules

    def fail(name: str, output: Tensor) -> None:
        assert not torch.is_grad_enabled()
        assert not any(part.training for part in net.modules())
        raise KeyError(name)

    def check_no_grad(name: str, output: Tensor) -> None:
        assert not output.requires_grad

    with torch.set_grad_enabled(grad):
        for on_output, name, error in ((fail, "0", KeyError), (check_no_grad, "3", AssertionError)):
            with unchanged(net), pytest.raises(error), capture_outputs(net, [name], on_output) as run:
                run(IMAGES)
        with unchanged(net), pytest.raises(KeyboardInterrupt), capture_outputs(net, ["0"], check_no_grad):
            raise KeyboardInterrupt
    net[1].training = True  # in training mode the run would have changed the statistics
    assert net[1].num_batches_tracked == 0


def test_hooks_of_the_user_run_and_can_change_the_output() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    calls: list[int] = []
    handle = net[0].register_forward_hook(lambda part, args, output: calls.append(1) or output * 2)
    with torch.no_grad():
        want = net[0](IMAGES)
    assert torch.equal(captured(net, "0")["0"], want)
    assert len(calls) == 2
    handle.remove()


def test_network_that_suppresses_exceptions_is_stopped() -> None:
    class SuppressesExceptions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Identity()
            self.above = MustNotRun()

        def forward(self, x: Tensor) -> Tensor:
            with suppress(Exception):
                x = self.part(x)
            return self.above(x)

    assert list(captured(SuppressesExceptions(), "part")) == ["part"]


def test_names_with_colons_and_shared_modules_are_distinguished() -> None:
    odd = nn.Sequential()
    odd.add_module("a:2", nn.Conv2d(3, 2, 1))
    assert list(captured(odd, "a:2")) == ["a:2"]
    shared = nn.ReLU()
    net = nn.Sequential(shared, nn.Conv2d(3, 2, 1), shared)
    assert list(captured(net, "0", "0:2")) == ["0", "0:2"]


def test_network_runs_to_its_end_without_requested_layers() -> None:
    ran: list[int] = []

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ran.append(1)
            return x

    assert captured(nn.Sequential(Last())) == {}
    assert ran == [1]


def test_grad_mode_enabled_inside_a_network_does_not_leak() -> None:
    class EnablesGrad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                return self.conv(x)

    assert captured(EnablesGrad(), "conv")["conv"].shape == (2, 2, 8, 8)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [None, KeyError])
def test_evaluation_restores_the_training_flag_of_each_module(error: type[Exception] | None) -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3)))
    net[1].eval()
    flags = [part.training for part in net.modules()]
    assert flags == [True, True, False, False]
    with suppress(KeyError), evaluation(list(net.named_modules())):
        assert not any(part.training for part in net.modules())
        if error is not None:
            raise error
    assert [part.training for part in net.modules()] == flags
