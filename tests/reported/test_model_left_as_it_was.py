"""A network is unchanged bit for bit, whatever its forward pass, its `train` and its `eval` do."""

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


def list_operations(module: nn.Module) -> None:
    assert wrapped(module).coverage().calls


def record(module: nn.Module) -> None:
    wrapped(module).record(pictures(2), ["0", "output"])


def record_half(module: nn.Module) -> None:
    """Record a layer in the middle, where the network is stopped."""
    wrapped(module).record(pictures(2), "1" if len(module) > 4 else "0")  # type: ignore[arg-type]


def project_a_recording(module: nn.Module) -> None:
    rec = wrapped(module).record(pictures(2), ["0", "output"])
    for layer in ("0", "output"):
        try:
            rec.project(layer, rec.strongest(layer, 2))
        except RefusedOp:  # for example because of batch statistics
            assert layer == "output"


def project_directly(module: nn.Module) -> None:
    dv.project(wrapped(module), pictures(), "0", k=2)


def search(module: nn.Module) -> None:
    dv.search(wrapped(module), Noise(3), ["0", "output"], batch_size=2, workers=0)


QUICK = [list_layers, list_operations, record, record_half, project_a_recording, project_directly]


def training_step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Train a module for one step, without changing its training flags."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        module(pictures(3, seed=seed)).square().mean().backward()
        optimizer.step()


def check_training_after(act: Callable[[nn.Module], None], module: nn.Module) -> None:
    """Train a module and a copy of it, use `act` on the module only, and check that both stay equal."""
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
    """Draw a sequence of modules, each in training or evaluation mode, some of them frozen."""
    parts = draw(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=5))
    module = composed(parts, seed=draw(st.integers(0, 100)))
    for part in module:
        part.train(draw(st.booleans()))
        if draw(st.integers(0, 4)) == 0:
            part.requires_grad_(False)
    module[-1].requires_grad_(True)  # at least one module can be trained
    module.training = draw(st.booleans())
    return module


@settings(max_examples=40)
@given(networks(), st.sampled_from(QUICK))
def test_random_network_is_unchanged_after_any_use(
    module: nn.Sequential, act: Callable[[nn.Module], None]
) -> None:
    check_training_after(act, module)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_network_with_one_special_module_is_unchanged_after_recording(part: str) -> None:
    for training in (True, False):
        check_training_after(record, composed([part]).train(training))


@pytest.mark.parametrize("training", [True, False])
def test_network_with_all_special_modules_is_unchanged_after_a_search(training: bool) -> None:
    check_training_after(search, composed(sorted(PARTS)).train(training))


@pytest.mark.parametrize("act", QUICK)
def test_adapter_in_training_mode_still_gets_gradients(act: Callable[[nn.Module], None]) -> None:
    """In the reported bug the adapter was left in its merged state, and its weights got no gradient."""
    module = composed(["adapted"]).train()
    with left_as_it_was(module):
        act(module)
    module(pictures()).square().mean().backward()
    adapter = module[1]
    assert isinstance(adapter, Adapted) and not adapter.merged
    assert adapter.low.grad is not None and bool(adapter.low.grad.any())


def test_adapter_in_training_mode_is_recorded_in_evaluation_mode() -> None:
    """Its activations equal those of a copy on which the user has called `eval`."""
    module = composed(["adapted", "batch norm", "dropout"]).train()
    twin = copy.deepcopy(module).eval()
    torch.testing.assert_close(
        wrapped(module).record(pictures(2), "output").activations("output"), twin(pictures(2))
    )


class NeverSwitched(nn.Sequential):
    """Module whose `train` and `eval` must not be called."""

    def train(self, mode: bool = True) -> NeverSwitched:
        raise AssertionError("train() was called")

    def eval(self) -> NeverSwitched:
        raise AssertionError("eval() was called")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", [*QUICK, search])
