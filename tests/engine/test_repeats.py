"""A recording that uses steps of the last one again equals a recording of a new copy of the network."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvviz.engine.recorder import record_tape
from deconvviz.engine.tape import Tape


class Blocks(nn.Module):
    """Convolutions, ReLUs, a sum, a concatenation and a pool; its attributes change the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last, self.pool, self.relu = nn.Conv2d(12, 4, 1), nn.MaxPool2d(2), nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(6)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.factor, self.shift, self.extra = 1, torch.tensor(3.0), ""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        y = self.norm(self.second(x))
        if self.extra == "batch":
            y = F.batch_norm(y, None, None, training=True)
        if self.extra == "update":
            F.batch_norm(y.detach(), self.norm.running_mean, self.norm.running_var, training=True)
            y = self.norm(y)
        if self.extra == "relu":
            y = F.relu(y)
        if self.extra == "write":
            self.first.weight.data.mul_(1.5)
        if self.extra == "gate":
            y = F.relu6(y + self.shift)
        if self.extra == "view":
            y = y.clone()
            y[:, 1:].mul_(2.0)
        y = torch.add(y, x, alpha=self.factor) if self.factor != 1 else y + x
        maps = [y, x] if x.mean() > 0.3 else [x, y]
        return self.relu(self.pool(self.last(torch.cat(maps, 1))))


def _images(batch: int = 1, side: int = 8, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(batch + side))


def _tape(net: nn.Module, images: Tensor) -> Tape:
    return record_tape(net, images, lambda out, tensor: True)


def _contents(tape: Tape) -> list[Any]:
    """Return everything on a tape as plain numbers and text."""
    steps = [
        (
            str(step.op),
            step.module,
            step.arguments,
            step.inputs,
            step.output,
            step.no_rule_reason,
            step.verdict,
        )
        for step in tape.steps
    ]
    rules = [
        (
            type(step.rule).__name__,
            [constant.tolist() for constant in getattr(step.rule, "constants", ())],
            getattr(step.rule, "switches", torch.empty(0)).tolist(),
            {name: str(value) for name, value in vars(step.rule).items() if not name.startswith("_")}
            if step.rule is not None
            else {},
        )
        for step in tape.steps
    ]
    return [steps, rules, tape.layouts, tape.outputs, tape.signal_values, tape.secondary_outputs]


def _extra(name: str) -> Callable[[Blocks], None]:
    return lambda net: setattr(net, "extra", name)


def _new_kernel(net: Blocks) -> None:
    """Give a parameter another shape without replacing it; the output has the same shape as before."""
    net.second.weight.data, net.second.padding = torch.ones(6, 6, 1, 1), (0, 0)


CHANGES: dict[str, Callable[[Blocks], None]] = {
    "nothing": lambda net: None,
    "a new parameter": lambda net: setattr(net.first, "weight", nn.Parameter(torch.ones(6, 3, 3, 3))),
    "other numbers in a parameter": lambda net: net.first.weight.data.fill_(0.5),
    "another kernel size": _new_kernel,
    "no bias": lambda net: setattr(net.second, "bias", None),
    "another factor of a sum": lambda net: setattr(net, "factor", 2),
    "one call more": _extra("relu"),
    "a weight that is overwritten": _extra("write"),
    "statistics of the batch": _extra("batch"),
    "statistics that are updated": _extra("update"),
    "a new buffer": lambda net: setattr(net.norm, "running_var", torch.full((6,), 3.0)),
    "other numbers in a buffer": lambda net: net.norm.running_var.fill_(0.5),
    "another epsilon": lambda net: setattr(net.norm, "eps", 0.5),
    "a batch norm without scale": lambda net: setattr(net, "norm", nn.BatchNorm2d(6, affine=False).eval()),
    "a gate": _extra("gate"),
    "a map that is overwritten through a view": _extra("view"),
    "a renamed module": lambda net: (
        setattr(net, "other", net._modules.pop("relu")) or setattr(net, "relu", F.relu)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_recording_after_a_change_equals_that_of_a_new_copy(change: str) -> None:
    torch.manual_seed(0)
    net = Blocks().eval()
    _tape(net, _images())
    CHANGES[change](net)
    for _ in range(2):  # the second time, the changed calls are repeated
        assert _contents(_tape(net, _images())) == _contents(_tape(copy.deepcopy(net), _images()))
    net.extra, net.shift = "gate", torch.tensor(0.0)  # with this constant it is an activation function
    assert _contents(_tape(net, _images())) == _contents(_tape(copy.deepcopy(net), _images()))


def test_recording_of_other_images_equals_that_of_a_new_copy() -> None:
    """Other sizes, other batches, and other calls for some images."""
    torch.manual_seed(0)
    net = Blocks().eval()
    for batch, side, scale in ((1, 8, 1.0), (1, 8, 4.0), (1, 8, 0.1), (2, 8, 1.0), (2, 12, 1.0), (1, 8, 1.0)):
        images = _images(batch, side, scale)
        assert _contents(_tape(net, images)) == _contents(_tape(copy.deepcopy(net), images))


def test_only_steps_that_do_not_depend_on_the_image_are_used_again() -> None:
    net = Blocks().eval()
    first, second = _tape(net, _images()), _tape(net, 1.001 * _images())
    again = [str(step.op) for step, earlier in zip(second.steps, first.steps, strict=True) if step is earlier]
    assert again == [
        "aten.convolution.default", "aten.relu_.default", "aten.convolution.default",
        "aten.native_batch_norm.default", "aten.add.Tensor", "aten.cat.default", "aten.convolution.default",
        "aten.relu_.default",
    ]  # fmt: skip


def test_copy_of_a_layer_that_is_made_while_recording_is_recorded() -> None:
    """A copy has the hooks of the recording, too."""

    class Copying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return copy.deepcopy(self.layer)(self.layer(x))

    tape = _tape(Copying().eval(), _images())
    assert [out.name for out in tape.outputs] == ["layer", "layer:2", ""]


def test_recording_leaves_nothing_to_the_garbage_collector() -> None:
    """A reference cycle would keep maps in memory until the next collection."""
    net, seen = Blocks().eval(), []
    _tape(net, _images())
    gc.collect()
    gc.disable()
    try:
        tape = record_tape(net, _images(), lambda out, tensor: seen.append(weakref.ref(tensor)) or True)
        del tape
        assert gc.collect() == 0
        assert seen and all(reference() is None for reference in seen)
    finally:
        gc.enable()
