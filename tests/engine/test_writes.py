"""Writes into parts of a map: projections equal those of autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.oracles import Autograd
from helpers.write_programs import CHANNELS, SIDE, programs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp

Wiring = Callable[[Tensor], Tensor]


class Wired(nn.Module):
    """Convolution `a`, a function, and convolution `b`."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.wiring(self.a(x)))


def _gradients(network: nn.Module, images: Tensor, units: list[Unit]) -> Tensor:
    """Return activation times gradient of units, (K, C, H, W), by autograd."""
    found = []
    for unit in units:
        x = images.clone().requires_grad_()
        value = network(x)[unit.image, unit.channel, unit.y, unit.x]
        (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
        found.append(torch.zeros_like(x[0]) if gradient is None else (gradient * value.detach())[unit.image])
    return torch.stack(found)


def _boxes(maps: Tensor) -> list[tuple[int, int, int, int]]:
    found = []
    for one in maps.abs().sum(1):
        rows, columns = (one.sum(axis).nonzero().flatten().tolist() for axis in (1, 0))
        found.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 0, 0))
    return found


def _compare(
    wiring: Wiring,
    reference: Wiring | None = None,
    batch: int = 2,
    methods: tuple[str, ...] = ("gradient", "guided"),
) -> None:
    """Compare projections with the gradients of a network that computes the same, and check the boxes."""
    torch.manual_seed(0)
    network, images = Wired(wiring).double(), torch.randn(batch, 3, 8, 8).double()
    ours = passes.run(network, images, methods=methods)
    height, width = ours.outputs["b"].shape[2:]
    units = [Unit(n % batch, n % 3, n % height, (2 * n) % width) for n in range(7)]
    plain = Wired(reference or wiring).double()
    plain.load_state_dict(network.state_dict())
    expected = _gradients(plain, images, units)
    pixels, boxes = ours.units("b", units)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.units_at_full_size("b", units), expected, rtol=0, atol=1e-12)
    for method in methods:
        torch.testing.assert_close(ours.by(method).units("b", units)[0], expected, rtol=0, atol=1e-12)
    for found, least in zip(boxes, _boxes(expected), strict=True):
        assert found[0] <= least[0] and found[1] <= least[1] and found[2] >= least[2] and found[3] >= least[3]


def _wrapped(x: Tensor) -> Tensor:
    room = x.new_empty(x.shape[0], x.shape[1], x.shape[2] + 2, x.shape[3] + 2)
    room[:, :, 1:-1, 1:-1] = x
    room[:, :, 0, 1:-1], room[:, :, -1, 1:-1] = x[:, :, -1], x[:, :, 0]
    room[..., 0], room[..., -1] = room[..., -2], room[..., 1]
    return room


def _channels_added(x: Tensor) -> Tensor:
    x[:, :2] += 2 * x[:, 2:]
    return x


def _view_taken_before(x: Tensor) -> Tensor:
    view = x[:, :, 2:5]
    x.mul_(3)
    x[:, 1] = 0
    return torch.cat([view, x], 2)


def _transposed(x: Tensor) -> Tensor:
    x.transpose(2, 3)[:, :, 1] = x[..., 2] * 2
    return x


def _with_steps(x: Tensor) -> Tensor:
    room = torch.zeros_like(x)
    room[:, :, ::2, 1::3] = x[:, :, 1::2, ::3]
    room[:, 1::2, 3] -= x[:, ::2, 2]
    return room


def _broadcast(x: Tensor) -> Tensor:
    room = torch.ones_like(x)
    room.copy_(x.mean((2, 3), keepdim=True))
    room[:, :, 2:4] += x[:, :, 2:3]
    return room


def _grouped(x: Tensor) -> Tensor:
    x.view(len(x), 2, 2, 8, 8)[:, 1] *= 2
    x.flatten(2)[:, :, 5] = 1
    return x


def _channels_last(x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1).contiguous()
    y[:, 1:3, :, 1:] = y[:, 2:4, :, :3].clone()
    return y.permute(0, 3, 1, 2)


def _split_positions(x: Tensor) -> Tensor:
    x.view(len(x), 4, 4, 2, 4, 2)[:, :, :, 0] *= 2
    return x


