"""Random weights: which are replaced, how, and that they are put back bit for bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import trust
from scipy import stats
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn.utils import parametrizations

import deconvviz as dv
from deconvviz.methods.method import method
from deconvviz.trust_measures.place import Case
from deconvviz.trust_measures.random_weights import random_weights, shuffled, weight_groups
from deconvviz.trust_measures.weights import STEPS, Original, Weights, similarities, ssim, states


def names(net, layer):
    return [group.module for group in weight_groups(net, net.layers.find(layer))]


def test_groups_are_the_modules_up_to_the_layer_in_the_order_of_the_pass():
    net = trust.convolutions()
    assert names(net, "4") == ["0", "1", "4"]
    assert names(net, "3") == ["0", "1"]
    assert names(net, "0") == ["0"]


def test_groups_contain_biases_and_the_statistics_of_batch_norm():
    net = trust.convolutions()
    norm = weight_groups(net, net.layers.find("4"))[1]
    own = net.module[1]
    expected = {id(t) for t in (own.weight, own.bias, own.running_mean, own.running_var)}
    assert {id(tensor) for tensor in norm.tensors} == expected  # without the counter of batches


class Block(nn.Module):
    """A block with a weight of its own, a shared convolution that is used twice, and one that is not used."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1) * torch.arange(1.0, 4)[:, None, None])
        self.conv = parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1))
        self.same = self.conv
        self.later = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        x = self.conv(x) * self.scale
        return self.later(self.conv(x).relu())


def test_weights_of_parts_without_a_row_belong_to_the_module_around_them():
    torch.manual_seed(0)
    net = trust.network(nn.Sequential(Block(), nn.Conv2d(3, 4, 3), nn.ReLU()))
    groups = weight_groups(net, net.layers.find("0.conv"))
    assert [group.module for group in groups] == ["0.conv", "0"]  # not 0.later and not 1
    assert any(tensor is net.module[0].scale for tensor in groups[1].tensors)
    assert len(groups[0].tensors) == 3  # bias, and the two parts of the weight
    assert [group.module for group in weight_groups(net, net.layers.find("2"))] == [
        "0.conv",
        "0.later",
        "0",
        "1",
    ]


def snapshot(module):
    """Return the bytes, addresses and version counters of all weights."""
    every = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: (t.detach().numpy().tobytes(), t.data_ptr(), t._version, t.requires_grad)
        for name, t in every.items()
    }


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_weights_are_put_back_bit_for_bit(error):
    net = trust.convolutions()
    net.module[4].bias.data[0] = float("nan")  # equal bit for bit, although NaN differs from itself
    before, digest = snapshot(net.module), net.digest
    groups = weight_groups(net, net.layers.find("4"))
    seen = []

    def enter():
        with random_weights(net, groups, 3):
            seen.append(snapshot(net.module))
            if error is not None:
                raise error

    if error is None:
        enter()
    else:
        with pytest.raises(error):
            enter()
    assert snapshot(net.module) == before
    assert net.digest == digest
    changed = {name for name in before if seen[0][name][0] != before[name][0]}
    assert changed == set(before) - {"1.num_batches_tracked"}


def test_recording_from_before_stays_valid():
    net = trust.convolutions()
    recording = net.record(trust.picture().open(), "4")
    before = recording.project("4").pixels
    groups = weight_groups(net, net.layers.find("4"))
    with random_weights(net, groups, 0), pytest.raises(dv.DeconvvizError, match="changed"):
        recording.project("4")
    assert torch.equal(recording.project("4").pixels, before)


def test_shuffled_values_are_a_permutation_in_the_same_memory_format():
    values = torch.arange(240.0).reshape(2, 4, 5, 6).to(memory_format=torch.channels_last)
    found = shuffled(values, torch.Generator().manual_seed(0))
    assert torch.equal(found.flatten().sort().values, values.flatten().sort().values)
    assert not torch.equal(found, values)
    assert found.stride() == values.stride()


def test_module_has_the_same_random_weights_in_every_state():
    net = trust.convolutions()
    groups = weight_groups(net, net.layers.find("4"))
    seen = []
    for chosen in (groups, groups[2:], groups):
        with random_weights(net, chosen, 7):
            seen.append(net.module[4].weight.detach().clone())
    assert torch.equal(seen[0], seen[1])
    with random_weights(net, groups, 8):
        assert not torch.equal(seen[0], net.module[4].weight)


def test_states_go_down_alone_and_up():
    net = trust.convolutions()
    found = states(weight_groups(net, net.layers.find("4")), 20)
    table = [(s.order, s.module, [group.module for group in s.groups]) for s in found if s.number == 0]
    assert [row[1:] for row in table if row[0] == "cascading"] == [
        ("4", ["4"]), ("1", ["1", "4"]), ("0", ["0", "1", "4"])
    ]  # fmt: skip
    assert [row[1:] for row in table if row[0] == "bottom_up"] == [
        ("0", ["0"]), ("1", ["0", "1"]), ("4", ["0", "1", "4"])
    ]  # fmt: skip
    assert [row[1:] for row in table if row[0] == "independent"] == [("4", ["4"]), ("1", ["1"]), ("0", ["0"])]
    assert {s.number for s in found} == {0, 1, 2}
    assert {s.number for s in states(weight_groups(net, net.layers.find("4")), 1)} == {0, 1}


