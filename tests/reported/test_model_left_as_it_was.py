"""A model is bit for bit what it was, whatever its forward pass, its `train` and its `eval` do."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.oracles import Autograd, difference
from helpers.snapshots import (
    CHANNELS,
    PARTS,
    Adapted,
    Clamping,
    Counting,
    Noise,
    Observing,
    Remembering,
    composed,
    left_as_it_was,
    pictures,
    snapshot,
    wrapped,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.hooks import capture_outputs
from deconvviz.errors import NetworkError, RefusedOp


def list_layers(module: nn.Module) -> None:
    assert wrapped(module).layers.names


def ask_coverage(module: nn.Module) -> None:
    assert wrapped(module).coverage().calls


def record(module: nn.Module) -> None:
    wrapped(module).record(pictures(2), ["0", "output"])


def record_half(module: nn.Module) -> None:
    """The network is stopped in the middle."""
    wrapped(module).record(pictures(2), "1" if len(module) > 4 else "0")  # type: ignore[arg-type]


def project_a_recording(module: nn.Module) -> None:
    rec = wrapped(module).record(pictures(2), ["0", "output"])
    for layer in ("0", "output"):
        try:
            rec.project(layer, rec.strongest(layer, 2))
        except RefusedOp:  # statistics of the batch, say
            assert layer == "output"


def project_at_once(module: nn.Module) -> None:
    dv.project(wrapped(module), pictures(), "0", k=2)


def search(module: nn.Module) -> None:
    dv.search(wrapped(module), Noise(3), ["0", "output"], batch_size=2, workers=0)


QUICK = [list_layers, ask_coverage, record, record_half, project_a_recording, project_at_once]


def training_step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """In the training state in which the module is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        module(pictures(3, seed=seed)).square().mean().backward()
        optimizer.step()


def train_on(act: Callable[[nn.Module], None], module: nn.Module) -> None:
    """Train a module and its copy side by side, and act on the one alone; both must go the same way."""
    twin = copy.deepcopy(module)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (module, twin)]
    for one, optimizer in zip((module, twin), optimizers, strict=True):
        training_step(one, optimizer, seed=1)
    with left_as_it_was(module):
        act(module)
    for seed in (2, 3):
        for one, optimizer in zip((module, twin), optimizers, strict=True):
            one.train(seed == 3 or one.training)
            training_step(one, optimizer, seed)
        assert snapshot(module, identities=False) == snapshot(twin, identities=False)


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """Parts one after the other, each in training or evaluation mode, some of them frozen."""
    parts = draw(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=5))
    module = composed(parts, seed=draw(st.integers(0, 100)))
    for part in module:
        part.train(draw(st.booleans()))
        if draw(st.integers(0, 4)) == 0:
            part.requires_grad_(False)
    module[-1].requires_grad_(True)  # there is something to learn
    module.training = draw(st.booleans())
    return module


@settings(max_examples=40)
@given(networks(), st.sampled_from(QUICK))
def test_module_of_any_parts_after_any_question_is_what_it_was(
    module: nn.Sequential, act: Callable[[nn.Module], None]
) -> None:
    train_on(act, module)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_module_with_one_part_after_a_recording_is_what_it_was(part: str) -> None:
    for training in (True, False):
        train_on(record, composed([part]).train(training))


@pytest.mark.parametrize("training", [True, False])
def test_module_of_all_parts_after_a_search_is_what_it_was(training: bool) -> None:
    train_on(search, composed(sorted(PARTS)).train(training))


@pytest.mark.parametrize("act", QUICK)
def test_adapter_in_training_mode_goes_on_learning(act: Callable[[nn.Module], None]) -> None:
    """The smallest input of fault 2: the adapter believed to be merged got no gradient."""
    module = composed(["adapted"]).train()
    with left_as_it_was(module):
        act(module)
    module(pictures()).square().mean().backward()
    adapter = module[1]
    assert isinstance(adapter, Adapted) and not adapter.merged
    assert adapter.low.grad is not None and bool(adapter.low.grad.any())


