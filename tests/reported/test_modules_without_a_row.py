"""Modules that are not in the table of layers: the error message states why, not that they do not exist."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from helpers.oracles import Autograd, difference
from helpers.snapshots import Noise, left_as_it_was, pictures, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError


class Early(nn.Module):
    """Network that returns early for an empty image: the minimal reproduction of the reported bug."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.late, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stem(x)
        if not bool(x.any()):
            return y.new_zeros(len(x), 2, 4, 4)
        result: Tensor = self.head(torch.relu(self.late(y)))
        return result


class EarlyCascade(nn.Module):
    """Cascade that stops as soon as the map is below a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            if float(x.abs().amax()) < 1e-9:
                break
            x = x * stage(x).abs().mean() + stage(x - x.mean())
        return x


class EarlyExperts(nn.Module):
    """Network that chooses a submodule by the brightness of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.dark, self.bright = (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(3, 4, 3)),
        )
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.bright(x) if float(x.mean()) > 0.3 else self.dark(x))
        return result


class EarlyBoxes(nn.Module):
    """Network that returns a list of boxes, which is empty for an empty image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        y: Tensor = self.body(x)
        found = [self.boxes(y)] if float(x.abs().sum()) > 1 else []
        return y, found


LATE: list[tuple[Callable[[], nn.Module], str, str]] = [
    (Early, "stem", "late"),
    (Early, "stem", "head"),
    (EarlyCascade, "output", "stages.2"),
    (EarlyExperts, "head", "bright"),
    (EarlyExperts, "head", "bright.0"),
    (EarlyBoxes, "body", "boxes"),
]


def made(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


@pytest.mark.parametrize(("make", "early", "late"), LATE)
def test_layer_reached_only_by_a_real_image_is_recorded(
    make: Callable[[], nn.Module], early: str, late: str
) -> None:
    module, x = made(make), pictures(2)
    net = wrapped(module)
    assert late not in net.layers
    with left_as_it_was(module):
        rec = net.record(x, late)
    kept: list[Tensor] = []
    with (
        module.get_submodule(late).register_forward_hook(lambda *call: kept.append(call[2].detach().clone())),
        torch.no_grad(),
    ):
        module(x)
    assert torch.equal(rec.activations(late), kept[0])
    (layer,) = rec.layers
    assert layer.name == layer.module == late and layer.shape == tuple(kept[0].shape[1:])
    assert layer.kind == type(module.get_submodule(late)).__name__
    assert len(rec.strongest(late, 2)) == 2
    both = net.record(x, [early, late])
    assert [one.name for one in both.layers] == [early, late]
    assert torch.equal(both.activations(late), kept[0])


@pytest.mark.parametrize("late", ["late", "head"])
def test_layer_reached_only_by_a_real_image_is_projected_correctly(late: str) -> None:
    module, x = made(Early), pictures(2)
    net, oracle = wrapped(module), Autograd(module, x)
    rec = net.record(x, ["stem", late])
    for layer in ("stem", late):
        proj = rec.project(layer, [*rec.strongest(layer, 2), dv.Unit(1, 1, 2, 1)])
        for ours, unit in zip(proj.pixels, proj.units, strict=True):
            assert unit.y is not None and unit.x is not None
            theirs = oracle.unit(layer, unit.image, unit.channel, unit.y, unit.x)
            assert difference(ours, theirs) < 1e-5
    assert rec.boxes(late, [dv.Unit(0, 0, 1, 2)]) == [(2, 1, 7, 6)]
    assert rec.coverage(late).calls >= 2 and not rec.coverage(late).unsupported
    assert late in repr(rec) and f"<td>{late}</td>" in rec._repr_html_()
    direct = dv.project(net, x, late, k=2)
    assert torch.equal(direct.pixels, rec.project(late, rec.strongest(late, 2)).pixels)
    assert (
        str(direct.layer)
        == f"{late} (Conv2d): {5 if late == 'late' else 2} x 4 x 4, receptive field 5 px, stride 1 px"
    )


def test_layer_reached_only_by_a_real_image_raises_for_an_empty_one() -> None:
    net = wrapped(made(Early))
    for inputs in (torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8)):
        with pytest.raises(LayerError, match=r"late.*was not reached"):
            net.record(inputs, "late")
        with pytest.raises(LayerError, match=r"late.*was not reached"):
            net.record(inputs, ["stem", "late"])
    assert len(net.record(pictures(), "late")) == 1  # the error is not remembered


@dataclass
class Found:
    scores: Tensor


class Pair(NamedTuple):
    low: Tensor
    high: Tensor


class ReturnsOther(nn.Module):
    """Network with a module `part` that does not return a single tensor."""

    def __init__(self, give: Callable[[Tensor], Any], take: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.part = Part(give)
        self.head = nn.Conv2d(4, 2, 1)
        self.take = take

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.take(self.part(self.body(x))))
        return result


class Part(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(x)


NO_TENSOR: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    r"returns a tuple": (lambda x: (x, x + 1), lambda given: given[1]),
    r"returns a list": (lambda x: [x], lambda given: given[0]),
    r"returns a dict": (lambda x: {"out": x}, lambda given: given["out"]),
    r"returns an? OrderedDict": (lambda x: OrderedDict(out=x), lambda given: given["out"]),
    r"returns an? Pair": (lambda x: Pair(x, -x), lambda given: given.high),
    r"returns an? Found": (lambda x: Found(x), lambda given: given.scores),
}


@pytest.mark.parametrize("phrase", NO_TENSOR)
def test_message_for_a_module_without_a_tensor_states_the_returned_type(phrase: str) -> None:
    module = ReturnsOther(*NO_TENSOR[phrase])
    net = wrapped(module)
    assert "part" not in net.layers and "head" in net.layers
    check_message(net, "part", phrase)


def check_message(net: dv.Network, name: str, phrase: str, inputs: Tensor | None = None) -> None:
    """Check that every use of a module raises the same error, and that other layers are recorded."""
    x = pictures(2) if inputs is None else inputs
    uses: list[Callable[[], Any]] = [
        lambda: net.record(x, name),
        lambda: net.record(x, [net.layers.names[0], name]),
        lambda: dv.project(net, x, name),
        lambda: net.record(x, net.layers.names[0]).project(name),
    ]
    with left_as_it_was(net.module):
        for use in uses[:3]:
            with pytest.raises(LayerError, match=phrase) as error:
                use()
            assert name in str(error.value) and "no layer" not in str(error.value)
        with pytest.raises(LayerError) as error:
            uses[3]()
        assert "no layer" not in str(error.value)


def test_message_for_a_module_that_returns_none_states_it() -> None:
    module = ReturnsOther(lambda x: None, lambda given: torch.ones(1, 4, 1, 1))
    check_message(wrapped(module), "part", "returns a NoneType")


LOST: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "one number": (lambda x: x.mean(), lambda given: given.expand(1, 4, 2, 2)),
    "channels of the first image": (lambda x: x[0].mean((1, 2)), lambda given: given[None, :, None, None]),
    "squeezed": (lambda x: x.mean((2, 3))[:1].squeeze(), lambda given: given[None, :, None, None]),
    "sum over the batch": (lambda x: x.sum((0, 2, 3)), lambda given: given[None, :, None, None]),
}


@pytest.mark.parametrize("which", LOST)
def test_message_for_an_output_without_a_batch_states_it(which: str) -> None:
    module = ReturnsOther(*LOST[which])
    check_message(wrapped(module), "part", "returns a tensor without a batch dimension")


class Named(nn.Module):
    """Network with modules that have two names, one of them nested and one a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        self.first = self.features[0]
        self.all = self.features
        self.bag = nn.ModuleDict({"last": self.features[2]})

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.all(x)
        return result


