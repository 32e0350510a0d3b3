"""A rule that raises makes its own call unsupported. Layers below it can still be projected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.oracles import Autograd, difference
from helpers.snapshots import left_as_it_was, pictures, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules import registry as rule_registry
from deconvviz.errors import RefusedOp

CUMSUM = torch.ops.aten.cumsum.default
RELU = torch.ops.aten.relu.default
ADD = torch.ops.aten.add.Tensor


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the rules that a test registers."""
    monkeypatch.setattr(rule_registry, "_registry", dict(rule_registry._registry))


class Function(nn.Module):
    """Module that calls a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def under(function: Callable[[Tensor], Any]) -> nn.Sequential:
    """Return a network of two convolutions followed by a function."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), Function(function)
        ).eval()


def check_below(module: nn.Module, layers: tuple[str, ...] = ("0", "2", "3")) -> dv.Recording:
    """Check the layers, the coverage and the projections below the function; return a recording of them."""
    net, x = wrapped(module), pictures(2)
    with left_as_it_was(module):
        assert not any(net.layers[name].unsupported for name in layers)
        assert net.coverage(layers).unsupported == ()
        assert net.coverage().calls >= net.coverage(layers).calls
        rec = net.record(x, layers)
    oracle = Autograd(module[: int(layers[-1]) + 1].eval(), x)  # type: ignore[index]
    for layer in layers:
        proj = rec.project(layer, [*rec.strongest(layer, 2), dv.Unit(1, 3, 2, 2)])
        for ours, unit in zip(proj.pixels, proj.units, strict=True):
            assert unit.y is not None and unit.x is not None
            theirs = oracle.unit(layer, unit.image, unit.channel, unit.y, unit.x)
            assert difference(ours, theirs) < 1e-5
    return rec


def nested_rows(x: Tensor) -> Tensor:
    return torch.nested.nested_tensor([one.flatten() for one in x])


ABOVE: dict[str, Callable[[Tensor], Any]] = {
    "times i": lambda x: x * 1j,  # minimal reproduction of the reported bug
    "absolute value of x plus 2i": lambda x: (x + 2j).abs(),
    "imaginary power": lambda x: x.pow(1j).real,
    "cast to complex": lambda x: x.to(torch.complex64) - 1,
    "complex from real and imaginary part": lambda x: torch.complex(x, x.flip(1)).sum(1),
    "complex mean": lambda x: (x * 1j).mean((2, 3)),
    "joined with complex numbers": lambda x: torch.cat([x, x * 1j], 1),
    "Fourier transform": lambda x: torch.fft.rfft2(x).abs(),
    "phase": lambda x: torch.polar(x.abs(), x).angle(),
    "convolution of complex numbers": lambda x: torch.nn.functional.conv2d(
        x.to(torch.complex64), torch.ones(2, 5, 1, 1, dtype=torch.complex64)
    ),
    "sparse": lambda x: x.to_sparse(),
    "sparse product": lambda x: torch.sparse.mm(torch.eye(2).to_sparse(), x.flatten(1)),
    "sparse and dense again": lambda x: x.to_sparse().coalesce().to_dense(),
    "compressed rows": lambda x: x.flatten(1).to_sparse_csr().to_dense(),
    "nested": nested_rows,
    "nested, padded": lambda x: torch.nested.to_padded_tensor(nested_rows(x), 0.0),
    "nested, doubled": lambda x: nested_rows(x) * 2,
    "nested, with ragged rows": lambda x: torch.nested.nested_tensor([x[0].flatten(), x[0, 0].flatten()]),
    "list of numbers": lambda x: x.flatten(1).tolist(),
}


