"""A module that is changed after it was wrapped: layers, classes and digest follow the change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.oracles import Autograd, difference
from helpers.snapshots import composed, pictures, wrapped
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError, UnitError
from deconvviz.images.preprocessing import Preprocessing


class Dilated(nn.Module):
    """Convolution whose dilation is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 5, 3, 3))
        self.dilation = 1

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, padding=self.dilation, dilation=self.dilation)


def convolutions() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, padding=1),
            Dilated(),
            nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(5, 3),
        ).eval()


def other_head(net: dv.Network) -> None:
    """Replace the head: the minimal reproduction of the reported bug."""
    net.module[5] = nn.Linear(5, 7)  # type: ignore[operator]


def added_module(net: dv.Network) -> None:
    net.module.append(nn.Linear(3, 9))  # type: ignore[operator]


def removed_module(net: dv.Network) -> None:
    del net.module[5]  # type: ignore[operator]


def replaced_submodule(net: dv.Network) -> None:
    net.module[4][0] = nn.MaxPool2d(4)  # type: ignore[index]


def replaced_by_sequential(net: dv.Network) -> None:
    net.module[1] = nn.Sequential(nn.BatchNorm2d(4), nn.SiLU()).eval()  # type: ignore[operator]


def stride(net: dv.Network) -> None:
    net.module[0].stride = (2, 2)  # type: ignore[index, union-attr]


def padding(net: dv.Network) -> None:
    net.module[2].padding = (0, 2)  # type: ignore[index, union-attr]


def pool(net: dv.Network) -> None:
    net.module[4][0].kernel_size = net.module[4][0].stride = 3  # type: ignore[index, union-attr]


def dilation(net: dv.Network) -> None:
    net.module[3].dilation = 2  # type: ignore[index, union-attr]


def kernel(net: dv.Network) -> None:
    net.module[3].weight = nn.Parameter(torch.randn(6, 5, 1, 5))  # type: ignore[index, union-attr]
    net.module[5] = nn.Linear(6, 3)  # type: ignore[operator]


def kernel_through_data(net: dv.Network) -> None:
    net.module[0].weight.data = torch.randn(4, 3, 5, 5)  # type: ignore[index, union-attr]


def other_activation(net: dv.Network) -> None:
    net.module[1] = nn.GELU()  # type: ignore[operator]


def renamed(net: dv.Network) -> None:
    parts = list(net.module.named_children())
    for name, _ in parts:
        delattr(net.module, name)
    for name, part in parts:
        net.module.add_module(f"part{name}", part)


def another_module(net: dv.Network) -> None:
    net.module = nn.Sequential(nn.Conv2d(3, 2, 5), nn.Flatten(), nn.LazyLinear(4))
    net.module(pictures(size=net.preprocessing.shape[1]))


def size(net: dv.Network) -> None:
    net.preprocessing = Preprocessing.simple((24, 20), (0, 0, 0), (1, 1, 1))


CHANGES: list[Callable[[dv.Network], None]] = [
    other_head,
    added_module,
    removed_module,
    replaced_submodule,
    replaced_by_sequential,
    stride,
    padding,
    pool,
    dilation,
    kernel,
    kernel_through_data,
    other_activation,
    renamed,
    another_module,
    size,
]


def fresh(net: dv.Network) -> dv.Network:
    """Return a new network with the same module and nothing cached."""
    return dv.Network(net.module, preprocessing=net.preprocessing, name=net.name)


@pytest.mark.parametrize("change", CHANGES)
def test_layers_after_a_change_equal_those_of_a_new_network(change: Callable[[dv.Network], None]) -> None:
    net = wrapped(convolutions(), size=16)
    before, operations = net.layers.to_json(), str(net.coverage())
    assert net.class_index(2) == 2
    change(net)
    want = fresh(net)
    assert net.layers.to_json() == want.layers.to_json()
    assert str(net.coverage()) == str(want.coverage())
    assert (net.layers.to_json(), str(net.coverage())) != (before, operations)
    last = want.layers.last.shape[0]
    assert net.class_index(last - 1) == last - 1
    with pytest.raises(UnitError, match=f"class numbers run from 0 to {last - 1}"):
        net.class_index(last)


