"""Attention and recurrent modules run as separate calls: same outputs, projections equal autograd."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from helpers import passes
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

from deconvviz.engine.fused_modules import separate_calls
from deconvviz.engine.multihead import attention
from deconvviz.engine.unrolled import recurrent
from deconvviz.engine.wrappers import named_parts

EXACT = 1e-12


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


ATTENTION: list[dict[str, Any]] = [
    {},
    {"batch_first": True},
    {"batch_first": True, "bias": False},
    {"kdim": 6, "vdim": 6},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
]
MASKS = [None, torch.eye(5) > 0, 0.3 * _random(5, 5), 0.3 * _random(4, 5, 5)]


@pytest.mark.parametrize("options", ATTENTION, ids=[", ".join(one) or "default" for one in ATTENTION])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_returns_what_pytorch_returns(options: dict[str, Any], need_weights: bool) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, **options).double().eval()
    first = (2, 5) if module.batch_first else (5, 2)
    query = _random(*first, 8)
    other = _random(*first, options.get("kdim", 8)).flip(1)
    padding = torch.tensor([[0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]).bool()
    for mask, average in itertools.product(MASKS, (False, True)):
        for keys in (None, padding if mask is None or mask.dtype == torch.bool else 1.0 * padding.double()):
            given = {"attn_mask": mask, "key_padding_mask": keys, "average_attn_weights": average}
            with torch.no_grad():
                want = module(query, other, other, need_weights=need_weights, **given)
                found = attention(module, query, other, other, need_weights=need_weights, **given)
            torch.testing.assert_close(found, want)


RECURRENT: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (nn.LSTM, {}),
    (nn.LSTM, {"batch_first": True, "num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"proj_size": 3, "bidirectional": True, "bias": False}),
    (nn.GRU, {"batch_first": True}),
    (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    (nn.RNN, {"batch_first": True, "bidirectional": True}),
    (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
]


@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_recurrent_layer_returns_what_pytorch_returns(kind: type[nn.Module], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module: Any = kind(6, 5, **options).double().eval()  # type: ignore[call-arg]
    sequence = _random(2, 4, 6)
    batch = 2 if options.get("batch_first") else 4
    count = module.num_layers * (1 + module.bidirectional)
    state: Any = _random(count, batch, module.proj_size or 5)
    if kind is nn.LSTM:
        state = (state, _random(count, batch, 5))
    with torch.no_grad():
        for given in (None, state):
            torch.testing.assert_close(recurrent(module, sequence, given), module(sequence, given))
        torch.testing.assert_close(recurrent(module, sequence[0]), module(sequence[0]))
        packed = nn.utils.rnn.pack_padded_sequence(
            sequence, [4, 2] if batch == 2 else [2, 2, 1, 1], batch == 2
        )
        torch.testing.assert_close(recurrent(module, packed)[0].data, module(packed)[0].data)


def test_forward_passes_are_restored_and_own_ones_are_kept() -> None:
    module = nn.ModuleList([nn.LSTM(2, 2), nn.MultiheadAttention(2, 1), nn.GRU(2, 2)])
    own = lambda x: x  # noqa: E731
    module[2].forward = own
    with pytest.raises(ZeroDivisionError), separate_calls(named_parts(module)):
        assert "forward" in vars(module[0]) and "forward" in vars(module[1])
        raise ZeroDivisionError
    assert "forward" not in vars(module[0]) and "forward" not in vars(module[1])
    assert module[2].forward is own


class Sequence(nn.Module):
    """A module over the positions of a map, as a sequence (B, positions, 8), and a mean over them."""

    def __init__(self, inner: nn.Module, *, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.inner, self.head = nn.Conv2d(3, 8, 4, 4), inner, nn.Linear(8, 4)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).relu().flatten(2).transpose(1, 2)
        found = self.inner(tokens if self.batch_first else tokens.transpose(0, 1))
        found = found[0] if isinstance(found, tuple) else found
        return self.head((found if self.batch_first else found.transpose(0, 1)).mean(1))


class Attending(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attention(x, x, x)[0] + self.attention(x, x, x, need_weights=False)[0]
        return found


def _networks() -> dict[str, Sequence]:
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    )
    return {
        "encoder": Sequence(encoder),
        "attention": Sequence(Attending(True)),
        "attention, batch second": Sequence(Attending(False), batch_first=False),
        "LSTM": Sequence(nn.LSTM(8, 4, bidirectional=True, batch_first=True)),
        "LSTM, batch second": Sequence(nn.LSTM(8, 8), batch_first=False),
        "GRU": Sequence(nn.GRU(8, 8, batch_first=True)),
        "RNN": Sequence(nn.RNN(8, 8, batch_first=True)),
    }


NETWORKS = _networks()


def _single(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        signal = network(images)
    signal[:, :2] = 0
    return signal


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_equal_autograd(name: str, batch: int) -> None:
    network, images = NETWORKS[name].double().eval(), _random(batch, 3, 12, 8)
    recorded = passes.run(network, images, methods=("gradient", "guided"))
    signal = _single(network, images)
    for method, mode in {"gradient": None, "guided": Guided()}.items():
        want = PlainAutograd(network, images, [""], mode).project("", signal)
        assert want.any()
        found = recorded.by(method).signals("", signal, range(batch))
        assert difference(found, want) <= EXACT


@pytest.mark.parametrize("name", ["encoder", "attention", "attention, batch second"])
@pytest.mark.parametrize("batch", [1, 2])
def test_projection_through_attention_equals_autograd(name: str, batch: int) -> None:
    network, images = NETWORKS[name].double().eval(), _random(batch, 3, 12, 8)
    signal = _single(network, images)
    want = Autograd(network, images, [""]).project("", signal)
    assert want.any()
    assert difference(passes.run(network, images).signals("", signal, range(batch)), want) <= EXACT


@pytest.mark.parametrize("name", ["LSTM", "LSTM, batch second", "GRU", "RNN"])
def test_recurrent_layers_with_gates_are_constants(name: str) -> None:
    network, images = NETWORKS[name].double().eval(), _random(2, 3, 12, 8)
    found = passes.run(network, images).signals("", _single(network, images), [0, 1])
    assert not found.any()
