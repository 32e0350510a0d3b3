"""Networks for signals (C, T) and for volumes and video (C, D, H, W), compared with other computations.

Every module of small networks is projected: single units in windows, whole channels, and random signals, for
two images at once. Receptive fields are compared with the input positions that can change a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.asking import Calls, noise, positive, seeded
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.receptive_fields import views
from deconvviz.engine.units import Unit

pytestmark = pytest.mark.slow

EXACT = 1e-10
Build = Callable[[], nn.Module]


class Branches(nn.Module):
    """Two branches with equal output shapes, added or concatenated."""

    def __init__(self, one: nn.Module, other: nn.Module, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.other, self.join = one, other, join
        self.end = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.join(self.one(x), self.other(x)))


class Unpooled(nn.Module):
    """Max pooling, a layer, and unpooling at the indices of the pooling."""

    def __init__(self, pool: nn.Module, inner: nn.Module, unpool: nn.Module) -> None:
        super().__init__()
        self.pool, self.inner, self.unpool = pool, inner, unpool

    def forward(self, x: Tensor) -> Tensor:
        small, indices = self.pool(x)
        return self.unpool(self.inner(small), indices)


def joined(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)


def times_gate(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x.mean(list(range(2, x.dim())), keepdim=True))


def pad(amounts: Sequence[int], mode: str = "constant") -> nn.Module:
    return Calls(lambda x: F.pad(x, list(amounts), mode))


def resized(**options: object) -> nn.Module:
    return Calls(lambda x: F.interpolate(x, **options))  # type: ignore[arg-type]


SIGNALS: dict[str, Build] = {
    "convolutions and pools": lambda: nn.Sequential(
        nn.Conv1d(3, 6, 7, 2, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(3, 2, 1),
        nn.Conv1d(6, 6, 3, dilation=2, groups=3), nn.ReLU(inplace=True), nn.AvgPool1d(2, ceil_mode=True),
        nn.Conv1d(6, 4, 1), nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 5),
    ),
    "same padding, new ReLUs": lambda: nn.Sequential(
        nn.Conv1d(3, 8, 17, padding="same"), Calls(lambda x: nn.ReLU()(x)), nn.MaxPool1d(3),
        nn.Conv1d(8, 8, 9, padding="same"), nn.AvgPool1d(3, 2, 1, count_include_pad=False),
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 4, 2), nn.ReLU(), nn.ConvTranspose1d(4, 6, 5, 3, 2, 1, groups=2), nn.ReLU(),
        nn.ConvTranspose1d(6, 2, 3, 2, dilation=2), nn.Conv1d(2, 2, 3),
    ),
    "padded": lambda: nn.Sequential(
        pad((3, 1), "reflect"), nn.Conv1d(3, 4, 3), nn.ReLU(), pad((2, 2), "replicate"), nn.Conv1d(4, 4, 4),
        pad((1, -2)), nn.Conv1d(4, 3, 2),
    ),
    "resized": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 3, 2), resized(scale_factor=2, mode="linear"), nn.Conv1d(4, 4, 3), nn.ReLU(),
        resized(size=30, mode="linear", align_corners=True), resized(scale_factor=3, mode="nearest"),
        nn.Conv1d(4, 2, 5), resized(size=17, mode="nearest-exact"),
    ),
    "branches": lambda: nn.Sequential(
        Branches(nn.Conv1d(3, 4, 5, padding=2), nn.Conv1d(3, 4, 3, padding=3, dilation=3), joined),
        nn.ReLU(), Branches(nn.Conv1d(8, 4, 3, padding=1), nn.Conv1d(8, 4, 1), torch.add),
        Calls(lambda x: x[:, :, 2:-1:2]), nn.Conv1d(4, 4, 3), Calls(times_gate), nn.Conv1d(4, 2, 2),
    ),
    "unpooled": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 3), Unpooled(nn.MaxPool1d(2, return_indices=True), nn.Conv1d(4, 4, 3, padding=1),
        nn.MaxUnpool1d(2)), nn.Conv1d(4, 2, 3),
    ),
    "adaptive maximum": lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(7),
        nn.Conv1d(4, 2, 2)),
    "channels last": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.ReLU(), Calls(lambda x: x.transpose(1, 2)), nn.Linear(4, 6), nn.ReLU(),
        Calls(lambda x: x.transpose(1, 2)), nn.Conv1d(6, 2, 3),
    ),
    "rows of a picture": lambda: nn.Sequential(
        Calls(lambda x: x.unsqueeze(1)), nn.Conv2d(1, 4, (3, 5)), nn.ReLU(), Calls(lambda x: x.squeeze(2)),
        nn.Conv1d(4, 2, 3),
    ),
    "circular": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 5, padding=2, padding_mode="circular"), nn.ReLU(), nn.Conv1d(4, 2, 3, 2),
    ),
    "flipped": lambda: nn.Sequential(nn.Conv1d(3, 4, 4), Calls(lambda x: x.flip(2)), nn.Conv1d(4, 4, 2),
        Calls(lambda x: x.roll(3, 2)), nn.Conv1d(4, 2, 2)),
}  # fmt: skip

VOLUMES: dict[str, Build] = {
    "convolutions and pools": lambda: nn.Sequential(
        nn.Conv3d(2, 4, (3, 3, 5), (1, 2, 2), (1, 1, 2)), nn.BatchNorm3d(4), nn.ReLU(),
        nn.MaxPool3d((2, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(4, 4, (2, 1, 2), groups=2), nn.ReLU(),
        nn.AvgPool3d(2, (2, 1, 1), ceil_mode=True), nn.AdaptiveAvgPool3d((2, 2, 1)), nn.Flatten(),
        nn.Linear(16, 3),
    ),
    "factored, as R(2+1)D": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.ReLU(),
        nn.Conv3d(3, 4, (3, 1, 1), padding=(1, 0, 0)), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(4, 2, 2, dilation=(2, 1, 1)),
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv3d(2, 3, 2, 2), nn.ReLU(), nn.ConvTranspose3d(3, 4, 3, (2, 1, 2), 1, (1, 0, 1)), nn.ReLU(),
        nn.Conv3d(4, 2, (1, 2, 2)),
    ),
    "padded": lambda: nn.Sequential(
        pad((1, 2, 0, 1, 2, 1), "reflect"), nn.Conv3d(2, 3, 3), nn.ReLU(),
        pad((1, 1, 1, 0, 0, 1), "replicate"), nn.Conv3d(3, 2, 3), pad((1, 0, -1, 1, 1, 0)),
        nn.Conv3d(2, 2, 2),
    ),
    "resized": lambda: nn.Sequential(
        nn.Conv3d(2, 3, 3, 2), resized(scale_factor=2, mode="trilinear"), nn.Conv3d(3, 3, 2), nn.ReLU(),
        resized(scale_factor=(1, 2, 2), mode="nearest"), nn.Conv3d(3, 2, (1, 3, 3)),
        resized(size=(3, 5, 4), mode="trilinear", align_corners=True),
    ),
    "branches": lambda: nn.Sequential(
        Branches(nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(2, 3, (1, 5, 1), padding=(0, 2, 0)), joined),
        nn.ReLU(), Branches(nn.Conv3d(6, 3, 1), nn.Conv3d(6, 3, (3, 1, 1), padding=(1, 0, 0)), torch.add),
        Calls(lambda x: x[:, :, 1:, ::2, 1:-1]), nn.Conv3d(3, 2, 2), Calls(times_gate),
    ),
    "unpooled": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (3, 2, 1)), Unpooled(nn.MaxPool3d(2, return_indices=True), nn.Conv3d(3, 3, 1),
        nn.MaxUnpool3d(2)), nn.Conv3d(3, 2, 2),
    ),
    "adaptive maximum": lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.AdaptiveMaxPool3d((2, 3, 3)),
        nn.Conv3d(3, 2, 2)),
    "maps after a mean over time": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (3, 3, 3)), nn.ReLU(), Calls(lambda x: x.mean(2)), nn.Conv2d(3, 4, 3, 2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(4, 2, 1),
    ),
    "signals after a mean over rows and columns": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (2, 3, 3)), nn.ReLU(), Calls(lambda x: x.mean((3, 4))), nn.Conv1d(3, 4, 2), nn.ReLU(),
        nn.MaxPool1d(2, 1), nn.Conv1d(4, 2, 1),
    ),
    "one frame": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (2, 3, 3)), nn.ReLU(), Calls(lambda x: x[:, :, 1]), nn.Conv2d(3, 2, 3, 2),
    ),
    "mean over time taken away": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (2, 3, 3)), nn.ReLU(), Calls(lambda x: x - x.mean(2, keepdim=True)),
        nn.Conv3d(3, 2, 2),
    ),
    "frame by frame times a map": lambda: nn.Sequential(
        nn.Conv3d(2, 3, (2, 3, 3)), nn.ReLU(), Calls(lambda x: x + x.mean(2).unsqueeze(2)),
        nn.Conv3d(3, 2, 2),
    ),
}  # fmt: skip

CASES = [("signal", name) for name in SIGNALS] + [("volume", name) for name in VOLUMES]
SHAPES = {"signal": (3, 41), "volume": (2, 6, 11, 12)}


def build(kind: str, name: str) -> nn.Module:
    return seeded({"signal": SIGNALS, "volume": VOLUMES}[kind][name])


@lru_cache(maxsize=4)
def both(kind: str, name: str) -> tuple[passes.Pass, Autograd | PlainAutograd]:
    network, images = build(kind, name), noise(2, *SHAPES[kind])
    # unpooling has no second implementation, but without ReLU the projection is the gradient
    oracle = PlainAutograd if name == "unpooled" else Autograd
    return passes.run(network, images), oracle(network, images)


def positions(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every corner of a map, its centre and a place near it."""
    corners = product(*[(0, n - 1) for n in lengths])
    return [*dict.fromkeys([*corners, tuple(n // 2 for n in lengths), tuple(n // 3 for n in lengths)])]


def unit_at(image: int, channel: int, position: Sequence[int], activation: float = 0.0) -> Unit:
    z, y, x = (*[None] * (3 - len(position)), *position)
    return Unit(image, channel, y, x, z=z)


def maps_of(ours: passes.Pass) -> list[str]:
    return [
        name
        for name, value in ours.values.items()
        if name.rpartition(".")[2] not in ("", "pool") and ours.tape.layouts[value].is_map
    ]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_units_of_every_layer_equal_autograd(kind: str, name: str) -> None:
    ours, theirs = both(kind, name)
    alive = 0
    for layer in maps_of(ours):
        output = ours.outputs[layer]
        units = [
            unit_at(image, int(output[(image, slice(None), *place)].abs().argmax()), place)
            for place in positions(output.shape[2:])
            for image in (0, 1)
        ]
        pixels, boxes = ours.units(layer, units)
        assert (
            torch.equal(pixels, ours.units(layer, units, memory=1)[0])
            or difference(pixels, ours.units(layer, units, memory=1)[0]) <= EXACT
        )
        for found, unit, box in zip(pixels, units, boxes, strict=True):
            signal = torch.zeros_like(output)
            place = (unit.image, unit.channel, *unit.position)
            signal[place] = output[place]
            want = theirs.project(layer, ours.in_module_layout(layer, signal))[unit.image]
            assert difference(found, want) <= EXACT, (layer, unit)
            alive += bool(want.any())
            outside = found.clone()
            ends = zip(box[: len(box) // 2], box[len(box) // 2 :], strict=True)
            inside = (slice(None), *[slice(*pair) for pair in ends][::-1])
            outside[inside] = 0
            assert not outside.any(), (layer, unit, box)
    assert alive


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_channels_and_random_signals_of_every_layer_equal_autograd(kind: str, name: str) -> None:
    ours, theirs = both(kind, name)
    for layer in theirs.outputs:
        output = ours.outputs[layer]
        signal = noise(*output.shape, seed=4)
        found = ours.signals(layer, signal.flip(0), [1, 0])
        want = theirs.project(layer, ours.in_module_layout(layer, signal))
        assert difference(found, want.flip(0)) <= EXACT, layer
        if output.dim() > 2 and layer not in maps_of(ours):
            continue
        channel = torch.zeros_like(output)
        channel[:, -1] = output[:, -1]
        found, _ = ours.units(layer, [Unit(image, output.shape[1] - 1) for image in (0, 1)])
        want = theirs.project(layer, ours.in_module_layout(layer, channel))
        assert difference(found, want) <= EXACT, layer


@pytest.mark.parametrize("method", ["gradient", "guided"])
@pytest.mark.parametrize(("kind", "name"), [("signal", "branches"), ("volume", "convolutions and pools")])
def test_gradients_of_every_layer_equal_autograd(kind: str, name: str, method: str) -> None:
    network, images = build(kind, name), noise(2, *SHAPES[kind])
    ours = passes.run(network, images, methods=[method]).by(method)
    theirs = PlainAutograd(network, images, mode=Guided() if method == "guided" else None)
    for layer in ours.values:
        output = ours.outputs[layer]
        signal = noise(*output.shape, seed=5)
        found = ours.signals(layer, signal, [0, 1])
        assert difference(found, theirs.project(layer, signal)) <= EXACT, layer


def changing(network: nn.Module, shape: Sequence[int], layer: str, place: tuple[int, ...]) -> tuple[int, ...]:
    """Return the box around the input positions that change a unit, by raising each one on its own."""
    lengths = shape[1:]
    image = 1 + torch.rand(tuple(shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    every = list(product(*map(range, lengths)))
    raised = image.repeat(len(every) + 1, *[1] * len(shape))
    for number, position in enumerate(every):
        raised[(number, slice(None), *position)] += 100  # the maximum of every window that contains it
    outputs: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda part, args, out: outputs.append(out))
    with torch.no_grad():
        network(raised)
    handle.remove()
    unit = outputs[0][(slice(None), *place)]
    changed = ((unit[:-1] - unit[-1]).abs() > 1e-9 * unit[-1].abs()).tolist()
    hit = [position for position, some in zip(every, changed, strict=True) if some]
    if not hit:
        return (0,) * (2 * len(lengths))
    ends = [(min(axis), max(axis) + 1) for axis in zip(*hit, strict=True)][::-1]
    return tuple(first for first, _ in ends) + tuple(past for _, past in ends)


WITHOUT_FIELDS = (
    "rows of a picture",
    "branches",
    "mean over time taken away",
    "unpooled",
    "adaptive maximum",
)


@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if case[1] not in WITHOUT_FIELDS])
def test_boxes_of_units_equal_the_positions_that_change_them(kind: str, name: str) -> None:
    network = positive(build(kind, name))
    ours = passes.run(network, torch.ones(1, *SHAPES[kind], dtype=torch.float64))
    layer = maps_of(ours)[-1]
    last = ours.tape.layouts[ours.values[layer]].channels_last
    places = positions(ours.outputs[layer].shape[2:])
    _, boxes = ours.units(layer, [unit_at(0, 0, place) for place in places])
    for place, box in zip(places, boxes, strict=True):
        index = (*place, 0) if last else (0, *place)
        assert box == changing(network, SHAPES[kind], layer, index), place


def test_receptive_fields_of_a_signal_and_a_video() -> None:
    signal = build("signal", "convolutions and pools")
    ours = passes.run(signal, noise(1, *SHAPES["signal"]))
    found = views(ours.tape)
    fields = {name: found[value].field for name, value in ours.values.items()}
    assert [(f.size, f.stride, f.first) for f in (fields["0"], fields["3"], fields["4"], fields["6"])] == [
        ((7,), (2,), (-3,)),
        ((11,), (4,), (-5,)),
        ((27,), (4,), (-5,)),
        ((31,), (8,), (-5,)),
    ]
    assert fields["10"] is None and found[ours.values["10"]].whole

    video = passes.run(build("volume", "maps after a mean over time"), noise(1, *SHAPES["volume"]))
    found = views(video.tape)
    field = found[video.values["5"]].field
    assert field is not None
    assert (field.size, field.stride, field.first, field.axes) == ((7, 7), (4, 4), (0, 0), (1, 2))


def test_windows_of_a_long_signal_are_short() -> None:
    """A unit of a long signal is projected in its receptive field alone."""
    network = seeded(
        lambda: nn.Sequential(nn.Conv1d(1, 2, 9), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(2, 2, 5))
    )
    ours = passes.run(network, noise(1, 1, 4000))
    seen: list[tuple[int, ...]] = []
    for step in ours.tape.steps:
        rule = step.rule
        assert rule is not None
        original = rule.project

        def watched(signal: Tensor, *rest: object, original: Callable[..., object] = original) -> object:
            seen.append(tuple(signal.shape))
            return original(signal, *rest)

        rule.project = watched  # type: ignore[method-assign,assignment]
    ours.units("3", [Unit(0, 1, x=500), Unit(0, 0, x=3)])
    assert max(shape[-1] for shape in seen) <= 28


W1, W3 = nn.Parameter(noise(4, 3, 3)), nn.Parameter(noise(4, 3, 2, 3, 2))
aten = torch.ops.aten
CHECKED = {
    "convolution of signals": (
        aten.convolution.default,
        [noise(2, 3, 14), W1, None, [2], [1], [1], False, [0], 1],
        1,
    ),
    "transposed convolution of volumes": (
        aten.convolution.default,
        [noise(2, 4, 3, 4, 3), W3, None, [1, 2, 2], [0, 1, 0], [1, 1, 1], True, [0, 1, 0], 1],
        3,
    ),
    "max pool of volumes": (
        aten.max_pool3d_with_indices.default,
        [noise(2, 2, 5, 6, 7), [2, 3, 3], [1, 2, 2]],
        3,
    ),
    "average pool of volumes": (aten.avg_pool3d.default, [noise(2, 2, 5, 6, 7), [2, 3, 2], [2], [1]], 3),
    "reflection of signals": (aten.reflection_pad1d.default, [noise(2, 2, 9), [3, 2]], 1),
    "replication of volumes": (aten.replication_pad3d.default, [noise(2, 2, 3, 4, 5), [1, 2, 0, 1, 2, 0]], 3),
    "linear interpolation": (aten.upsample_linear1d.default, [noise(2, 2, 7), [16], False, None], 1),
    "trilinear interpolation": (
        aten.upsample_trilinear3d.default,
        [noise(2, 2, 3, 4, 3), [6, 7, 5], False, None, None, None],
        3,
    ),
    "mean over time": (aten.mean.dim, [noise(2, 2, 4, 3, 5), [2]], 3),
    "one frame": (aten.select.int, [noise(2, 2, 4, 3, 5), 2, 1], 3),
    "rows and columns joined": (aten.view.default, [noise(2, 2, 4, 3, 5), [2, 2, 4, 15]], 3),
    "all axes joined": (aten.view.default, [noise(2, 2, 4, 3, 5), [2, 2, 60]], 3),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_rule_equals_the_vector_jacobian_product_in_windows(name: str) -> None:
    op, inputs, axes = CHECKED[name]
    found = dv.check_rule(op, inputs, axes=axes)
    assert found.support.value == "exact"
