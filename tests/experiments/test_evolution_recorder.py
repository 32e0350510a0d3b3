"""`dv.EvolutionRecorder` in a training loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, OutputError, WeightsError

pytestmark = pytest.mark.slow  # together some seconds

EVERY = [1, 2, 4]


@pytest.fixture
def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    return dv.Network(module, size=16)


def train(net, recorder, epochs=4):
    """Train on random numbers. Return a copy of the weights after each epoch."""
    optimiser = torch.optim.SGD(net.module.parameters(), lr=0.1)
    states = []
    for epoch in range(1, epochs + 1):
        net.module.train()
        optimiser.zero_grad()
        net.module(torch.ones(1, 3, 16, 16)).square().mean().backward()
        optimiser.step()
        recorder.record(epoch)
        states.append({name: tensor.clone() for name, tensor in net.module.state_dict().items()})
    return states


def test_recorder_gives_the_same_as_the_checkpoints(net, tmp_path):
    recorder = dv.EvolutionRecorder(
        net, "scenes:3", ["0"], channels=2, out=tmp_path / "out", epochs=EVERY, workers=0
    )
    states = train(net, recorder)
    torch.manual_seed(7)
    after = torch.rand(1)
    torch.manual_seed(7)
    found = recorder.finish()
    assert torch.rand(1) == after
    assert net.module.training
    assert found.checkpoints == ("1", "2", "4")
    for epoch in EVERY:
        torch.save(states[epoch - 1], tmp_path / f"{epoch}.pt")
    expected = dv.evolution(
        net, [tmp_path / f"{epoch}.pt" for epoch in EVERY], "scenes:3", "0", channels=2, workers=0
    )
    assert found.table.equals(expected.table)
    assert (tmp_path / "out" / "evolution.parquet").exists()


def test_epochs_of_the_paper_are_the_default(net, tmp_path):
    recorder = dv.EvolutionRecorder(net, "scenes:2", "0", out=tmp_path)
    assert recorder.epochs == {1, 2, 5, 10, 20, 30, 40, 64}
    train(net, recorder, epochs=3)
    assert len(list((tmp_path / "evolution-weights").iterdir())) == 2


def test_recorder_needs_two_epochs(net, tmp_path):
    recorder = dv.EvolutionRecorder(net, "scenes:2", "0", out=tmp_path)
    recorder.record(1)
    with pytest.raises(WeightsError, match=r"1 of the epochs 1, 2, 5, .* needs 2"):
        recorder.finish()


def test_mistakes_are_found_before_the_training(net, tmp_path):
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        dv.EvolutionRecorder(net, "scenes:2", "conv9", out=tmp_path)
    (tmp_path / "evolution.png").touch()
    with pytest.raises(OutputError, match="already exists"):
        dv.EvolutionRecorder(net, "scenes:2", "0", out=tmp_path)


def test_finish_can_be_called_during_the_training(net, tmp_path):
    recorder = dv.EvolutionRecorder(net, "scenes:2", "0", out=tmp_path, epochs=range(1, 9), workers=0)
    train(net, recorder, epochs=2)
    assert recorder.finish().checkpoints == ("1", "2")
    recorder.record(3)
    assert recorder.finish().checkpoints == ("1", "2", "3")
