"""The contents of a tape, where recording stops, and when a recording is stale."""

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
from deconvviz.engine import receptive_fields, recorder
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


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_tape_lists_the_calls_and_their_modules() -> None:
    written = passes.run(_net(), IMAGES).tape
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


def test_recording_stops_at_the_deepest_requested_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*_net()[:4], Unreachable())
    ours = passes.run(net, IMAGES, deepest="3")
    assert list(ours.outputs) == ["0", "1", "2", "3"]
    network = dv.Network(net, size=8)
    with monkeypatch.context() as unarmed:
        unarmed.setattr(Unreachable, "armed", False)
        assert [layer.module for layer in network.layers] == ["0", "1", "2", "3", "4", ""]
    assert network.record(IMAGES, ["1", "3"]).activations("3").shape == (2, 8, 4, 4)


@pytest.mark.slow
def test_recording_of_vgg19_stores_only_switches_image_and_requested_layers() -> None:
    """It stores one byte per unit of a max-pool, and references the weights."""
    module = torchvision.models.vgg19(init_weights=False)
    rec = dv.Network(module, name="vgg19").record(torch.randn(1, 3, 64, 64), layers=["conv5_1", "conv3_2"])
    weights = {number.untyped_storage().data_ptr() for number in module.parameters()}
    kept = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in _tensors_of(rec, excluded=module)
        if t.untyped_storage().data_ptr() not in weights
    }
    pools = sum(channels * (64 // side) ** 2 for channels, side in ((64, 2), (128, 4), (256, 8), (512, 16)))
    requested = 4 * 512 * 4 * 4 + 4 * 256 * 16 * 16
    assert sum(kept.values()) == 4 * 3 * 64 * 64 + requested + pools


def _tensors_of(root: Any, excluded: Any) -> list[Tensor]:
    """Return every tensor reachable from an object through containers and objects of deconvviz."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or one is excluded:
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


def test_recording_frees_activations_while_the_network_runs() -> None:
    """No more maps are alive than without recording: the input and the output of the current layer."""
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(12))).eval()
    alive: list[StorageWeakRef] = []
    counts: list[int] = []

    def count(part: nn.Module, args: Any, output: Tensor) -> None:
        alive.append(StorageWeakRef(output.untyped_storage()))
        counts.append(sum(not one.expired() for one in alive))

    for part in net:
        part.register_forward_hook(count)
    written = recorder.record_tape(net, IMAGES, lambda out, tensor: True)
    assert max(counts) == 2
    assert all(one.expired() for one in alive)
    assert len(written.steps) == 12


def test_tape_does_not_keep_modules_alive() -> None:
    net = _net()
    ours = passes.run(net, IMAGES)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert bool(ours.units("7", [Unit(1, 2)])[0].any())


def _train_one_step(net: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(IMAGES).sum().backward()
    optimizer.step()


@torch.no_grad()
def _set_one_weight(net: nn.Sequential) -> None:
    net[4].weight[0, 0, 0, 0] = 7  # type: ignore[index, operator]


@torch.no_grad()
def _scale_running_variance(net: nn.Sequential) -> None:
    net[1].running_var.mul_(2)  # type: ignore[operator, union-attr]


CHANGES: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "training step": (_train_one_step, "(8, 3, 3, 3)"),
    "other state dict": (lambda net: net.load_state_dict(_net().state_dict()), "(8, 3, 3, 3)"),
    "one weight": (_set_one_weight, "(8, 8, 3, 3)"),
    "running statistics": (_scale_running_variance, "(8,)"),
    "through .data": (lambda net: net[4].weight.data.mul_(2), "(8, 8, 3, 3)"),
    "half precision": (lambda net: net.half(), "(8, 3, 3, 3)"),
    "double precision": (lambda net: net.double(), "(8, 3, 3, 3)"),
}


@pytest.mark.parametrize(("change", "shape"), CHANGES.values(), ids=CHANGES.keys())
def test_recording_is_stale_after_a_weight_has_changed(
    change: Callable[[nn.Sequential], Any], shape: str
) -> None:
    net = _net()
    ours = passes.run(net, IMAGES)
    before = ours.units("4", [Unit(0, 0, 1, 1)])[0]
    assert torch.equal(ours.units("4", [Unit(0, 0, 1, 1)])[0], before)  # not stale yet
    change(net)
    with pytest.raises(StaleRecording) as stale:
        ours.units("4", [Unit(0, 0, 1, 1)])
    assert str(stale.value) == (
        f"a weight of shape {shape} has changed since the forward pass was recorded; record it again"
    )
    again = passes.run(net.float(), IMAGES)
    assert bool(again.units("4", [Unit(0, 0, 1, 1)])[0].any())


def test_recording_is_not_stale_if_its_weights_are_unchanged() -> None:
    net = _net()
    ours = passes.run(net, IMAGES)
    want = ours.units("4", [Unit(0, 0, 1, 1)])[0]
    net(IMAGES).sum().backward()
    net.train()
    net.requires_grad_(False)
    net[7] = nn.Linear(8 * 16, 3)
    net[0].weight = nn.Parameter(torch.zeros_like(net[0].weight))  # type: ignore[arg-type]
    assert torch.equal(ours.units("4", [Unit(0, 0, 1, 1)])[0], want)


def test_weight_computed_in_the_forward_pass_is_a_constant() -> None:
    """The recording stores a weight that is computed anew in each forward pass."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    net = nn.Sequential(Standardised(3, 4, 3)).double()
    ours = passes.run(net, IMAGES.double())
    pixels, _ = ours.units("0", [Unit(0, 1, 2, 2)])
    weight = net[0].weight - net[0].weight.mean((1, 2, 3), keepdim=True)  # type: ignore[union-attr, operator]
    activations = ours.outputs["0"][0, 1, 2, 2]
    torch.testing.assert_close(pixels[0, :, 2:5, 2:5], (weight[1] * activations).detach(), rtol=0, atol=1e-14)


def test_output_name_includes_the_call_number_of_its_module() -> None:
    relu = nn.ReLU()
    tape = passes.run(nn.Sequential(relu, nn.Conv2d(3, 3, 1), relu), IMAGES).tape
    assert [out.name for out in tape.outputs] == ["0", "1", "0:2", ""]


def test_receptive_fields_are_computed_once_for_projections_and_boxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced: list[int] = []
    real = receptive_fields._extent

    def counted(steps: Any, layouts: Any, value: int, own: Any) -> Any:
        traced.append(value)
        return real(steps, layouts, value, own)

    monkeypatch.setattr(receptive_fields, "_extent", counted)
    rec = dv.Network(_net()[:6], size=8).record(IMAGES, ["4"])
    proj = rec.project("4", [Unit(0, 1, 2, 2), Unit(1, 3, 0, 0)])
    assert len(traced) == 1
    assert list(proj.boxes) == rec.boxes("4", proj.units) and len(traced) == 1