@pytest.mark.parametrize(
    ("name", "other"),
    [("first", r"features\.0"), ("all", "features"), ("all.1", r"features\.1"), ("bag.last", r"features\.2")],
)
def test_message_for_a_second_name_of_a_module_states_the_first(name: str, other: str) -> None:
    net = wrapped(Named())
    assert name not in net.layers
    check_message(net, name, f"is another name of '?{other}'?")


class Blind(nn.Module):
    """Network with modules whose output does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.blind = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)
        self.table = nn.Embedding(6, 4)
        self.sizes = Part(lambda x: torch.ones(x.shape))
        self.behind = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        places = self.table(torch.arange(6)).T[:, None]
        return y + self.blind(torch.ones(1, 1, *x.shape[2:])) + places + self.behind(self.sizes(x))


@pytest.mark.parametrize("name", ["blind", "table", "sizes", "behind", "behind.0", "behind.1"])
def test_message_for_a_module_that_does_not_depend_on_the_image_states_it(name: str) -> None:
    check_message(wrapped(Blind()), name, "does not depend on the image")


class Unused(nn.Module):
    """Network with modules that never run, and containers that are never called themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)])
        self.heads = nn.ModuleDict({"used": nn.Conv2d(3, 2, 1), "spare": nn.Conv2d(3, 5, 1)})
        self.dropped = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.heads["used"](x)
        return result


@pytest.mark.parametrize("name", ["blocks", "heads", "heads.spare", "dropped", "dropped.0", "loss"])
def test_message_for_a_module_that_never_runs_states_it(name: str) -> None:
    check_message(wrapped(Unused()), name, "was not reached")


def test_message_for_an_unknown_name_states_that_it_does_not_exist() -> None:
    net = wrapped(Unused())
    for name in ("block", "heads.third", "blocks.2", "nothing"):
        with pytest.raises(LayerError, match=f"^no layer '{name}' in Unused"):
            net.record(pictures(), name)


def test_coverage_and_search_raise_for_a_module_without_a_tensor() -> None:
    module = ReturnsOther(*NO_TENSOR["returns a tuple"])
    net = wrapped(module)
    for use in (
        lambda: net.coverage("part"),
        lambda: dv.search(net, Noise(2), ["head", "part"], workers=0),
        lambda: net.layers.find("part"),
        lambda: net.layers["part"],
    ):
        with pytest.raises(LayerError) as error:
            use()
        assert "no layer" not in str(error.value) and "returns a tuple" in str(error.value)


def test_message_for_a_tuple_of_a_module_reached_only_by_a_real_image_states_its_type() -> None:

    class LatePair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pair = nn.Conv2d(3, 4, 1), Part(lambda x: (x, x))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.stem(x)
            return self.pair(y)[0] if bool(x.any()) else y

    net = wrapped(LatePair())
    with pytest.raises(LayerError, match="returns a tuple"):
        net.record(pictures(), "pair")
    with pytest.raises(LayerError, match="was not reached"):
        net.record(torch.zeros(1, 3, 8, 8), "pair")
