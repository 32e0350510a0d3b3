"""A network watched while it runs: what is seen, where it stops, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.engine.hooks import capture_outputs, evaluation

PICTURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Refuses(nn.Module):
    """What must not run."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("this lies above the deepest layer asked for")


class Functional(nn.Module):
    """ReLU and pool are calls; the convolution is called twice, the ReLU in place."""

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
def untouched(module: nn.Module) -> Iterator[None]:
    """Hooks, flags, weights and grad mode are afterwards what they were."""

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


def seen(module: nn.Module, *names: str, pictures: Tensor = PICTURES) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def see(name: str, output: Tensor) -> None:
        assert name not in found
        found[name] = output.clone()

    with untouched(module), capture_outputs(module, names, see) as run:
        assert run(pictures) is None
    return found


def test_a_module_called_twice_has_two_outputs() -> None:
    net = Functional().eval()
    with torch.no_grad():
        first = net.conv(PICTURES)
        second = net.conv(F.max_pool2d(F.relu(first), 2))
    both = seen(net, "conv", "conv:2")
    assert torch.equal(both["conv"], first)
    assert torch.equal(both["conv:2"], second)
    assert list(seen(net, "conv:2")) == ["conv:2"]
    assert torch.equal(seen(net, "conv:2")["conv:2"], second)


def test_what_is_overwritten_in_place_is_seen_before() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        said = net[0](PICTURES)
    found = seen(net, "0", "1")
    assert said.min() < 0
    assert torch.equal(found["0"], said)
    assert torch.equal(found["1"], said.relu())


def test_the_network_itself_is_a_module_too() -> None:
    net = Functional().eval()
    with torch.no_grad():
        want = net(PICTURES)
    assert torch.equal(seen(net, "")[""], want)


@pytest.mark.parametrize("asked", [("0",), ("1", "0"), ("1",)])
def test_nothing_above_the_deepest_layer_runs(asked: tuple[str, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), Refuses())
    assert set(seen(net, *asked)) == set(asked)
    with pytest.raises(AssertionError, match="above the deepest"):
        seen(net, "1", "2")


def test_a_second_call_that_never_comes_lets_the_network_end() -> None:
    assert list(seen(Functional(), "conv", "relu:2")) == ["conv"]


def test_each_run_begins_anew() -> None:
    net = Functional()
    names: list[str] = []
    with capture_outputs(net, ["conv:2", "conv"], lambda name, output: names.append(name)) as run:
        run(PICTURES)
        run(PICTURES)
    assert names == ["conv", "conv:2"] * 2


def test_a_run_that_failed_does_not_disturb_the_next() -> None:
    class Moody(nn.Module):
        fails = True

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if self.fails:
                raise ValueError("not today")
            return self.conv(x.repeat(1, 2, 1, 1)[:, :3])

    net, names = Moody(), list[str]()
    with capture_outputs(net, ["conv", "conv:2"], lambda name, output: names.append(name)) as run:
        with pytest.raises(ValueError, match="not today"):
            run(PICTURES)
        net.fails = False
        run(PICTURES)
    assert names == ["conv", "conv", "conv:2"]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_everything_is_put_back_after_an_error_anywhere(grad: bool, training: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), Refuses()).train(training)
    net[1].training = not training  # each its own

    def fail(name: str, output: Tensor) -> None:
        assert not torch.is_grad_enabled()
        assert not any(part.training for part in net.modules())
        raise KeyError(name)

    def nothing(name: str, output: Tensor) -> None:
        assert not output.requires_grad

    with torch.set_grad_enabled(grad):
        for see, asked, error in ((fail, "0", KeyError), (nothing, "3", AssertionError)):
            with untouched(net), pytest.raises(error), capture_outputs(net, [asked], see) as run:
                run(PICTURES)
        with untouched(net), pytest.raises(KeyboardInterrupt), capture_outputs(net, ["0"], nothing):
            raise KeyboardInterrupt
    net[1].training = True  # statistics of a training run would have been written
    assert net[1].num_batches_tracked == 0


def test_hooks_of_the_user_stay_and_count() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    told: list[int] = []
    handle = net[0].register_forward_hook(lambda part, args, output: told.append(1) or output * 2)
    with torch.no_grad():
        want = net[0](PICTURES)
    assert torch.equal(seen(net, "0")["0"], want)
    assert len(told) == 2
    handle.remove()


def test_a_network_cannot_swallow_the_stop() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Identity()
            self.above = Refuses()

        def forward(self, x: Tensor) -> Tensor:
            with suppress(Exception):
                x = self.part(x)
            return self.above(x)

    assert list(seen(Careful(), "part")) == ["part"]


def test_names_with_colons_and_parts_that_are_used_under_two_names() -> None:
    odd = nn.Sequential()
    odd.add_module("a:2", nn.Conv2d(3, 2, 1))
    assert list(seen(odd, "a:2")) == ["a:2"]
    shared = nn.ReLU()
    net = nn.Sequential(shared, nn.Conv2d(3, 2, 1), shared)
    assert list(seen(net, "0", "0:2")) == ["0", "0:2"]


def test_nothing_watched_runs_to_the_end() -> None:
    ran: list[int] = []

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ran.append(1)
            return x

    assert seen(nn.Sequential(Last())) == {}
    assert ran == [1]


def test_gradients_switched_on_inside_of_a_network_stay_there() -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                return self.conv(x)

    assert seen(Learns(), "conv")["conv"].shape == (2, 2, 8, 8)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [None, KeyError])
def test_evaluation_gives_each_part_its_own_flag_back(error: type[Exception] | None) -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3)))
    net[1].eval()
    flags = [part.training for part in net.modules()]
    assert flags == [True, True, False, False]
    with suppress(KeyError), evaluation(list(net.named_modules())):
        assert not any(part.training for part in net.modules())
        if error is not None:
            raise error
    assert [part.training for part in net.modules()] == flags