@pytest.mark.parametrize("change", CHANGES)
def test_recording_after_a_change_equals_that_of_a_new_network(change: Callable[[dv.Network], None]) -> None:
    net = wrapped(convolutions(), size=16)
    net.record(pictures(size=16), "output")
    change(net)
    rows, columns = net.preprocessing.shape[1:]
    x = torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))
    want = fresh(net)
    layers = [layer.name for layer in want.layers if not layer.unsupported]
    ours, theirs = net.record(x, layers), want.record(x, layers)
    assert ours.layers == theirs.layers == tuple(want.layers)
    for layer in layers:
        assert torch.equal(ours.activations(layer), theirs.activations(layer))
        assert ours.activations(layer).shape[1:] == net.layers[layer].shape
        one, other = (rec.project(layer, rec.strongest(layer, 2)) for rec in (ours, theirs))
        assert torch.equal(one.pixels, other.pixels) and one.boxes == other.boxes


@pytest.mark.parametrize("change", [stride, dilation, other_head, padding])
def test_projection_after_a_change_equals_autograd(change: Callable[[dv.Network], None]) -> None:
    net = wrapped(convolutions(), size=16)
    assert net.layers
    change(net)
    x = pictures(2, size=16)
    rec, oracle = net.record(x, ["3", "output"]), Autograd(net.module, x)
    for layer, dotted in (("3", "3"), ("output", "")):
        proj = rec.project(layer, rec.strongest(layer, 2))
        for ours, unit in zip(proj.pixels, proj.units, strict=True):
            place = () if unit.y is None or unit.x is None else (unit.y, unit.x)
            assert difference(ours, oracle.unit(dotted, unit.image, unit.channel, *place)) < 1e-5


def test_class_unit_finds_classes_of_a_replaced_head() -> None:
    net = wrapped(convolutions(), size=16)
    with pytest.raises(UnitError):
        net.record(pictures(size=16), "output").class_unit(6)
    other_head(net)
    rec = net.record(pictures(size=16), "output")
    unit = rec.class_unit(6)
    assert unit.channel == 6 and rec.project("output", unit).pixels.shape == (1, 3, 16, 16)


def test_recording_a_removed_layer_raises() -> None:
    net = wrapped(convolutions(), size=16)
    assert "4.0" in net.layers and net.layers["4.0"].shape == (5, 8, 8)
    net.module[4] = nn.Flatten()  # type: ignore[operator]
    net.module[5] = nn.Linear(5 * 256, 2)  # type: ignore[operator]
    with pytest.raises(LayerError, match=r"no layer '4\.0'"):
        net.record(pictures(size=16), "4.0")


def test_layers_after_a_reverted_change_equal_the_original_ones() -> None:
    net = wrapped(convolutions(), size=16)
    before = net.layers.to_json()
    stride(net)
    assert net.layers.to_json() != before
    net.module[0].stride = (1, 1)  # type: ignore[index, union-attr]
    assert net.layers.to_json() == before


def test_replaced_module_with_the_same_shapes_has_its_new_kind() -> None:
    net = wrapped(convolutions(), size=16)
    assert net.layers["1"].kind == "ReLU"
    net.module[1] = nn.Hardswish()  # type: ignore[operator]
    assert net.layers["1"].kind == "Hardswish"
    assert [use.short for use in net.coverage("1").approximate] == ["hardswish"]


def test_unchanged_network_runs_once_for_its_layers() -> None:
    runs: list[int] = []
    module = convolutions()
    module[2].register_forward_hook(lambda *_: runs.append(1))
    net = wrapped(module, size=16)
    first = net.layers
    for _ in range(3):
        assert net.layers == first or net.layers.to_json() == first.to_json()
        net.coverage()
        net.class_index(0)
    assert len(runs) == 1


# The digest of the weights


