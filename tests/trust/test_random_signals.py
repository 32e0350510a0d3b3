"""Random signals through the switches of a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import trust
from torch import nn

from deconvviz.methods.method import method
from deconvviz.trust_measures.place import Case
from deconvviz.trust_measures.switches import Switches, _dense_signals, _sparse_signals


@pytest.fixture(scope="module")
def linear():
    """Return a place of one convolution without switches: the map of a channel is its kernel."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 9, 3, padding=1))
    return trust.place(trust.network(module), "0", k=3)


def measured(case):
    switches = Switches()
    switches.see(case)
    return switches.measure(), switches.dense


def test_signals_have_the_norm_and_the_sparsity_of_a_unit(linear):
    signals = _sparse_signals(linear)
    own = {unit.channel for unit in linear.units}
    for signal in signals:
        (places,) = torch.nonzero(signal).tolist()
        assert places[1:] == [linear.units[0].y, linear.units[0].x]
        assert places[0] not in own
    assert signals.flatten(1).norm(dim=1).tolist() == pytest.approx([linear.activations[0]] * len(signals))


def test_dense_signals_are_positive_at_the_place_only(linear):
    signals = _dense_signals(linear)
    assert (signals >= 0).all()
    at_place = signals[:, :, linear.units[0].y, linear.units[0].x]
    assert (at_place > 0).all()
    assert float(signals.sum()) == pytest.approx(float(at_place.sum()))
    assert signals.flatten(1).norm(dim=1).tolist() == pytest.approx([linear.activations[0]] * len(signals))


def test_similarity_in_a_linear_network_is_that_of_the_kernels(linear):
    found, _ = measured(Case.of(linear, method("deconvnet")))
    kernels = linear.network.module[0].weight.detach().flatten(1).numpy()
    random = [int(signal.flatten(1).sum(1).argmax()) for signal in _sparse_signals(linear)]
    table = np.corrcoef(kernels)
    expected = np.mean([[abs(table[unit.channel, other]) for other in random] for unit in linear.units])
    assert found.value == pytest.approx(expected, abs=1e-5)
    assert found.baseline == pytest.approx(expected, abs=1e-5)  # without switches, no picture draws anything


def test_method_that_draws_the_picture_has_1_and_the_mirrored_picture_as_baseline():
    """The maps of this method are the picture, whatever the unit."""
    at = trust.place(trust.convolutions(), "4")
    copy = trust.KnownMaps("copy", lambda subject, unit: subject.inputs[0])
    found, dense = measured(Case.of(at, copy))
    x0, y0, x1, y1 = at.box
    picture = at.inputs[0].numpy()
    rows = [one[:, y0:y1, x0:x1].ravel() for one in (picture, picture[:, :, ::-1])]
    assert found.value == pytest.approx(1)
    assert found.baseline == pytest.approx(abs(np.corrcoef(rows)[0, 1]), abs=1e-5)
    assert dense is None  # the method takes no signals
    assert "takes no signals" in found.meaning


def test_unit_without_position_has_signals_too():
    torch.manual_seed(0)
    net = trust.network(nn.Sequential(nn.Flatten(), nn.Linear(3 * trust.SIDE**2, 12)))
    at = trust.place(net, "1", k=3)
    found, dense = measured(Case.of(at, method("deconvnet")))
    assert 0 <= found.value <= 1
    assert 0 <= dense <= 1