@pytest.mark.parametrize("inner", [True, False], ids=["submodule", "network"])
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
    """Convolution that logs every call of `train`."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, CHANNELS, 1)
        self.switched: list[bool] = []

    def train(self, mode: bool = True) -> Logging:
        self.switched.append(mode)
        return super().train(mode)


def test_logged_calls_of_train_show_none_by_deconvviz() -> None:
    module = composed([])
    module.insert(1, Logging())
    module.train()
    logged = list(module[1].switched)  # type: ignore[arg-type]
    with left_as_it_was(module):
        for act in (*QUICK, search):
            act(module)
    assert module[1].switched == logged


def test_modules_with_different_training_flags_keep_their_own() -> None:
    """The batch norm is frozen, and the flag of the container differs from those of its modules."""
    module = composed(["batch norm", "dropout", "batch norm"]).train()
    module[1].eval()
    module.training = False
    with left_as_it_was(module):
        for act in QUICK:
            act(module)
    assert [part.training for part in module[:4]] == [True, False, True, True]


class Failing(nn.Module):
    """Module that raises the error in a list, if there is one."""

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__()
        self.errors = errors

    def forward(self, x: Tensor) -> Tensor:
        for error in self.errors:
            raise error
        return x


@pytest.mark.parametrize("error", [RuntimeError("in user code"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("training", [True, False])
def test_network_is_unchanged_after_an_exception(error: BaseException, training: bool) -> None:
    module, errors = composed(sorted(PARTS)).train(training), list[BaseException]()
    module.insert(len(module) - 3, Failing(errors))
    net = wrapped(module)
    assert net.layers
    errors.append(error)
    with left_as_it_was(module), pytest.raises(type(error)):
        net.record(pictures(), "output")


def test_observer_does_not_observe_the_inputs_of_deconvviz() -> None:
    """In the reported bug the empty image that is used to list the layers changed its minimum to 0."""
    module = nn.Sequential(Observing(), nn.Conv2d(3, 4, 3))
    module(pictures() + 1)
    lowest, highest = module[0].lowest.clone(), module[0].highest.clone()
    net = wrapped(module)
    assert net.layers.names == ["0", "1", "output"]
    net.record(pictures() - 5, "1")
    assert module[0].lowest == lowest > 0.9 and module[0].highest == highest


def test_counter_in_a_buffer_does_not_count_passes_of_deconvviz() -> None:
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


def test_lists_and_tensors_in_attributes_are_the_same_objects_with_the_same_contents() -> None:
    part = Remembering()
    means, nested, plain = part.means, part.nested[0], part.plain
    means.append(0.25)
    module = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), part)
    wrapped(module).record(pictures(), "output")
    assert part.means is means and means == [0.25]
    assert part.nested[0] is nested and not bool(nested.any())
    assert part.plain is plain and plain.tolist() == [1, 1, 1]


def test_each_recording_starts_with_the_same_buffers() -> None:
    module = composed(["counting", "replacing", "remembering", "averaging"]).eval()
    net = wrapped(module)
    want = copy.deepcopy(module)(pictures()).detach()
    for _ in range(3):
        assert torch.equal(net.record(pictures(), "output").activations("output"), want)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_each_batch_of_a_search_starts_with_the_same_buffers(batch_size: int) -> None:
    module = composed(["counting", "remembering", "conv"]).eval()
    net, source = wrapped(module), Noise(5)
    found = dv.search(net, source, "2", top=5, batch_size=batch_size, workers=0)
    recorded = [net.record(source.read(number), "2").activations("2") for number in range(5)]
    for channel in range(CHANNELS):
        want = sorted((float(activations[0, channel].max()) for activations in recorded), reverse=True)
        peaks = [peak.activation for peak in found.top("2", channel)]
        assert peaks == pytest.approx(want, rel=1e-5)


class Decaying(Clamping):
    """Convolution whose weight shrinks in each pass, through `.data`, so that autograd does not notice."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.mul_(0.9)
        return F.conv2d(x, self.weight)


@pytest.mark.parametrize("part", ["adapted", "decaying", "batch norm", "dropout", "conv"])
def test_earlier_loss_can_still_be_differentiated(part: str) -> None:
    """Tensors that autograd has saved in a pass of the user are neither replaced nor marked as changed."""
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


def test_hooks_of_the_user_run_and_are_kept() -> None:
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
    """Module that creates a parameter in its forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "extra"):
            self.extra = nn.Parameter(torch.rand(x.shape[1], 1, 1))
        return x * self.extra


class LateHead(nn.Module):
    """Module that creates a submodule with parameters in its first forward pass."""

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
def test_parameter_created_in_forward_raises_and_is_removed(
    make: Callable[[], nn.Module], name: str, act: Callable[[nn.Module], None]
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), make())
    with left_as_it_was(module), pytest.raises(NetworkError, match=name):
        act(module)


def test_parameter_created_in_an_earlier_forward_pass_is_accepted() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Extra())
    module(pictures())
    with left_as_it_was(module):
        assert bool(wrapped(module).record(pictures(), "1").activations("1").any())


class Large(nn.Module):
    """Module with a buffer of 272 MB that takes no physical memory until it is written to."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.register_buffer("large", torch.zeros(68_000_000))
        self.register_buffer("still", torch.zeros(1))
        self.writes = writes

    def forward(self, x: Tensor) -> Tensor:
        if self.writes:
            self.large[:2] += 1
        return x + self.still


def test_changed_buffer_that_is_too_large_to_copy_causes_a_warning() -> None:
    module = nn.Sequential(Large(writes=True), nn.Conv2d(3, 2, 1))
    wrapped(module).record(pictures(), "1")  # a recording notices each write and copies the buffer first
    assert not module[0].large[:4].any()
    expected = pytest.warns(UserWarning, match=r"0\.large")
    with expected as warned, capture_outputs(module, [""], lambda name, output: None) as run:
        run(pictures())  # as a search does
    assert not any("still" in str(one.message) for one in warned)