def _joined_positions(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    flat[:, :, 3:50:2] = flat[:, :, 4:51:2] * 3
    return x


def _whole_memory(x: Tensor) -> Tensor:
    room = torch.zeros_like(x)
    room.view(-1).copy_(x.flatten())
    return room


def _list_of_parts(x: Tensor) -> Tensor:
    x.chunk(2, 1)[0].mul_(1.5)
    x.unbind(3)[2].add_(x.split([3, 5], 2)[1].mean((2, 3))[..., None])
    return x


def _the_same_sums(x: Tensor) -> Tensor:
    x = x * torch.tensor([1.5, 1.5, 1, 1]).to(x)[:, None, None]
    column = (torch.arange(8) == 2).to(x)
    return x + x[:, :, 3:].mean((2, 3), keepdim=True) * column


def _filled(x: Tensor) -> Tensor:
    x[..., 1].zero_()
    x[:, 2, :3].fill_(2.0)
    x[:, :, 4:6].masked_fill_(torch.arange(8) % 2 == 0, 1.0)
    return x


def _overlapping_reads(x: Tensor) -> Tensor:
    return x.as_strided((len(x), 4, 6, 8, 3), (256, 64, 8, 1, 8)).sum(-1)


@pytest.mark.parametrize(
    "wiring",
    [
        _wrapped, _channels_added, _view_taken_before, _transposed, _with_steps, _broadcast, _grouped,
        _channels_last, _split_positions, _joined_positions, _whole_memory, _filled,
        _overlapping_reads,
        lambda x: F.pad(x, (2, 1, 3, 1), mode="circular"),
    ],
)  # fmt: skip
def test_projection_equals_the_gradient_of_the_same_network(wiring: Wiring) -> None:
    _compare(wiring)


def test_write_into_one_of_several_parts_of_a_call() -> None:
    _compare(_list_of_parts, _the_same_sums)  # autograd forbids such writes


def test_write_through_data_or_detach_reaches_the_map() -> None:
    def written(x: Tensor) -> Tensor:
        x.data.mul_(2)
        x.detach()[:, 1:2].mul_(3)
        return x

    factors = torch.tensor([2.0, 6, 2, 2]).double()[:, None, None]
    _compare(written, lambda x: x * factors, methods=())  # detached tensors have no gradient


def test_one_image_is_copied_into_a_padded_batch() -> None:
    def padded(x: Tensor) -> Tensor:
        room = x.new_zeros(1, 4, 12, 11)
        for k in range(len(x)):
            room[k, :, :8, :8].copy_(x[k] * 2)
        return room

    _compare(padded, batch=1)


class CopiedAndWritten(nn.Module):
    """What detectors do: images are copied into a padded batch, and channels of a map are overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        room = x.new_zeros(len(x), 3, 20, 24)
        for k in range(len(x)):
            room[k, :, : x.shape[2], : x.shape[3]].copy_(x[k])
        y = torch.relu(self.a(room))
        y[:, :2] = y[:, 2:4]
        return self.b(y.relu_())


def _circular() -> nn.Module:
    circular = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")
    return nn.Sequential(circular, nn.ReLU(), nn.Conv2d(8, 8, 3))


@pytest.mark.parametrize("network", [CopiedAndWritten(), _circular()], ids=["padded", "circular"])
def test_reported_networks_equal_the_oracle(network: nn.Module) -> None:
    network, images = network.double().eval(), torch.randn(1, 3, 16, 16).double()
    ours, oracle = passes.run(network, images), Autograd(network, images)
    deepest = list(ours.outputs)[-2]  # the last one is the whole network
    units = [Unit(0, n, n, 12 - n) for n in range(8)]
    expected = torch.stack([oracle.unit(deepest, 0, u.channel, u.y, u.x) for u in units])  # type: ignore[arg-type]
    torch.testing.assert_close(ours.units(deepest, units)[0], expected, rtol=0, atol=1e-12)
    assert bool(expected.any())


def test_receptive_fields_are_exact_where_a_write_replaces_whole_rows() -> None:
    def replaced(x: Tensor) -> Tensor:
        x[:, :, 4:] = x[:, :, :4] * 2
        return x

    torch.manual_seed(0)
    network, images = Wired(replaced).double(), torch.randn(1, 3, 8, 8).double()
    units = [Unit(0, 0, y, 2) for y in range(6)]
    assert passes.run(network, images).units("b", units)[1] == _boxes(_gradients(network, images, units))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@settings(deadline=None)
@given(data=st.data())
def test_random_programs_of_views_and_writes(batch: int, data: st.DataObject) -> None:
    network = data.draw(programs(batch)).double()
    images = torch.randn(batch, 2, SIDE, SIDE).double()
    units = [Unit(n % batch, n % 3, n % 4, (3 * n) % 4) for n in range(3)]
    try:
        expected = _gradients(network, images, units)
    except RuntimeError:  # autograd forbids this write, for example into a tensor that overlaps itself
        return
    ours = passes.run(network, images, methods=["gradient"])
    torch.testing.assert_close(ours.units("last", units)[0], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.by("gradient").units("last", units)[0], expected, rtol=0, atol=1e-10)


REFUSED = [
    (lambda x: _assigned(x, (0,)), "it selects one of the images of a batch"),
    (lambda x: _assigned(x, (slice(1),)), "it selects some of the images of a batch"),
    (lambda x: _assigned(x.view(1, 8, 8, 8), (slice(None), 1)), "it selects one of the images of a batch"),
]


def _assigned(x: Tensor, index: tuple[object, ...]) -> Tensor:
    x[index] = x[index] * 2
    return x.reshape(2, CHANNELS, 8, 8)


@pytest.mark.parametrize(("wiring", "reason"), REFUSED)
def test_write_into_some_images_of_a_batch_is_unsupported(wiring: Wiring, reason: str) -> None:
    ours = passes.run(Wired(wiring), torch.randn(2, 3, 8, 8))
    with pytest.raises(RefusedOp, match=reason):
        ours.units("b", [Unit(0, 0, 0, 0)])
