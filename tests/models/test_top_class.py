"""The class that a network gives an image: when it is claimed, its probability, and what else runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import UnitError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.top_class import TopClass, top_classes
from deconvviz.network import Origin
from deconvviz.scenes import scene

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg")


def _top(scores: list[float]) -> TopClass | None:
    (found,) = top_classes(torch.tensor([scores]), CLASSES)
    return found


def test_logits_become_probabilities() -> None:
    found = _top([1.0, 3.0, -2.0])
    want = math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(-2))
    assert found == TopClass("bee", 1, pytest.approx(want), 3.0)


def test_probabilities_and_their_logarithms_stay_as_they_are() -> None:
    shares = [0.2, 0.1, 0.7]
    assert _top(shares) == TopClass("cow", 2, pytest.approx(0.7), pytest.approx(0.7))
    logarithms = _top([math.log(share) for share in shares])
    assert logarithms is not None and logarithms.probability == pytest.approx(0.7)


def test_scores_of_classes_that_do_not_exclude_each_other_are_no_probabilities() -> None:
    found = _top([0.9, 0.8, 0.1])
    assert found == TopClass("ant", 0, None, pytest.approx(0.9))
    assert str(found) == "ant (score 0.9)"


@pytest.mark.parametrize("scores", [[math.nan, 1, 2], [math.inf, 1, 2], [2, 2, 1], [0, 0, 0]])
def test_nothing_is_claimed_without_one_highest_score(scores: list[float]) -> None:
    assert _top(scores) is None


def test_nothing_is_claimed_of_a_single_class() -> None:
    assert top_classes(torch.ones(2, 1), ["cat"]) == (None, None)


def test_half_precision_probabilities_need_not_add_up_exactly() -> None:
    shares = torch.softmax(torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)), 1).half()
    (found,) = top_classes(shares, [str(n) for n in range(1000)])
    assert found is not None and found.probability == float(shares.max())


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.97128, "97.1 %"), (0.5, "50 %"), (0.00123, "0.123 %"), (0.99949, ">99.9 %"), (1.0, ">99.9 %")],
)
def test_as_text(probability: float, text: str) -> None:
    assert str(TopClass("bee", 1, probability, 3.0)) == f"bee ({text})"


# --- from a recording


def test_it_is_the_class_of_a_bare_forward_pass(mini: dv.Network) -> None:
    images = [scene(seed).image for seed in range(4)]
    rec = mini.record(images, "conv2_1", scores=True)
    with torch.no_grad():
        scores = mini.module.eval()(rec.inputs)
    shares = torch.softmax(scores.double(), dim=1)
    for image in range(4):
        found = rec.top_class(image)
        index = int(scores[image].argmax())
        assert found is not None and (found.name, found.index) == (mini.classes[index], index)
        assert found.probability == pytest.approx(float(shares[image, index]), rel=1e-9)
    with pytest.raises(UnitError, match=r"^no image 4 in this recording: it has 4$"):
        rec.top_class(4)


def test_it_is_known_where_it_was_asked_for_or_costs_nothing(mini: dv.Network) -> None:
    image = scene(3).image
    assert mini.record(image, "conv2_1").top_class() is None
    assert mini.record(image, ["conv2_1", "output"]).top_class() is not None


def test_random_weights_have_no_opinion() -> None:
    assert dv.load("minivgg", "random").record(scene(3).image, "output", scores=True).top_class() is None


@pytest.mark.parametrize(
    ("origin", "trained"),
    [
        (Origin(None, None, "weights as given"), True),
        (Origin("default", None, "shipped"), True),
        (Origin("random", 3, "random, seed 3"), False),
        (
            Origin("default", 0, "timm", model=ModelSpec("timm", "test_resnet")),
            False,
        ),  # a classifier is drawn
        (Origin("default", 0, "made", model=ModelSpec("file", "make", file=Path("net.py"))), True),
        (Origin("random", 0, "made", model=ModelSpec("file", "make", file=Path("net.py"))), False),
        (Origin("no-head.pth", None, "no-head.pth", missing=("fc.weight",)), False),
    ],
)
def test_weights_that_were_drawn_or_are_missing_are_not_trained(origin: Origin, trained: bool) -> None:
    assert origin.trained == trained
    classes = tuple(map(str, range(12)))
    module = dv.load("minivgg").module
    assert dv.Network(module, size=96, classes=classes, origin=origin).gives_class_scores == trained


class _Counted(nn.Module):
    """Counts how often its head runs."""

    def __init__(self, head: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True)
        self.head = head
        self.runs = 0

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.conv(x))
        object.__setattr__(self, "runs", self.runs + 1)
        return self.head(x)


def _network(
    head: Callable[[Tensor], Any], classes: tuple[str, ...] = CLASSES
) -> tuple[dv.Network, _Counted]:
    torch.manual_seed(0)
    module = _Counted(head)
    return dv.Network(module, size=8, classes=classes), module


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def test_a_users_own_network() -> None:
    net, _ = _network(_mean)
    rec = net.record(torch.randn(2, 3, 8, 8), "conv", scores=True)
    assert {type(rec.top_class(0)), type(rec.top_class(1))} == {TopClass}


@pytest.mark.parametrize(
    ("head", "classes"),
    [
        (_mean, ()),
        (_mean, ("ant", "bee")),
        (lambda x: x, CLASSES),  # a map
        (lambda x: (_mean(x), x), CLASSES),  # several tensors
        (lambda x: {"logits": _mean(x)}, CLASSES),
        (lambda x: _mean(x)[0], CLASSES),  # the batch is lost
        (lambda x: _mean(x) * math.nan, CLASSES),
    ],
    ids=["no classes", "another number", "a map", "a tuple", "a dictionary", "no batch", "NaN"],
)
def test_outputs_that_are_no_class_scores(head: Callable[[Tensor], Any], classes: tuple[str, ...]) -> None:
    net, _ = _network(head, classes)
    assert net.record(torch.randn(1, 3, 8, 8), "conv", scores=True).top_class() is None


def test_the_head_does_not_run_unless_it_was_asked_for() -> None:
    net, module = _network(_mean)
    assert net.gives_class_scores
    inputs = torch.randn(1, 3, 8, 8)
    ran: list[bool] = []
    module.head = lambda x: ran.append(True) or _mean(x)
    net.record(inputs, "conv")
    assert not ran
    net.record(inputs, "conv", scores=True)
    assert ran == [True]


def test_an_error_behind_the_layers_asked_for_costs_the_class_alone() -> None:
    net, module = _network(_mean)
    assert net.gives_class_scores

    def broken(x: Tensor) -> Tensor:
        raise ValueError("the head is broken")

    module.head = broken
    rec = net.record(torch.randn(1, 3, 8, 8), "conv", scores=True)
    assert rec.top_class() is None and bool(rec.project("conv").pixels.any())


class _Spoils(nn.Module):
    """Overwrites in place, after its layer `product`, what the layer's signal is multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.product, self.calls = nn.Conv2d(3, 3, 3), nn.Identity(), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.full((3, 1, 1), 2.0)
        product = self.product(self.conv(x) * factor)
        factor.zero_()
        self.calls.add_(1)
        return _mean(product) + factor.sum()


def test_what_runs_after_the_last_layer_changes_no_projection_and_no_weight() -> None:
    torch.manual_seed(0)
    module = _Spoils()
    net = dv.Network(module, size=8, classes=CLASSES)
    inputs = torch.randn(2, 3, 8, 8)
    plain, scored = net.record(inputs, "product"), net.record(inputs, "product", scores=True)
    assert scored.top_class() is not None and float(module.calls.detach()) == 0
    units = plain.strongest("product", 3)
    assert torch.equal(plain.activations("product"), scored.activations("product"))
    assert torch.equal(plain.project("product", units).pixels, scored.project("product", units).pixels)
    assert bool(plain.project("product", units).pixels.any())