def test_unchanged_buffer_that_is_too_large_to_copy_causes_no_warning() -> None:
    module = nn.Sequential(Large(writes=False), nn.Conv2d(3, 2, 1)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped(module).record(pictures(), "1")
    assert all(part.training for part in module.modules())


# Lazy modules


def lazy_networks() -> dict[str, nn.Module]:
    return {
        "convolution": nn.Sequential(nn.LazyConv2d(8, 3)),
        "batch norm": nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.ReLU()),
        "lazy buffers only": nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(affine=False)),
        "last layer": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5)),
        "nested": nn.Sequential(nn.Sequential(nn.Identity(), nn.ModuleDict({"a": nn.LazyConv2d(2, 1)})["a"])),
        "transposed convolution": nn.LazyConvTranspose2d(3, 2),
    }


@pytest.mark.parametrize("which", lazy_networks())
@pytest.mark.parametrize("training", [True, False])
def test_lazy_module_raises_and_stays_lazy(which: str, training: bool) -> None:
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
def test_lazy_module_can_be_recorded_after_it_has_run(which: str) -> None:
    module = lazy_networks()[which]
    net = wrapped(module)
    assert "not initialised" in repr(net)
    module(pictures(2))
    count = sum(number.numel() for number in module.parameters())
    assert f"{count:,} parameters" in repr(net)
    with left_as_it_was(module):
        assert net.record(pictures(), "output").activations("output").shape[1:] == net.layers.last.shape


# Projections of networks that change their weights while they run


class SelfChanging(nn.Module):
    """Base class of modules that overwrite a tensor of their own in the forward pass.

    `before`: overwrite it before it is used, otherwise after. `apart`: compute with a copy, because autograd
    does not copy the tensors that it saves. No signal flows through the new values to the image.
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


class Scaled(SelfChanging):
    """Product with a buffer that is overwritten in place."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.register_buffer("scale", torch.linspace(0.5, 2, CHANNELS, dtype=torch.float64)[:, None, None])

    def change(self, x: Tensor) -> None:
        self.scale.mul_(-1.5)

    def compute(self, x: Tensor) -> Tensor:
        return x * self.own(self.scale)


class ScaledBy(Scaled):
    """Product with a buffer that is replaced by another tensor."""

    def change(self, x: Tensor) -> None:
        self.scale = self.scale + float(x.abs().mean())


class Divided(Scaled):
    """Division by a buffer that depends on the images."""

    def change(self, x: Tensor) -> None:
        self.scale[...] = 0.5 * self.scale + float(x.abs().amax())

    def compute(self, x: Tensor) -> Tensor:
        return x / self.own(self.scale)


class Convolved(SelfChanging):
    """Convolution with a kernel that is a buffer."""

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
    """Convolution with a weight that is clamped through `.data`."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        kernel = self.kernel
        del self.kernel
        self.kernel = nn.Parameter(kernel)

    def change(self, x: Tensor) -> None:
        self.kernel.data.clamp_(-0.3, 0.2)


class Exchanged(Clamped):
    """Convolution with a weight whose `.data` is replaced."""

    def change(self, x: Tensor) -> None:
        self.kernel.data = self.kernel.data.flip(0)


class Statistics(SelfChanging):
    """Batch norm that updates its running statistics and normalises by them."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.norm = nn.BatchNorm2d(CHANNELS).double()

    def change(self, x: Tensor) -> None:
        self.norm.running_mean.copy_(torch.tensor(x.mean((0, 2, 3)).tolist()))  # type: ignore[union-attr]
        self.norm.running_var.mul_(3).add_(float(x.var()))  # type: ignore[union-attr, operator]

    def compute(self, x: Tensor) -> Tensor:
        mean, variance = self.own(self.norm.running_mean), self.own(self.norm.running_var)  # type: ignore[arg-type]
        return F.batch_norm(x, mean, variance, self.norm.weight, self.norm.bias, training=False)


class Listed(SelfChanging):
    """Product with a plain tensor in a list."""

    def __init__(self, *when: bool) -> None:
        super().__init__(*when)
        self.gains = [torch.linspace(1, 2, 8, dtype=torch.float64)]

    def change(self, x: Tensor) -> None:
        self.gains[0].neg_().sub_(1)
        self.gains.append(torch.tensor(float(x.mean())))

    def compute(self, x: Tensor) -> Tensor:
        return x * self.own(self.gains[0])


class Mixed(SelfChanging):
    """Product with a linear function of the channel means."""

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
def test_projection_of_a_network_that_changes_itself_equals_autograd(kind: Any, before: bool) -> None:
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