def test_adapter_in_training_mode_gives_the_activations_of_evaluation() -> None:
    """Not merged, but the numbers of its merged twin; dropout and batch norm are in evaluation mode."""
    module = composed(["adapted", "batch norm", "dropout"]).train()
    twin = copy.deepcopy(module).eval()
    torch.testing.assert_close(
        wrapped(module).record(pictures(2), "output").activations("output"), twin(pictures(2))
    )


class NeverSwitched(nn.Sequential):
    """Its author does not want it to be switched by anybody."""

    def train(self, mode: bool = True) -> NeverSwitched:
        raise AssertionError("train() was called")

    def eval(self) -> NeverSwitched:
        raise AssertionError("eval() was called")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", [*QUICK, search])
@pytest.mark.parametrize("inner", [True, False], ids=["a part", "the whole"])
def test_train_and_eval_of_the_user_are_not_called(
    act: Callable[[nn.Module], None], training: bool, inner: bool
) -> None:
    module: nn.Module = NeverSwitched(*composed(["batch norm"]))
    module = nn.Sequential(module[0], NeverSwitched(*module[1:])) if inner else module
    for part in module.modules():
        part.training = training
    with left_as_it_was(module):
        act(module)


class Logging(nn.Conv2d):
    """Writes down how it is switched, and cannot stand to be switched to what it is already."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, CHANNELS, 1)
        self.switched: list[bool] = []

    def train(self, mode: bool = True) -> Logging:
        self.switched.append(mode)
        return super().train(mode)


def test_switches_that_are_logged_show_none() -> None:
    module = composed([])
    module.insert(1, Logging())
    module.train()
    logged = list(module[1].switched)  # type: ignore[arg-type]
    with left_as_it_was(module):
        for act in (*QUICK, search):
            act(module)
    assert module[1].switched == logged


def test_parts_in_unlike_states_keep_each_its_own() -> None:
    """A frozen batch norm in a network in training mode, a container that contradicts its parts."""
    module = composed(["batch norm", "dropout", "batch norm"]).train()
    module[1].eval()
    module.training = False
    with left_as_it_was(module):
        for act in QUICK:
            act(module)
    assert [part.training for part in module[:4]] == [True, False, True, True]


class Failing(nn.Module):
    """Raises, once it was told to, after the parts before it have written what they write."""

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__()
        self.errors = errors

    def forward(self, x: Tensor) -> Tensor:
        for error in self.errors:
            raise error
        return x


@pytest.mark.parametrize("error", [RuntimeError("theirs"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("training", [True, False])
def test_module_after_an_exception_is_what_it_was(error: BaseException, training: bool) -> None:
    module, errors = composed(sorted(PARTS)).train(training), list[BaseException]()
    module.insert(len(module) - 3, Failing(errors))
    net = wrapped(module)
    assert net.layers
    errors.append(error)
    with left_as_it_was(module), pytest.raises(type(error)):
        net.record(pictures(), "output")


def test_empty_picture_is_not_observed() -> None:
    """The smallest input of an observer: the sketch made its minimum 0."""
    module = nn.Sequential(Observing(), nn.Conv2d(3, 4, 3))
    module(pictures() + 1)
    lowest, highest = module[0].lowest.clone(), module[0].highest.clone()
    net = wrapped(module)
    assert net.layers.names == ["0", "1", "output"]
    net.record(pictures() - 5, "1")
    assert module[0].lowest == lowest > 0.9 and module[0].highest == highest


def test_counter_in_a_buffer_does_not_count_our_passes() -> None:
    """The smallest input of fault 4."""
    module = composed(["counting"])
    net = wrapped(module)
    for _ in range(3):
        rec = net.record(pictures(), "output")
        rec.project("output", rec.strongest("output", 1))
    dv.search(net, Noise(5), "output", batch_size=2, workers=0)
    counter = module[1]
    assert isinstance(counter, Counting) and int(counter.seen) == 0
    module(pictures())
    assert int(counter.seen) == 1


def test_list_that_others_hold_is_the_same_list_with_the_same_entries() -> None:
    part = Remembering()
    means, nested, plain = part.means, part.nested[0], part.plain
    means.append(0.25)
    module = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), part)
    wrapped(module).record(pictures(), "output")
    assert part.means is means and means == [0.25]
    assert part.nested[0] is nested and not bool(nested.any())
    assert part.plain is plain and plain.tolist() == [1, 1, 1]


def test_recordings_begin_with_the_same_buffers_each() -> None:
    """What one recording changes, the next does not see."""
    module = composed(["counting", "replacing", "remembering", "averaging"]).eval()
    net = wrapped(module)
    want = copy.deepcopy(module)(pictures()).detach()
    for _ in range(3):
        assert torch.equal(net.record(pictures(), "output").activations("output"), want)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_of_a_search_begin_with_the_same_buffers_each(batch_size: int) -> None:
    module = composed(["counting", "remembering", "conv"]).eval()
    net, source = wrapped(module), Noise(5)
    found = dv.search(net, source, "2", top=5, batch_size=batch_size, workers=0)
    recorded = [net.record(source.read(number), "2").activations("2") for number in range(5)]
    for channel in range(CHANNELS):
        want = sorted((float(activations[0, channel].max()) for activations in recorded), reverse=True)
        told = [peak.activation for peak in found.top("2", channel)]
        assert told == pytest.approx(want, rel=1e-5)


class Decaying(Clamping):
    """A weight that shrinks in each pass, so that autograd does not see it."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.mul_(0.9)
        return F.conv2d(x, self.weight)