def large() -> nn.Sequential:
    """Return a network with a weight of 20,000 numbers, more than a fingerprint samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 100, 50))


def scaled(module: Any) -> None:
    """Scale a weight in place: the minimal reproduction of the reported bug."""
    module[0].weight.data.mul_(2)


def first_number(module: Any) -> None:
    module[3].weight.data[0, 0] += 1


def last_number(module: Any) -> None:
    module[3].weight.data[-1, -1] += 1


def number_in_between(module: Any) -> None:
    module[3].weight.data.view(-1)[12_347] += 1e-3


def last_bit(module: Any) -> None:
    module[3].weight.data.view(torch.int32).view(-1)[7_001] ^= 1


def sign_of_zero(module: Any) -> None:
    module[1].bias.data[2] *= -1


def through_numpy(module: Any) -> None:
    module[3].weight.detach().numpy()[17, 251] = 5


def statistics(module: Any) -> None:
    module[1].running_var.data[3] = 2


def counter(module: Any) -> None:
    module[1].num_batches_tracked.data.add_(1)


def exchanged(module: Any) -> None:
    """Exchange two numbers of a weight."""
    weight = module[3].weight.data.view(-1)
    weight[[5_001, 5_003]] = weight[[5_003, 5_001]]


def rows_exchanged(module: Any) -> None:
    module[3].weight.data = module[3].weight.data.flip(0).contiguous()


def through_a_view(module: Any) -> None:
    module[3].weight.data[:, 3:4].t()[0, 41] = 0


def by_an_optimizer(module: Any) -> None:
    module[0].bias.grad = torch.ones(4)
    torch.optim.SGD([module[0].bias], lr=1e-3).step()


def under_no_grad(module: Any) -> None:
    with torch.no_grad():
        module[3].bias[49] += 1


def other_tensor(module: Any) -> None:
    module[3].weight = nn.Parameter(module[3].weight.detach() + 0.5)


def other_type(module: Any) -> None:
    module[0].weight.data = module[0].weight.data.double()


def other_shape(module: Any) -> None:
    module[3].weight.data = module[3].weight.data.view(100, 200)


def other_name(module: Any) -> None:
    module.add_module("last", module[3])
    delattr(module, "3")


DIGESTED: list[Callable[[Any], None]] = [
    scaled,
    first_number,
    last_number,
    number_in_between,
    last_bit,
    sign_of_zero,
    through_numpy,
    statistics,
    counter,
    exchanged,
    rows_exchanged,
    through_a_view,
    by_an_optimizer,
    under_no_grad,
    other_tensor,
    other_type,
    other_shape,
    other_name,
]


@pytest.mark.parametrize("change", DIGESTED)
def test_digest_changes_with_the_weights(change: Callable[[Any], None]) -> None:
    net = wrapped(large())
    first = net.digest
    assert net.digest == first
    change(net.module)
    second = net.digest
    assert second != first and net.digest == second
    assert second == wrapped(copy.deepcopy(net.module)).digest


@given(place=st.integers(0, 19_999), times=st.integers(1, 3))
def test_digest_changes_with_any_single_number(place: int, times: int) -> None:
    net = wrapped(LARGE)
    digests = [net.digest]
    numbers = LARGE[3].weight.data.view(-1)
    kept = numbers[place].clone()
    for _ in range(times):
        numbers[place] += 1
        digests.append(net.digest)
    numbers[place] = kept
    assert net.digest == digests[0]
    assert len(set(digests)) == times + 1


LARGE = large()


def test_digest_of_weights_created_in_inference_mode_changes_with_them() -> None:
    """Such tensors have no version counter."""
    with torch.inference_mode():
        net = wrapped(large())
        first = net.digest
        net.module[3].weight[7, 11] += 1  # type: ignore[index, union-attr, operator]
        second = net.digest
    assert first != second == net.digest


def test_digest_does_not_depend_on_the_memory_of_the_weights() -> None:
    net = wrapped(large())
    first = net.digest
    net.module[3].weight.data = net.module[3].weight.data.clone()  # type: ignore[index, union-attr]
    assert net.digest == first
    net.module.load_state_dict(copy.deepcopy(net.module.state_dict()))
    assert net.digest == first == wrapped(net.module).digest


def test_digest_is_unchanged_after_recording_a_network_that_writes_to_buffers() -> None:
    net = wrapped(composed(["counting", "averaging", "clamping", "replacing", "adapted"]).train())
    first = net.digest
    net.record(pictures(), "output")
    dv.project(net, pictures(), "0", k=1)
    assert net.digest == first
    net.module(pictures())
    assert net.digest != first


def test_network_info_changes_with_the_weights(tmp_path: Path) -> None:
    net = wrapped(large())
    first = net.info().to_json()
    scaled(net.module)
    assert net.info().to_json() != first