def with_two_images(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return a function that repeats a batch of one image, with which the layers are listed."""
    return lambda x: function(x if len(x) > 1 else x.expand(2, -1, -1, -1))


@pytest.mark.parametrize("what", ABOVE)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_layers_below_an_unrecordable_function_can_be_projected(what: str) -> None:
    function = ABOVE[what]
    check_below(under(with_two_images(function) if what == "sparse product" else function))


@pytest.mark.parametrize("what", ["times i", "imaginary power", "sparse", "nested", "complex mean"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_unrecordable_function_is_unsupported_or_a_constant(what: str) -> None:
    """Its layer is marked in the table, or cannot be projected."""
    module = under(ABOVE[what])
    net = wrapped(module)
    rows = [layer for layer in net.layers if layer.module == "4"]
    assert all(row.unsupported or row.is_constant for row in rows)
    if rows and rows[0].has_channels and not rows[0].is_constant:
        rec = net.record(pictures(2), "4")
        with pytest.raises(RefusedOp):
            rec.project("4", torch.zeros(rec.activations("4").shape))


class CustomError(Exception):
    """Exception class of the author of a rule."""


ERRORS = [
    TypeError("no"),
    ZeroDivisionError(),
    AssertionError(),
    KeyError("weight"),
    CustomError("cannot"),
    IndexError(),
]


def rule_that_raises(place: str, error: Exception) -> type[dv.Rule]:
    """Return a rule with one method that raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    def project(self: Any, signal: Tensor, window: Any, input_windows: Any) -> list[Tensor]:
        raise AssertionError("a rule that raises must not be used for projection")

    body: dict[str, Any] = {"project": project, place: classmethod(fail) if place == "of" else fail}
    return type("Raising", (dv.Rule,), body)


PLACES = ["__init__", "of", "output_layout", "flows", "unsupported"]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_rule_that_raises_makes_its_call_unsupported_and_states_the_error(
    place: str, error: Exception
) -> None:
    dv.rule(CUMSUM)(rule_that_raises(place, error))
    module = nn.Sequential(*under(lambda x: x.cumsum(1)), nn.Conv2d(5, 2, 1))
    check_below(module)
    net = wrapped(module)
    kind = type(error).__name__
    for layer in ("4", "5", "output"):
        assert (
            kind in net.layers[layer].unsupported and "aten.cumsum.default" in net.layers[layer].unsupported
        )
    (refused,) = net.coverage().unsupported
    assert refused.op == "aten.cumsum.default" and kind in refused.note and refused.modules == ("4",)
    rec = net.record(pictures(2), ["2", "5"])
    assert rec.coverage("2").unsupported == () and len(rec.coverage("5").unsupported) == 1
    with pytest.raises(RefusedOp, match=kind):
        rec.project("5", rec.strongest("5", 2))
    with pytest.raises(RefusedOp, match=kind):
        rec.boxes("5", [dv.Unit(0, 0, 1, 1)])
    with pytest.raises(RefusedOp, match=kind):
        dv.project(net, pictures(), "output", k=1)
    assert bool(rec.project("2", rec.strongest("2", 1)).pixels.any())


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("place", PLACES)
def test_rule_that_raises_for_an_in_place_call_makes_it_unsupported(place: str) -> None:
    """The rule replaces a built-in one."""
    dv.rule(torch.ops.aten.relu_.default)(rule_that_raises(place, CustomError("in-place")))
    module = nn.Sequential(*under(lambda x: x), nn.Conv2d(5, 3, 1), nn.ReLU(inplace=True))
    check_below(module, ("0", "2", "3"))
    rec = wrapped(module).record(pictures(2), ["3", "6"])
    with pytest.raises(RefusedOp, match="CustomError"):
        rec.project("6", rec.strongest("6", 1))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("place", PLACES)
def test_rule_that_raises_in_a_branch_does_not_affect_other_branches(place: str) -> None:
    """One branch can be projected, the sum of both cannot."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = (
                nn.Conv2d(3, 4, 3),
                nn.Conv2d(4, 4, 1),
                Function(lambda x: x.cumsum(1)),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            right: Tensor = self.right(x)
            left: Tensor = self.left(x)
            return left + right

    dv.rule(CUMSUM)(rule_that_raises(place, TypeError("no")))
    net = wrapped(Branching())
    assert {layer.name: bool(layer.unsupported) for layer in net.layers} == {
        "stem": False, "right": True, "left": False, "output": True,
    }  # fmt: skip
    rec = net.record(pictures(), ["left", "output"])
    assert bool(rec.project("left", rec.strongest("left", 1)).pixels.any())
    with pytest.raises(RefusedOp, match="TypeError"):
        rec.project("output", rec.strongest("output", 1))


@pytest.mark.usefixtures("registry")
def test_rule_that_raises_for_some_calls_makes_only_those_unsupported() -> None:
    """The rule raises for more than four channels."""

    @dv.rule(RELU)
    class Small(dv.Rule):
        def __init__(self, call: Any) -> None:
            if call.output.shape[1] > 4:
                raise ValueError("too many channels")

        def project(self, signal: Tensor, window: Any, input_windows: Any) -> list[Tensor]:
            return [signal.clamp(min=0)]

    module = under(lambda x: x)
    net = wrapped(module)
    assert not net.layers["1"].unsupported and "ValueError" in net.layers["3"].unsupported
    rec = net.record(pictures(), ["1", "3"])
    oracle = Autograd(module, rec.inputs)
    (unit,) = rec.strongest("1", 1)
    assert unit.y is not None and unit.x is not None
    (ours,) = rec.project("1", unit).pixels
    assert difference(ours, oracle.unit("1", 0, unit.channel, unit.y, unit.x)) < 1e-5
    with pytest.raises(RefusedOp, match=r"too many channels"):
        rec.project("3", rec.strongest("3", 1))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_rule_stops_the_recording(error: type[BaseException]) -> None:

    @dv.rule(ADD)
    class Interrupted(dv.Rule):
        def __init__(self, call: Any) -> None:
            raise error

    module = under(lambda x: x + x)
    with left_as_it_was(module), pytest.raises(error):
        _ = wrapped(module).layers