@pytest.mark.parametrize("part", ["adapted", "decaying", "batch norm", "dropout", "conv"])
def test_loss_from_before_can_still_be_differentiated(part: str) -> None:
    """What autograd has kept of the user's own pass is neither replaced nor marked as overwritten."""
    module = composed(["conv" if part == "decaying" else part]).train()
    if part == "decaying":
        module[1] = Decaying()
    twin = copy.deepcopy(module)
    losses = []
    for one in (module, twin):
        torch.manual_seed(3)
        losses.append(one(pictures(3)).square().mean())
    with left_as_it_was(module):
        for act in QUICK:
            act(module)
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and torch.equal(ours.grad, theirs.grad)


def test_hooks_of_the_user_run_and_remain() -> None:
    module = composed(["relu"])
    ran: list[str] = []
    module[1].register_forward_hook(lambda *_: ran.append("after"))
    module[1].register_forward_pre_hook(lambda *_: ran.append("before"))
    module[0].weight.register_hook(lambda grad: grad)
    with left_as_it_was(module):
        for act in QUICK:
            act(module)
    assert ran[:2] == ["before", "after"]


class Extra(nn.Module):
    """Makes a parameter while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "extra"):
            self.extra = nn.Parameter(torch.rand(x.shape[1], 1, 1))
        return x * self.extra


class LateHead(nn.Module):
    """Makes a part with parameters when it sees the first picture."""

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.head is None:
            self.head = nn.Conv2d(x.shape[1], 2, 1)
        result: Tensor = self.head(x)
        return result


class Registering(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.register_parameter("bias", nn.Parameter(torch.rand(1)))
        return x + self.bias


class Listing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.ParameterList()

    def forward(self, x: Tensor) -> Tensor:
        self.gains.append(nn.Parameter(torch.rand(1)))
        return x * self.gains[-1]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Extra, r"1\.extra"),
        (LateHead, r"1\.head\.weight"),
        (Registering, r"1\.bias"),
        (Listing, r"1\.gains\.0"),
    ],
)
@pytest.mark.parametrize("act", [list_layers, record, search])
def test_parameter_made_in_forward_is_named_and_removed_again(
    make: Callable[[], nn.Module], name: str, act: Callable[[nn.Module], None]
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), make())
    with left_as_it_was(module), pytest.raises(NetworkError, match=name):
        act(module)


def test_parameter_made_in_forward_before_is_nothing_special() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Extra())
    module(pictures())
    with left_as_it_was(module):
        assert bool(wrapped(module).record(pictures(), "1").activations("1").any())


class Large(nn.Module):
    """A buffer of 272 MB, that takes no real memory until it is written to."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.register_buffer("large", torch.zeros(68_000_000))
        self.register_buffer("still", torch.zeros(1))
        self.writes = writes

    def forward(self, x: Tensor) -> Tensor:
        if self.writes:
            self.large[:2] += 1
        return x + self.still


