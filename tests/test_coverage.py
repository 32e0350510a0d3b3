"""Coverage: which operations are exact, approximate or unsupported, and which take part in no projection."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.coverage import OpUse
from deconvviz.engine.rules import Support
from deconvviz.engine.rules import registry as rule_registry
from deconvviz.errors import LayerError, RefusedOp
from deconvviz.loading import sketch

EXACT, APPROXIMATE, UNSUPPORTED = Support.EXACT, Support.APPROXIMATE, Support.UNSUPPORTED
RECTIFIED = "the signal is rectified, as the paper does for ReLU"
CONSTANT = "treated as a constant at its recorded value"
GATED = "a product with a gate: the signal times the recorded value of the gate"


class Gate(nn.Module):
    """Squeeze-and-excitation block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.act = nn.Conv2d(channels, 2, 1), nn.SiLU()
        self.fc2, self.gate = nn.Conv2d(2, channels, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * (weights * 2)


class Own(nn.Module):
    """Convolution and ReLU, followed by a module of the test."""

    def __init__(self, then: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.then = nn.Conv2d(3, 4, 3), nn.ReLU(), then or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.then(self.relu(self.conv(x)))
        return y


class WithoutRule(nn.Module):
    """Operation without a rule, whose result is returned, used in a gate, or unused."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        strange = x.cumsum(2)
        if self.use == "returned":
            return strange
        return x * torch.sigmoid(strange) if self.use == "in a gate" else x.neg()


@pytest.fixture
def gated() -> dv.Network:
    return dv.Network(Own(Gate(4)), size=8, name="gated")


def test_coverage_lists_the_operations_of_an_exact_network_in_order() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    found = dv.Network(nn.Sequential(*layers), size=10, name="plain").coverage()
    assert found.uses == (
        OpUse("aten.convolution.default", EXACT, "", 2, ("0", "2")),
        OpUse("aten.relu.default", EXACT, "", 1, ("1",)),
        OpUse("aten.relu_.default", EXACT, "", 1, ("3",)),
        OpUse("aten.max_pool2d_with_indices.default", EXACT, "", 1, ("4",)),
    )
    assert (found.exact, found.approximate, found.unsupported) == (found.uses, (), ())
    assert (found.network, found.layers, found.calls, found.without_part) == ("plain", (), 5, 0)
    assert found.line() == "exact: all of 5 calls"
    assert repr(found) == "<Coverage of plain: 5 calls, 5 exact, 0 approximate, 0 unsupported>"


def test_coverage_of_a_gate_lists_its_sigmoid_and_its_product_as_approximate(gated: dv.Network) -> None:
    found = gated.coverage()
    assert found.approximate == (
        OpUse("aten.silu.default", APPROXIMATE, RECTIFIED, 1, ("then.act",)),
        OpUse("aten.sigmoid.default", APPROXIMATE, CONSTANT, 1, ("then.gate",)),
        OpUse("aten.mul.Tensor", APPROXIMATE, GATED, 1, ("then",)),
    )
    assert sum(use.count for use in found.exact) == 5  # three convolutions, a ReLU, a mean
    assert found.without_part == 1  # twice the gate: its input is a constant already
    assert found.line() == (
        f"approximate: 3 of 8 calls (silu x1: {RECTIFIED}; sigmoid x1: {CONSTANT}; "
        "mul x1: a product with a gate); see: net.coverage()"
    )


def test_coverage_of_a_layer_has_the_projection_path_and_its_constants(gated: dv.Network) -> None:
    found = gated.coverage("output")
    assert [(use.op, use.support) for use in found.uses] == [
        ("aten.convolution.default", EXACT),  # only the one outside the gate
        ("aten.relu.default", EXACT),
        ("aten.sigmoid.default", APPROXIMATE),
        ("aten.mul.Tensor", APPROXIMATE),
    ]
    assert found.uses[0].modules == ("conv",)
    assert repr(found) == (
        "<Coverage of gated, projections of output: 4 calls, 2 exact, 2 approximate, 0 unsupported>"
    )
    assert found.without_part == 5
    assert gated.coverage("relu").line() == "exact: all of 2 calls"
    assert [use.op for use in gated.coverage(["relu", "then.act"]).approximate] == ["aten.silu.default"]


def test_coverage_of_a_layer_that_is_a_constant(gated: dv.Network) -> None:
    assert gated.layers["then.gate"].is_constant
    found = gated.coverage("then.gate")
    assert found.uses == (OpUse("aten.sigmoid.default", APPROXIMATE, CONSTANT, 1, ("then.gate",)),)


def test_operation_on_constants_has_no_part_in_the_coverage_of_its_layer() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    net = dv.Network(Own(nn.Sequential(nn.Sigmoid(), Doubled())), size=8)
    found = net.coverage("then.1")
    assert [use.op for use in found.uses] == ["aten.sigmoid.default"]
    assert found.without_part == 3


@pytest.mark.parametrize(
    ("use", "unsupported"), [("returned", True), ("in a gate", False), ("unused", False)]
)
def test_operation_without_a_rule_is_unsupported_only_on_a_projection_path(
    use: str, unsupported: bool
) -> None:
    net = dv.Network(Own(WithoutRule(use)), size=8, name="odd")
    found = net.coverage()
    why = "it has no rule: deconvviz.rule(torch.ops.aten.cumsum.default) registers one"
    assert found.unsupported == (
        (OpUse("aten.cumsum.default", UNSUPPORTED, why, 1, ("then",)),) if unsupported else ()
    )
    rec = net.record(torch.randn(1, 3, 8, 8), "then")
    if unsupported:
        with pytest.raises(RefusedOp):
            rec.project("then")
        assert found.line() == ("unsupported: 1 of 3 calls (cumsum x1: it has no rule); see: net.coverage()")
    else:
        rec.project("then")


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 1)


class Divided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.nn.functional.softplus(x)


@pytest.mark.parametrize(("then", "op"), [(Masked(), "mul"), (Divided(), "div")])
def test_operation_that_only_computes_a_mask_or_divisor_has_no_part(then: nn.Module, op: str) -> None:
    """Masks and divisors receive no signal, so it does not matter how they were computed."""
    found = dv.Network(Own(then), size=8).coverage()
    assert [use.short for use in found.uses] == ["convolution", "relu", op]
    assert [use.short for use in found.approximate] == [op]
    assert found.without_part == 1


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v3_small", "own"])
def test_coverage_and_layer_table_agree_on_unsupported_layers(name: str) -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3), Exponential(), nn.Conv2d(4, 4, 3), nn.ReLU())
    net = dv.Network(own, size=16) if name == "own" else sketch(name)
    odd = [
        layer.name
        for layer in net.layers
        if bool(net.coverage(layer.name).unsupported) != bool(layer.unsupported)
        and "which is not a map of channels" not in layer.unsupported
    ]
    assert not odd
    assert any(layer.unsupported for layer in net.layers) == (name == "own")


def test_vgg_and_resnet_are_exact_and_efficientnet_is_approximate() -> None:
    assert sketch("vgg19").coverage().line() == "exact: all of 44 calls"
    assert sketch("resnet50").coverage().line() == "exact: all of 175 calls"
    found = sketch("efficientnet_b0").coverage("output")
    assert {(use.short, use.count, use.note) for use in found.approximate} == {
        ("silu", 33, RECTIFIED),
        ("sigmoid", 16, CONSTANT),
        ("mul", 16, GATED),
    }
    assert found.line().endswith("; see: deconvviz check efficientnet_b0 --layer output")


def test_same_operation_can_be_exact_in_one_place_and_approximate_in_another() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 3) * (x * 5)

    found = dv.Network(Own(Both()), size=8).coverage()
    products = [use for use in found.uses if use.short == "mul"]
    assert [(use.support, use.count) for use in products] == [(EXACT, 2), (APPROXIMATE, 1)]


def test_unsupported_call_is_listed_with_its_reason() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.roll(1, 0), x], 1)

    found = dv.Network(Own(Cut()), size=8).coverage()
    (use,) = found.unsupported
    assert (use.op, use.note) == ("aten.roll.default", "it reorders the images of a batch")


def test_coverage_uses_the_support_and_note_of_a_users_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_registry, "_registry", dict(rule_registry._registry))

    @dv.rule(torch.ops.aten.cumsum.default)
    class RunningSum(dv.Rule):
        support = APPROXIMATE
        note = "for a test: the signal stays where it is"

    found = dv.Network(Own(WithoutRule("returned")), size=8).coverage()
    assert found.approximate == (OpUse("aten.cumsum.default", APPROXIMATE, RunningSum.note, 1, ("then",)),)


class Branching(nn.Module):
    """Branches on whether the image is empty."""

    def forward(self, x: Tensor) -> Tensor:
        if not bool((x > 1).any()):
            return x.neg()
        return torch.nn.functional.silu(x) * torch.sigmoid(x)


def test_coverage_of_a_recording_has_the_calls_that_were_made() -> None:
    net = dv.Network(Own(Branching()), size=8, name="branching")
    assert net.coverage("then").line() == "exact: all of 3 calls"
    rec = net.record(100 * torch.randn(2, 3, 8, 8), "then")
    found = rec.coverage("then")
    assert [use.short for use in found.approximate] == ["silu", "sigmoid", "mul"]
    assert rec.project("then").coverage is found
    with pytest.raises(LayerError, match=r"^relu was not recorded: this recording has then$"):
        rec.coverage("relu")


def test_network_runs_once_for_its_layers_and_its_coverage() -> None:
    runs = []
    module = Own()
    module.register_forward_hook(lambda *_: runs.append(1))
    net = dv.Network(module, size=8)
    assert net.coverage("conv").calls == 1 and len(net.layers) == 4 and net.coverage().calls == 2
    assert runs == [1]


def test_survey_holds_no_tensor(gated: dv.Network) -> None:
    gated.coverage()
    rec = gated.record(torch.randn(1, 3, 8, 8), "output")
    for survey in (gated._sketch[1], rec._survey):
        reached = list(_reachable(survey))
        assert len(reached) > 50
        assert not [one for one in reached if isinstance(one, Tensor)]


def _reachable(start: object) -> Iterator[object]:
    seen, waiting = set[int](), [start]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType)) or callable(one):
            continue
        seen.add(id(one))
        yield one
        waiting += gc.get_referents(one)


def test_coverage_of_an_unknown_layer_raises() -> None:
    net = sketch("minivgg")
    with pytest.raises(LayerError) as raised:
        net.coverage("conv9")
    assert str(raised.value) == (
        "no layer 'conv9' in minivgg: nearest are conv1_2, conv2_2, conv3_2 "
        "(see: deconvviz layers --model minivgg)"
    )


def test_see_is_a_shell_command() -> None:
    assert sketch("minivgg").coverage(["conv1_1", "fc5"]).see == (
        "deconvviz check minivgg --layer conv1_1 --layer fc5"
    )
    pytest.importorskip("timm")
    see = sketch("timm:test_resnet", {"num_classes": 3}).coverage().see
    assert see == "deconvviz check timm:test_resnet --model-arg num_classes=3"


def test_text_and_html_of_a_coverage(gated: dv.Network) -> None:
    found = gated.coverage("output")
    assert str(found).splitlines() == [
        "aten.convolution.default x1: exact; in conv",
        "aten.relu.default x1: exact; in relu",
        f"aten.sigmoid.default x1: approximate ({CONSTANT}); in then.gate",
        f"aten.mul.Tensor x1: approximate ({GATED}); in then",
        "gated, projections of output: 4 calls, 2 exact, 2 approximate, 0 unsupported",
    ]
    html = found._repr_html_()
    assert html.startswith(
        "<p>gated, projections of output: 4 calls, 2 exact, 2 approximate, 0 unsupported</p><div"
    )
    assert html.count("<tr>") == 5
    assert "<td>aten.sigmoid.default</td><td>1</td><td>approximate</td><td>then.gate</td>" in html
    assert f"<td>{GATED}</td>" in html


def test_short_names_of_operations_and_modules() -> None:
    use = OpUse("aten.add_.Tensor", EXACT, "", 9, ("", "a", "b"))
    assert (use.short, use.where) == ("add", "(the network) and 2 more")
    assert OpUse("aten._softmax.default", EXACT, "", 1, ("a", "b")).where == "a, b"
    assert OpUse("aten._softmax.default", EXACT, "", 1, ("a",)).short == "_softmax"
    assert (
        OpUse("torchvision.roi_align.default", EXACT, "", 1, ("a",)).short == "torchvision.roi_align.default"
    )


def test_json_of_a_coverage(gated: dv.Network) -> None:
    stored = json.loads(json.dumps(gated.coverage("then.gate").to_json()))
    assert stored == {
        "network": "gated",
        "layers": ["then.gate"],
        "calls": 1,
        "exact": 0,
        "approximate": 1,
        "unsupported": 0,
        "by_analogy": 1,
        "refused": 0,
        "without_part": 8,
        "ops": [
            {
                "op": "aten.sigmoid.default",
                "verdict": "approximate",
                "how": CONSTANT,
                "count": 1,
                "modules": ["then.gate"],
            }
        ],
    }


def test_equal_networks_have_equal_coverage(gated: dv.Network) -> None:
    assert gated.coverage() == dv.Network(Own(Gate(4)), size=8, name="gated").coverage()
    assert gated.coverage() != gated.coverage("output")


def test_every_operation_of_maxvit_can_be_projected_for_one_image() -> None:
    """Its window attention reorders the batch axis, which is unambiguous for a batch of one."""
    assert sketch("maxvit_t").coverage().unsupported == ()
