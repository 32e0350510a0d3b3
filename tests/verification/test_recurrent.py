"""Recurrent layers, spectrograms and sequences with the batch second: both implementations agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.verification.semantics import Semantics


class Layers(nn.Module):
    """Recurrent layers whose first state is computed from the signal."""

    def __init__(self, kind: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 5, stride=4)
        self.recurrent = kind(6, 6, **options)
        self.count = self.recurrent.num_layers * (2 if self.recurrent.bidirectional else 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.conv(x))  # (B, 6, T)
        h = torch.stack([maps[:, :, number] for number in range(self.count)])
        order = (0, 2, 1) if self.recurrent.batch_first else (2, 0, 1)
        y, state = self.recurrent(maps.permute(order), (h, h) if type(self.recurrent) is nn.LSTM else h)
        state = state[1] if isinstance(state, tuple) else state
        last = y[:, -1] if self.recurrent.batch_first else y[-1]
        return torch.cat([last, state.transpose(0, 1).flatten(1)], 1)


class Cells(nn.Module):
    """Cells that are called once for each position."""

    def __init__(self, kind: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.conv, self.cell = nn.Conv1d(1, 6, 5, stride=8), kind(6, 6, **options)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.conv(x))
        state: Any = maps[:, :, 0]
        state = (state, state) if isinstance(self.cell, nn.LSTMCell) else state
        for position in range(1, maps.shape[2]):
            state = self.cell(maps[:, :, position], state)
        found: Tensor = state[1] if isinstance(state, tuple) else state
        return found


class Spectrogram(nn.Module):
    """Logarithm of the magnitudes of Fourier transforms of windows of a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(9, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        windows = x[:, 0].unfold(-1, 16, 8) * torch.hann_window(16, dtype=x.dtype)
        return self.conv((torch.fft.rfft(windows).abs().transpose(1, 2) + 1e-2).log())


class BatchSecond(nn.Module):
    """Layer norm of a sequence (T, B, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(1, 6, 5), nn.LayerNorm(6), nn.Conv1d(6, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        sequence = torch.relu(self.conv(x)).permute(2, 0, 1)
        return self.head(torch.relu(self.norm(sequence)).permute(1, 2, 0))


def relu(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *sizes, **options: kind(*sizes, nonlinearity="relu", **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Layers(nn.LSTM, batch_first=True),
    "LSTM, two layers, both directions": lambda: Layers(nn.LSTM, num_layers=2, bidirectional=True),
    "GRU": lambda: Layers(nn.GRU, batch_first=True),
    "GRU, both directions, no bias": lambda: Layers(nn.GRU, bidirectional=True, bias=False),
    "RNN": lambda: Layers(nn.RNN),
    "RNN with ReLU": lambda: Layers(relu(nn.RNN), batch_first=True),
    "RNN with ReLU, two layers, both directions": lambda: Layers(
        relu(nn.RNN), num_layers=2, bidirectional=True
    ),
    "LSTM cell": lambda: Cells(nn.LSTMCell),
    "GRU cell": lambda: Cells(nn.GRUCell, bias=False),
    "RNN cell": lambda: Cells(nn.RNNCell),
    "RNN cell with ReLU": lambda: Cells(relu(nn.RNNCell)),
    "spectrogram": Spectrogram,
    "batch second": BatchSecond,
}
SILENT = {"RNN", "RNN cell"}  # nothing but tanh


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_implementations_agree(name: str, count: int) -> None:
    torch.manual_seed(4)
    module = NETWORKS[name]().double().eval()
    net = dv.Network(module, shape=(1, 64), mean=[0], std=[1], name="own")
    layer = net.layers.last
    signals = torch.randn(count, 1, 64, dtype=torch.float64)
    recording = net.record(signals, layer)
    channels = range(0, layer.shape[0], 2)
    at = (3,) if len(layer.shape) == 2 else ()
    units = [
        dv.Unit(image, channel, x=at[0] if at else None) for image in range(count) for channel in channels
    ]
    projection = recording.project(layer, units)
    assert bool(projection.pixels.any()) is (name not in SILENT)
    found = dv.verify(net, projection)
    assert found.route == "autograd" and found.largest_difference < 1e-12


LAYERS = {
    "lstm": lambda: nn.LSTM(5, 6, 2, bidirectional=True),
    "lstm with a projection": lambda: nn.LSTM(5, 6, 2, proj_size=3, batch_first=True),
    "gru": lambda: nn.GRU(5, 6, 2, bias=False),
    "rnn_tanh": lambda: nn.RNN(5, 6, bidirectional=True),
    "rnn_relu": lambda: nn.RNN(5, 6, 2, nonlinearity="relu"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_second_implementation_returns_the_numbers_of_pytorch(name: str) -> None:
    torch.manual_seed(5)
    layer = LAYERS[name]().double().eval()
    x = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    expected, states = layer(x)
    with Semantics():
        found, own = layer(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own, states)
    lengths = [5, 4, 4, 1][: x.shape[0 if layer.batch_first else 1]]
    packed = nn.utils.rnn.pack_padded_sequence(
        x, [min(one, x.shape[1 if layer.batch_first else 0]) for one in lengths], layer.batch_first
    )
    with pytest.raises(NotImplementedError, match="packed sequences"), Semantics():
        layer(packed)


def test_recurrent_network_that_is_wrong_is_not_confirmed() -> None:
    torch.manual_seed(4)
    net = dv.Network(Layers(relu(nn.RNN)).double().eval(), shape=(1, 64), mean=[0], std=[1])
    projection = net.record(torch.randn(1, 1, 64).double(), "output").project("output", dv.Unit(0, 1))
    projection.pixels[0, 0, 5] += 1e-3
    found = dv.verify(net, projection)
    assert not found.passed