def test_buffers_too_large_to_copy_that_changed_are_named_in_a_warning() -> None:
    module = nn.Sequential(Large(writes=True), nn.Conv2d(3, 2, 1))
    wrapped(module).record(pictures(), "1")  # a recording sees every write, and copies the buffer before it
    assert not module[0].large[:4].any()
    warned = pytest.warns(UserWarning, match=r"0\.large")
    with warned as told, capture_outputs(module, [""], lambda name, output: None) as run:
        run(pictures())  # as a search does
    assert not any("still" in str(one.message) for one in told)


def test_buffers_too_large_to_copy_that_did_not_change_are_not_spoken_of() -> None:
    module = nn.Sequential(Large(writes=False), nn.Conv2d(3, 2, 1)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped(module).record(pictures(), "1")
    assert all(part.training for part in module.modules())


# Lazy modules (fault 15)


def lazy_networks() -> dict[str, nn.Module]:
    return {
        "a convolution": nn.Sequential(nn.LazyConv2d(8, 3)),
        "behind a convolution": nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.ReLU()),
        "a lazy buffer alone": nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(affine=False)),
        "at the end": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5)),
        "deep inside": nn.Sequential(
            nn.Sequential(nn.Identity(), nn.ModuleDict({"a": nn.LazyConv2d(2, 1)})["a"])
        ),
        "one with a kernel": nn.LazyConvTranspose2d(3, 2),
    }


@pytest.mark.parametrize("which", lazy_networks())
@pytest.mark.parametrize("training", [True, False])
def test_lazy_module_is_told_of_and_stays_lazy(which: str, training: bool) -> None:
    module = lazy_networks()[which].train(training)
    net = wrapped(module)
    with left_as_it_was(module):
        assert "parameters not initialised yet" in repr(net)
        with pytest.raises(NetworkError, match=r"[Rr]un the module once"):
            _ = net.layers
        with pytest.raises(NetworkError, match=r"[Rr]un the module once"):
            net.record(pictures(), "0")
    lazy = [part for part in module.modules() if isinstance(part, nn.modules.lazy.LazyModuleMixin)]
    assert len(lazy) == 1 and lazy[0].has_uninitialized_params()


@pytest.mark.parametrize("which", lazy_networks())
def test_lazy_module_once_it_has_run_is_a_module_like_any_other(which: str) -> None:
    module = lazy_networks()[which]
    net = wrapped(module)
    assert "not initialised" in repr(net)
    module(pictures(2))
    count = sum(number.numel() for number in module.parameters())
    assert f"{count:,} parameters" in repr(net)
    with left_as_it_was(module):
        assert net.record(pictures(), "output").activations("output").shape[1:] == net.layers.last.shape


# Projections of networks that change their numbers while they run


class Own(nn.Module):
    """Writes to its numbers in the forward pass; with `apart` to others than those that it computes with.

    Autograd needs that: it does not copy what it keeps. What is written is plain numbers, through which no
    signal comes back to the picture.
    """

    def __init__(self, before: bool, apart: bool = False) -> None:
        super().__init__()
        self.before, self.apart = before, apart

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            self.change(x.detach())
        y = self.compute(x)
        if not self.before:
            self.change(x.detach())
        return y

    def own(self, number: Tensor) -> Tensor:
        return number.clone() if self.apart else number

    def change(self, x: Tensor) -> None:
        raise NotImplementedError

    def compute(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Scaled(Own):
    """Times a buffer, written in place."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.register_buffer("scale", torch.linspace(0.5, 2, CHANNELS, dtype=torch.float64)[:, None, None])

    def change(self, x: Tensor) -> None:
        self.scale.mul_(-1.5)

    def compute(self, x: Tensor) -> Tensor:
        return x * self.own(self.scale)


class ScaledBy(Scaled):
    """Times a buffer that becomes another tensor."""

    def change(self, x: Tensor) -> None:
        self.scale = self.scale + float(x.abs().mean())


class Divided(Scaled):
    """Over a buffer that follows the picture."""

    def change(self, x: Tensor) -> None:
        self.scale[...] = 0.5 * self.scale + float(x.abs().amax())

    def compute(self, x: Tensor) -> Tensor:
        return x / self.own(self.scale)


class Convolved(Own):
    """A kernel that is a buffer."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        dice = torch.Generator().manual_seed(4)
        kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=dice, dtype=torch.float64)
        self.register_buffer("kernel", kernel)

    def change(self, x: Tensor) -> None:
        self.kernel[::2] *= -2

    def compute(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.own(self.kernel), padding=1)


