"""`check_rule` and the guide "Write a rule": correct rules pass, and each kind of mistake raises."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules import PeriodicIntervals, SlidingWindow
from deconvviz.engine.rules import registry as rule_registry
from deconvviz.errors import RuleError

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "how-to" / "write-a-rule.md"

aten = torch.ops.aten
GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(2, 4, 9, 8, generator=GENERATOR)
Y = torch.randn(2, 4, 9, 8, generator=GENERATOR)
WEIGHT = nn.Parameter(torch.randn(6, 4, 3, 3, generator=GENERATOR))
UP = nn.Parameter(torch.randn(4, 5, 3, 3, generator=GENERATOR))
CHANNELS = [nn.Parameter(torch.rand(4, generator=GENERATOR) + 0.5) for _ in range(4)]


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the rules that a test registers."""
    monkeypatch.setattr(rule_registry, "_registry", dict(rule_registry._registry))


EXACT: dict[str, tuple[Any, list[Any], tuple[str, ...]]] = {
    "convolution": (
        aten.convolution.default, [X, WEIGHT, None, [2, 1], [1, 0], [1, 2], False, [0, 0], 1], ("input",),
    ),
    "transposed convolution": (
        aten.convolution.default, [X, UP, None, [2, 2], [1, 1], [1, 1], True, [1, 0], 1], ("input",),
    ),
    "average pooling": (aten.avg_pool2d.default, [X, [3, 3], [2, 2], [1, 1]], ("self",)),
    "max pooling": (aten.max_pool2d_with_indices.default, [X, [3, 3], [2, 2], [1, 1]], ("self",)),
    "batch norm": (aten.native_batch_norm.default, [X, *CHANNELS, False, 0.1, 1e-5], ("input",)),
    "sum": (aten.add.Tensor, [X, Y], ("self", "other")),
    "in-place sum": (aten.add_.Tensor, [X, Y], ("self", "other")),
    "sum with a broadcast map": (aten.add.Tensor, [X, Y[:, :, :1, :1]], ("self", "other")),
    "concatenated channels": (aten.cat.default, [[X, Y], 1], ("tensors[0]", "tensors[1]")),
    "concatenated rows": (aten.cat.default, [[X, Y], 2], ("tensors[0]", "tensors[1]")),
    "mean": (aten.mean.dim, [X, [2, 3]], ("self",)),
    "bilinear": (aten.upsample_bilinear2d.default, [X, [18, 13], False], ("self",)),
    "channels last": (aten.permute.default, [X, [0, 2, 3, 1]], ("self",)),
    "flattened": (aten.view.default, [X, [2, 288]], ("self",)),
    "folded into the batch": (aten.view.default, [X, [8, 9, 8]], ("self",)),
    "every other column": (aten.slice.Tensor, [X, 3, 1, 7, 2], ("self",)),
    "split": (aten.split.Tensor, [X, 3, 2], ("self",)),
    "reflected border": (aten.reflection_pad2d.default, [X, [1, 2, 0, 1]], ("self",)),
    "fully connected": (
        aten.addmm.default,
        [CHANNELS[0], X[:, 0, 0], nn.Parameter(torch.randn(8, 4, generator=GENERATOR))],
        ("mat1",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_exact_rule_equals_the_vector_jacobian_product(name: str) -> None:
    op, inputs, argument_names = EXACT[name]
    found = dv.check_rule(op, inputs)
    assert found.support is dv.Support.EXACT and not found.by_design
    assert found.inputs == argument_names
    assert found.largest_difference < 1e-14
    assert (found.windows == 0) == (name in ("mean", "flattened", "fully connected"))


APPROXIMATE: dict[str, tuple[Any, list[Any], dv.Support]] = {
    "relu": (aten.relu.default, [X], dv.Support.EXACT),
    "in-place relu": (aten.relu_.default, [X], dv.Support.EXACT),
    "silu": (aten.silu.default, [X], dv.Support.APPROXIMATE),
    "product of branches": (aten.mul.Tensor, [X, Y], dv.Support.APPROXIMATE),
    "layer norm": (aten.native_layer_norm.default, [X, [8], None, None, 1e-5], dv.Support.APPROXIMATE),
}


@pytest.mark.parametrize("name", APPROXIMATE)
def test_rule_that_differs_by_design_is_compared_with_itself(name: str) -> None:
    op, inputs, support = APPROXIMATE[name]
    found = dv.check_rule(op, inputs)
    assert found.by_design and found.support is support and found.windows > 0
    assert "differs from the vector-Jacobian product by design" in repr(found)


def test_repr_of_the_result_is_one_line() -> None:
    assert re.fullmatch(
        r"<RuleCheck of aten\.avg_pool2d\.default: exact, projects to self; full size and 12 windows within "
        r"\d\.\de[-+]\d\d of the vector-Jacobian product>",
        repr(dv.check_rule(aten.avg_pool2d.default, [X, [2, 2]])),
    )
    gate = dv.check_rule(aten.sigmoid.default, [X])
    assert gate.inputs == () and "projects to no input" in repr(gate)


def test_options_are_passed_to_the_operation() -> None:
    assert dv.check_rule(aten.add.Tensor, [X, Y], alpha=3).largest_difference < 1e-14


def _registered(op: Any, **body: Any) -> None:
    dv.rule(op)(type("Own", (dv.Rule,), body))


def _init_dim(self: Any, call: dv.Call) -> None:
    self.dim = call["dim"]


def _init_slope(self: Any, call: dv.Call) -> None:
    self.slope = call["self"].cos()


def _project(change: Callable[[Any, Tensor], Sequence[Tensor | None]]) -> Callable[..., Any]:
    return lambda self, signal, window, input_windows: change(self, signal)


def _reversed_cumsum(self: Any, signal: Tensor) -> list[Tensor]:
    return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]


def test_correct_rule_passes() -> None:
    _registered(aten.cumsum.default, __init__=_init_dim, project=_project(_reversed_cumsum))
    for dim in (1, 2, 3):
        assert dv.check_rule(aten.cumsum.default, [X, dim]).largest_difference < 1e-14


def test_rule_of_the_example_script_passes(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "own_rule.py"))
    assert "after:" in capsys.readouterr().out
    assert dv.check_rule(aten.cumsum.default, [X, 3]).largest_difference < 1e-14


WRONG: dict[str, tuple[Any, list[Any], dict[str, Any], str]] = {
    "wrong values": (
        aten.cumsum.default, [X, 3],
        {"__init__": _init_dim, "project": _project(lambda self, x: [x.cumsum(self.dim)])},
        r"^aten\.cumsum\.default, at full size: the rule gives \S+ for input 'self' at position "
        r"\(\d, \d, \d\) of image [01], but the vector-Jacobian product gives \S+$",
    ),
    "wrong values for one of two inputs": (
        aten.hypot.default, [X, Y],
        {
            "__init__": lambda self, call: setattr(self, "unit", call["self"] / call.output),
            "project": lambda self, x, window, into: [x * window.cut(self.unit), x],
        },
        r"for input 'other' at position",
    ),
    "wrong number of signals": (
        aten.hypot.default, [X, Y], {"project": _project(lambda self, x: [x])},
        r"^aten\.hypot\.default, at full size: project failed with ValueError: ",
    ),
    "wrong shape": (
        aten.cumsum.default, [X, 3], {"project": _project(lambda self, x: [x[:, :2]])},
        r"returned a signal of shape \(2, 2, 9, 8\) for input 'self', whose window has shape \(2, 4, 9, 8\)",
    ),
    "exception in project": (
        aten.cumsum.default, [X, 3], {"project": _project(lambda self, x: [self.missing])},
        r"project failed with AttributeError: ",
    ),
    "windows for an operation that needs whole maps": (
        aten.cumsum.default, [X, 3],
        {"__init__": _init_dim, "supports_windows": True, "project": _project(_reversed_cumsum)},
        r"^aten\.cumsum\.default, in windows: column 0 of input 'self' affects the output, but visible_inputs"
        r".* excludes it \(for a signal in rows 8 to 8 and columns 7 to 7\)$",
    ),
    "windows treated as whole maps": (
        aten.sin.default, [X],
        {
            "__init__": _init_slope, "supports_windows": True,
            "project": lambda self, x, window, into: [x * self.slope[window.image_indices]],
        },
        r"in windows: project returned a signal of shape \(6, 4, 9, 8\) for .* has shape \(6, 4, 1, 1\)$",
    ),
    "wrong index map": (
        aten.sin.default, [X],
        {
            "__init__": _init_slope, "supports_windows": True,
            "project": lambda self, x, window, into: [x * window.cut(self.slope)],
            "index_map": lambda self, argument, axis: PeriodicIntervals(((1, 2),), 1),
        },
        r"row 0 of the output depends on row 0 of input 'self' according to visible_inputs, but only on "
        r"1 to 1 according to index_map",
    ),
    "approximate rule that does not scale": (
        aten.sin.default, [X],
        {
            "support": dv.Support.APPROXIMATE, "note": "wrong",
            "project": _project(lambda self, x: [x.clamp(-0.5, 0.5)]),
        },
        r"twice the signal gives \S+ for input 'self' at position .*, but twice the projection gives -?\S+$",
    ),
    "approximate rule that differs in windows": (
        aten.sin.default, [X],
        {
            "support": dv.Support.APPROXIMATE, "note": "wrong", "supports_windows": True,
            "project": _project(lambda self, x: [x * x.shape[3]]),
        },
        r"in windows: the rule gives .*, but its projection at full size gives .* \(for a signal in rows",
    ),
    "signal that is not new": (
        aten.erf.default, [X], {"returns_new": True, "project": _project(lambda self, x: [x.neg_()])},
        r"states returns_new, but returns the memory of the signal$",
    ),
    "memory of the rule that is not new": (
        aten.cumsum.default, [X, 3],
        {
            "__init__": lambda self, call: (
                _init_dim(self, call) or setattr(self, "room", call["self"].clone())
            ),
            "returns_new": True,
            "project": _project(lambda self, x: [self.room.add_(x)]),
        },
        r"the rule gives nan",
    ),
    "overwritten signal with other values": (
        aten.cumsum.default, [X, 3],
        {
            "__init__": _init_dim, "project": _project(_reversed_cumsum),
            "project_over": _project(lambda self, x: [x.mul_(2)]),
        },
        r"^aten\.cumsum\.default, at full size: the rule gives",
    ),
    "unsupported call": (
        aten.sin.default, [X], {"unsupported": lambda self: "it is a sine"},
        r"^aten\.sin\.default does not support this call: it is a sine$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_raises(name: str) -> None:
    op, inputs, body, message = WRONG[name]
    _registered(op, **body)
    with pytest.raises(RuleError, match=message):
        dv.check_rule(op, inputs)


def test_visible_inputs_that_exclude_an_input_raise() -> None:
    _registered(
        aten.cumsum.default,
        __init__=_init_dim,
        project=_project(_reversed_cumsum),
        visible_inputs=lambda self, argument, axis, n_out, n_in: SlidingWindow(2, 1, 1).visible_inputs(
            n_out, n_in
        ),
    )
    with pytest.raises(RuleError, match="affects the output, but visible_inputs"):
        dv.check_rule(aten.cumsum.default, [X, 3])


def test_check_rule_raises_for_an_operation_that_cannot_be_checked() -> None:
    with pytest.raises(
        RuleError, match=r"^aten\.sin\.default has no rule; register a rule with deconvviz\.rule\("
    ):
        dv.check_rule(aten.sin.default, [X])
    with pytest.raises(RuleError, match="no floating-point tensor that a signal could flow into"):
        dv.check_rule(aten.relu.default, [nn.Parameter(X)])
    _registered(aten.conv2d.default)
    with pytest.raises(RuleError, match=r"aten\.conv2d\.default is computed as aten\.convolution\.default"):
        dv.check_rule(aten.conv2d.default, [X, WEIGHT])


def test_check_rule_does_not_change_the_example_inputs() -> None:
    x, before = X.clone(), X.clone()
    dv.check_rule(aten.relu_.default, [x])
    assert torch.equal(x, before) and not x.requires_grad


def test_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    printed = []
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), namespace)
        printed.append(capsys.readouterr().out)
    coverage, _, right, wrong, windowed, approximate = printed
    assert "aten.cumsum.default x1: unsupported (it has no rule" in coverage
    assert "aten.cumsum.default: exact, projects to self; full size and 12 windows" in right
    assert "aten.cumsum.default, at full size: the rule gives" in wrong
    assert "aten.cumsum.default: exact, projects to self; full size and 12 windows" in windowed
    assert "aten.sin.default: approximate" in approximate


def test_guide_lists_every_method_and_flag_of_rule() -> None:
    table = GUIDE.read_text(encoding="utf-8").partition("## All methods and flags")[2]
    names = {name for name in vars(dv.Rule) if not name.startswith("_")}
    internal = {"of", "keep_copies", "is_gradient", "is_whole_gradient"}
    assert names - internal <= set(re.findall(r"`(\w+)", table))