def test_deep_network_is_thinned_out_but_keeps_both_ends():
    net = trust.network(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(30))))
    found = [s for s in states(weight_groups(net, net.layers.find("29")), 1) if s.number == 0]
    cascading = [s for s in found if s.order == "cascading"]
    assert len(cascading) == STEPS
    assert (cascading[0].module, cascading[-1].module) == ("29", "0")
    assert len(cascading[-1].groups) == 30


def test_similarities_equal_scipy_and_scikit_image():
    one, other = np.random.default_rng(0).standard_normal((2, 1, 3, 16, 18))
    found = similarities(one, other)
    a, b = one[0], other[0]
    assert found["spearman"][0] == pytest.approx(stats.spearmanr(abs(a).ravel(), abs(b).ravel()).statistic)
    assert found["pearson"][0] == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic)
    sizes = [np.sqrt((x**2).sum(0)) for x in (a, b)]
    scaled = [x / x.max() for x in sizes]
    assert found["ssim"][0] == pytest.approx(structural_similarity(*scaled, data_range=1.0, win_size=7))
    assert similarities(one, one)["ssim"][0] == pytest.approx(1)


def test_similarity_with_a_zero_map_is_not_known():
    one = np.random.default_rng(0).standard_normal((1, 3, 9, 9))
    assert all(np.isnan(values[0]) for values in similarities(one, one * 0).values())
    assert np.isnan(ssim(one[0, :, :2, :2], one[0, :, :2, :2]))  # too small for a window


def measured(net, *methods):
    at = trust.place(net, "4", of=trust.picture(1))
    cases = [Case.of(at, one) for one in methods]
    original = Original.of(at, cases)
    found = states(weight_groups(net, at.layer), 1)
    weights = Weights(methods, ["0", "1", "4"])
    weights.see_original(original)
    for state in found:
        with random_weights(net, state.groups, state.number):
            weights.see(state, original)
    return weights, original, found


def test_curves_equal_projections_in_copies_with_random_weights():
    """The copies get their weights from a state dict; the maps are computed without this room."""
    net = trust.convolutions()
    weights, original, found = measured(net, method("deconvnet"))
    expected = {}
    for state in found:
        other = dv.Network(copy.deepcopy(net.module), preprocessing=net.preprocessing)
        with random_weights(net, state.groups, state.number):
            other.module.load_state_dict(net.module.state_dict())
        rec = other.record(original.place.inputs, "4")
        x0, y0, x1, y1 = original.place.box
        for number, unit in enumerate(original.units):
            signal = torch.zeros(1, *rec.activations("4").shape[1:])
            signal[0, unit.channel, unit.y, unit.x] = unit.activation
            again = rec.project("4", signal).pixels[0, :, y0:y1, x0:x1].numpy()
            if again.any():
                own = original.maps["deconvnet"][number]
                value = stats.pearsonr(own.ravel(), again.ravel()).statistic
                expected.setdefault((state.order, state.module), []).append(value)
    table = weights.to_json("deconvnet")
    for order, first in (("cascading", 1), ("independent", 0), ("bottom_up", 1)):
        for entry in table[order][first:]:
            assert entry["pearson"] == pytest.approx(np.mean(expected[order, entry["module"]]), abs=1e-5)
    assert [entry["module"] for entry in table["cascading"]] == ["", "4", "1", "0"]
    assert table["cascading"][0] == {"module": "", "spearman": 1.0, "ssim": 1.0, "pearson": 1.0}


def test_method_that_ignores_the_weights_keeps_similarity_1():
    net = trust.convolutions()
    copy_of_picture = trust.KnownMaps("picture", lambda subject, unit: subject.inputs[0])
    with trust.registered(copy_of_picture):
        weights, _, _ = measured(net, copy_of_picture)
    table = weights.to_json("picture")
    for order in ("cascading", "independent", "bottom_up"):
        for entry in table[order]:
            assert [entry[name] for name in ("spearman", "ssim", "pearson")] == pytest.approx([1, 1, 1])
    assert abs(table["baselines"]["noise"]["pearson"]) < 0.3
    assert table["zero_maps"] == 0


def test_method_that_shows_one_weight_depends_on_its_module_only():
    net = trust.convolutions()

    def first_kernel(subject, unit):
        return subject.network.module[0].weight.detach().flatten().repeat(2).view(3, trust.SIDE, trust.SIDE)

    kernel = trust.KnownMaps("kernel", first_kernel)
    with trust.registered(kernel):
        weights, _, _ = measured(net, kernel)
    found = {entry["module"]: entry["pearson"] for entry in weights.to_json("kernel")["independent"]}
    assert (found["4"], found["1"]) == (pytest.approx(1), pytest.approx(1))
    assert found["0"] < 0.5
