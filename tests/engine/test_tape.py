"""What a recording keeps, where it stops, and how it notices that it is out of date."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from helpers import passes
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

import deconvviz as dv
from deconvviz.engine import receptive_fields
from deconvviz.engine import recorder as forward
from deconvviz.engine.units import Unit
from deconvviz.errors import StaleRecording


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    ).eval()


PICTURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_calls_and_where_they_stand() -> None:
    written = passes.run(_net(), PICTURES).tape
    assert [(str(step.op), step.module) for step in written.steps] == [
        ("aten.convolution.default", "0"),
        ("aten.native_batch_norm.default", "1"),
        ("aten.relu_.default", "2"),
        ("aten.max_pool2d_with_indices.default", "3"),
        ("aten.convolution.default", "4"),
        ("aten.relu.default", "5"),
        ("aten.view.default", "6"),
        ("aten.addmm.default", "7"),
    ]
    assert repr(written) == "<Tape of 8 calls, 9 module outputs>"
    assert repr(written.steps[0]) == "<Step aten.convolution.default in 0: (0, None, None) -> 1>"


class Unreachable(nn.Module):
    armed = True

    def forward(self, x: Tensor) -> Tensor:
        if self.armed:
            raise AssertionError("the network was not stopped")
        return x


def test_it_stops_at_the_deepest_layer_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*_net()[:4], Unreachable())
    ours = passes.run(net, PICTURES, deepest="3")
    assert list(ours.said) == ["0", "1", "2", "3"]
    network = dv.Network(net, size=8)
    with monkeypatch.context() as unarmed:
        unarmed.setattr(Unreachable, "armed", False)
        assert [layer.dotted for layer in network.layers] == ["0", "1", "2", "3", "4", ""]
    assert network.record(PICTURES, ["1", "3"]).activations("3").shape == (2, 8, 4, 4)


def test_what_it_keeps_of_vgg19() -> None:
    """A byte for each unit of each pool, the picture, the activations asked for; weights by reference."""
    module = torchvision.models.vgg19(init_weights=False)
    rec = dv.Network(module, name="vgg19").record(torch.randn(1, 3, 64, 64), layers=["conv5_1", "conv3_2"])
    weights = {number.untyped_storage().data_ptr() for number in module.parameters()}
    kept = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in _tensors_of(rec, hands_off=module)
        if t.untyped_storage().data_ptr() not in weights
    }
    pools = sum(channels * (64 // side) ** 2 for channels, side in ((64, 2), (128, 4), (256, 8), (512, 16)))
    asked = 4 * 512 * 4 * 4 + 4 * 256 * 16 * 16
    assert sum(kept.values()) == 4 * 3 * 64 * 64 + asked + pools


def _tensors_of(root: Any, hands_off: Any) -> list[Tensor]:
    """Every tensor that can be reached from an object through containers and objects of deconvviz."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or one is hands_off:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += one
        elif type(one).__module__.startswith("deconvviz"):
            waiting += gc.get_referents(one)
    return found


def test_activations_are_let_go_while_the_network_runs() -> None:
    """Of a chain, never more than the maps that the bare network holds at that moment."""
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(12))).eval()
    alive: list[StorageWeakRef] = []
    counts: list[int] = []

    def count(part: nn.Module, args: Any, output: Tensor) -> None:
        alive.append(StorageWeakRef(output.untyped_storage()))
        counts.append(sum(not one.expired() for one in alive))

    for part in net:
        part.register_forward_hook(count)
    written = forward.record_tape(net, PICTURES, lambda out, tensor: True)
    assert max(counts) == 2  # what goes into a layer and what comes out of it
    assert all(one.expired() for one in alive)
    assert len(written.steps) == 12


def test_a_tape_keeps_no_module_alive() -> None:
    net = _net()
    ours = passes.run(net, PICTURES)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert bool(ours.units("7", [Unit(1, 2)])[0].any())