class Clamped(Convolved):
    """A weight that is clamped through `.data`."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        kernel = self.kernel
        del self.kernel
        self.kernel = nn.Parameter(kernel)

    def change(self, x: Tensor) -> None:
        self.kernel.data.clamp_(-0.3, 0.2)


class Exchanged(Clamped):
    """A weight whose `.data` becomes another tensor."""

    def change(self, x: Tensor) -> None:
        self.kernel.data = self.kernel.data.flip(0)


class Statistics(Own):
    """Batch norm with statistics that run along, and that it computes with."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.norm = nn.BatchNorm2d(CHANNELS).double()

    def change(self, x: Tensor) -> None:
        self.norm.running_mean.copy_(torch.tensor(x.mean((0, 2, 3)).tolist()))  # type: ignore[union-attr]
        self.norm.running_var.mul_(3).add_(float(x.var()))  # type: ignore[union-attr, operator]

    def compute(self, x: Tensor) -> Tensor:
        mean, variance = self.own(self.norm.running_mean), self.own(self.norm.running_var)  # type: ignore[arg-type]
        return F.batch_norm(x, mean, variance, self.norm.weight, self.norm.bias, training=False)


class Listed(Own):
    """A plain tensor in a list."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.gains = [torch.linspace(1, 2, 8, dtype=torch.float64)]

    def change(self, x: Tensor) -> None:
        self.gains[0].neg_().sub_(1)
        self.gains.append(torch.tensor(float(x.mean())))

    def compute(self, x: Tensor) -> Tensor:
        return x * self.own(self.gains[0])


class Mixed(Own):
    """A matrix along the channels."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        dice = torch.Generator().manual_seed(6)
        self.register_buffer("mix", torch.randn(CHANNELS, CHANNELS, generator=dice, dtype=torch.float64))

    def change(self, x: Tensor) -> None:
        self.mix.copy_(self.mix.T.contiguous() * 0.5)

    def compute(self, x: Tensor) -> Tensor:
        return F.linear(x.mean((2, 3)), self.own(self.mix))[..., None, None] * x


CHANGING = [Scaled, ScaledBy, Divided, Convolved, Clamped, Exchanged, Statistics, Listed, Mixed]


def with_changes(kind: Any, before: bool, apart: bool = False) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return (
            nn.Sequential(
                nn.Conv2d(3, CHANNELS, 3, padding=1),
                kind(before, apart),
                nn.ReLU(),
                nn.Conv2d(CHANNELS, CHANNELS, 3),
                nn.ReLU(),
            )
            .double()
            .eval()
        )


@pytest.mark.parametrize("before", [True, False], ids=["changed before", "changed after"])
@pytest.mark.parametrize("kind", CHANGING)
def test_projection_of_a_network_that_changes_itself_is_right(kind: Any, before: bool) -> None:
    module = with_changes(kind, before)
    x = pictures(2, dtype=torch.float64)
    oracle = Autograd(with_changes(kind, before, apart=True), x)
    net = wrapped(module)
    with left_as_it_was(module):
        rec = net.record(x, ["1", "4"])
        again = net.record(x, ["1", "4"])
        for one in (rec, again):
            for layer in ("1", "4"):
                assert torch.equal(one.activations(layer), oracle.outputs[layer].detach())
                proj = one.project(layer, [*one.strongest(layer, 3), dv.Unit(1, 2, 3, 4)])
                for ours, unit in zip(proj.pixels, proj.units, strict=True):
                    assert unit.y is not None and unit.x is not None
                    theirs = oracle.unit(layer, unit.image, unit.channel, unit.y, unit.x)
                    assert difference(ours, theirs) < 1e-9