def _step_of_training(net: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(PICTURES).sum().backward()
    optimizer.step()


@torch.no_grad()
def _edit(net: nn.Sequential) -> None:
    net[4].weight[0, 0, 0, 0] = 7  # type: ignore[index, operator]


@torch.no_grad()
def _statistics(net: nn.Sequential) -> None:
    net[1].running_var.mul_(2)  # type: ignore[operator, union-attr]


CHANGES: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "a step of training": (_step_of_training, "(8, 3, 3, 3)"),
    "other weights": (lambda net: net.load_state_dict(_net().state_dict()), "(8, 3, 3, 3)"),
    "one number": (_edit, "(8, 8, 3, 3)"),
    "batch statistics": (_statistics, "(8,)"),
    "behind the version counter": (lambda net: net[4].weight.data.mul_(2), "(8, 8, 3, 3)"),
    "half": (lambda net: net.half(), "(8, 3, 3, 3)"),
    "double": (lambda net: net.double(), "(8, 3, 3, 3)"),
}


@pytest.mark.parametrize(("change", "shape"), CHANGES.values(), ids=CHANGES.keys())
def test_it_is_stale_once_a_weight_has_changed(change: Callable[[nn.Sequential], Any], shape: str) -> None:
    net = _net()
    ours = passes.run(net, PICTURES)
    before = ours.units("4", [Unit(0, 0, 1, 1)])[0]
    assert torch.equal(ours.units("4", [Unit(0, 0, 1, 1)])[0], before)  # still good
    change(net)
    with pytest.raises(StaleRecording) as stale:
        ours.units("4", [Unit(0, 0, 1, 1)])
    assert str(stale.value) == (
        f"a weight of shape {shape} has changed since the forward pass was recorded; record it again"
    )
    again = passes.run(net.float(), PICTURES)
    assert bool(again.units("4", [Unit(0, 0, 1, 1)])[0].any())


def test_what_does_not_touch_the_weights_leaves_it_good() -> None:
    net = _net()
    ours = passes.run(net, PICTURES)
    want = ours.units("4", [Unit(0, 0, 1, 1)])[0]
    net(PICTURES).sum().backward()
    net.train()
    net.requires_grad_(False)
    net[7] = nn.Linear(8 * 16, 3)
    net[0].weight = nn.Parameter(torch.zeros_like(net[0].weight))  # type: ignore[arg-type]
    assert torch.equal(ours.units("4", [Unit(0, 0, 1, 1)])[0], want)  # of the weight that was recorded


def test_a_weight_changed_inside_the_forward_pass() -> None:
    """A weight that is made anew in each pass is a constant; the recording holds on to it."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    net = nn.Sequential(Standardised(3, 4, 3)).double()
    ours = passes.run(net, PICTURES.double())
    pixels, _ = ours.units("0", [Unit(0, 1, 2, 2)])
    weight = net[0].weight - net[0].weight.mean((1, 2, 3), keepdim=True)  # type: ignore[union-attr, operator]
    said = ours.said["0"][0, 1, 2, 2]
    torch.testing.assert_close(pixels[0, :, 2:5, 2:5], (weight[1] * said).detach(), rtol=0, atol=1e-14)


def test_the_name_of_an_output_counts_the_calls_of_its_module() -> None:
    relu = nn.ReLU()
    tape = passes.run(nn.Sequential(relu, nn.Conv2d(3, 3, 1), relu), PICTURES).tape
    assert [out.name for out in tape.outputs] == ["0", "1", "0:2", ""]


def test_projections_and_boxes_trace_what_units_see_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    real = receptive_fields._visibility

    def counted(steps: Any, layouts: Any, value: int, seen: Any) -> Any:
        traced.append(value)
        return real(steps, layouts, value, seen)

    monkeypatch.setattr(receptive_fields, "_visibility", counted)
    rec = dv.Network(_net()[:6], size=8).record(PICTURES, ["4"])
    proj = rec.project("4", [Unit(0, 1, 2, 2), Unit(1, 3, 0, 0)])
    assert len(traced) == 1
    assert list(proj.boxes) == rec.boxes("4", proj.units) and len(traced) == 2
