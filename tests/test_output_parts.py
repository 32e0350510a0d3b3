"""Layers in dictionaries, tuples, lists and dataclasses that networks and modules return."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers.oracles import difference
from helpers.parts import Parts
from torch import Tensor, nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import LayerError
from deconvviz.methods.forward import Forward


class Pyramid(NamedTuple):
    low: Tensor
    high: Tensor


@dataclass
class Scores:
    logits: Tensor
    loss: Tensor | None = None


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """Dataclass and dictionary at once, without entries for None, as in Hugging Face's transformers."""

    logits: Tensor
    hidden: tuple[Tensor, ...] | None = None
    loss: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("logits", "hidden", "loss"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)


class Encoder(nn.Module):
    """Module that returns maps of two sizes, in any type."""

    def __init__(self, give: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.give = give

    def forward(self, x: Tensor) -> Any:
        low = torch.relu(self.first(x))
        return self.give(low, torch.relu(self.second(low)))


class Returns(nn.Module):
    """Network whose encoder and whose output can be of any type."""

    def __init__(
        self,
        give: Callable[[Tensor, Tensor], Any],
        low: Callable[[Any], Tensor],
        result: Callable[[Tensor, Tensor], Any] = lambda low, high: low,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(give)
        self.head = nn.Conv2d(6, 4, 3, padding=1)
        self.take, self.result = low, result

    def forward(self, x: Tensor) -> Any:
        low = self.take(self.encoder(x))
        return self.result(torch.relu(self.head(low)), low)


def made(*arguments: Any) -> nn.Module:
    torch.manual_seed(3)
    return Returns(*arguments).double().eval()


def network(module: nn.Module, **options: Any) -> dv.Network:
    return dv.Network(module, size=12, name="own", **options)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


INSIDE: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor], str, str]] = {
    "dictionary": (lambda a, b: {"low": a, "high": b}, lambda x: x["low"], "low", "high"),
    "numbered": (lambda a, b: {3: a, 5: b}, lambda x: x[3], "3", "5"),
    "tuple": (lambda a, b: (a, b), lambda x: x[0], "0", "1"),
    "list": (lambda a, b: [a, b], lambda x: x[0], "0", "1"),
    "named tuple": (Pyramid, lambda x: x.low, "low", "high"),
    "dataclass": (lambda a, b: Scores(a, b), lambda x: x.logits, "logits", "loss"),
    "model output": (lambda a, b: ModelOutput(a, (b,)), lambda x: x.logits, "logits", "hidden.0"),
    "nested": (
        lambda a, b: {"maps": [a, {"high": b}]}, lambda x: x["maps"][0], "maps.0", "maps.1.high",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", INSIDE)
def test_parts_of_an_inner_output_are_layers_and_equal_the_reference(kind: str) -> None:
    give, take, low, high = INSIDE[kind]
    net = network(made(give, take))
    assert [name for name in net.layers.names if name.startswith("encoder.") and "." in name] == [
        "encoder.first", "encoder.second", f"encoder.{low}", f"encoder.{high}",
    ]  # fmt: skip
    reference = Parts(net.module, images())
    names = [f"encoder.{low}", f"encoder.{high}"]
    rec = net.record(images(), names, methods=["gradient"])
    for name, path in zip(names, (low, high), strict=True):
        kept = reference.outputs[f"encoder/{path.replace('.', '/')}"]
        assert torch.equal(rec.activations(name), kept)
        for unit in (dv.Unit(0, 2, 3, 4), dv.Unit(1, 5, 0, 5)):
            index = (unit.image, unit.channel, unit.y, unit.x)
            (theirs,) = reference.unit(f"encoder/{path.replace('.', '/')}", *index)
            assert difference(rec.project(name, unit).pixels[0], theirs[unit.image]) < 1e-12
            leaf = images().requires_grad_(True)
            found = next(
                one
                for key, one in _flat(net.module.encoder(leaf.clone()))
                if key == path  # type: ignore[operator]
            )
            (gradient,) = torch.autograd.grad(found[index] ** 2 / 2, leaf)
            ours = rec.project(name, unit, method="gradient").pixels[0]
            assert difference(ours, gradient[unit.image]) < 1e-12
    assert net.layers[f"encoder.{low}"].field == (3, 3)
    assert (net.layers[f"encoder.{high}"].field, net.layers[f"encoder.{high}"].stride) == ((5, 5), (2, 2))
    assert rec.boxes(f"encoder.{high}", [dv.Unit(0, 0, 1, 2)]) == [(2, 0, 7, 5)]


def _flat(output: Any, path: str = "") -> list[tuple[str, Tensor]]:
    from helpers.parts import _tensors

    return [(name.lstrip("/").replace("/", "."), one) for name, one in _tensors(output, path)]


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], list[str]]] = {
    "dictionary": (lambda a, b: OrderedDict(out=a, aux=b), ["output.out", "output.aux"]),
    "tuple": (lambda a, b: (a, b), ["output.0", "output.1"]),
    "list of dictionaries": (
        lambda a, b: [{"low": a}, {"low": b, "size": 12}],
        ["output.0.low", "output.1.low"],
    ),
    "model output": (lambda a, b: ModelOutput(a.mean((2, 3)), (b,)), ["output.logits", "output.hidden.0"]),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_parts_of_the_networks_output_are_layers_and_equal_the_reference(kind: str) -> None:
    result, names = OUTPUTS[kind]
    net = network(made(lambda a, b: (a, b), lambda x: x[0], result))
    assert [layer.name for layer in net.layers if layer.is_output] == names
    reference = Parts(net.module, images())
    rec = net.record(images(), names)
    for name in names:
        path = name.removeprefix("output").replace(".", "/")
        assert torch.equal(rec.activations(name), reference.outputs[path])
        unit = dv.Unit(1, 2) if reference.outputs[path].dim() == 2 else dv.Unit(1, 2, 4, 7)
        place = [one for one in (unit.image, unit.channel, unit.y, unit.x) if one is not None]
        (theirs,) = reference.unit(path, *place)
        assert difference(rec.project(name, unit).pixels[0], theirs[1]) < 1e-12
    assert rec.project(names[0]).figure() is not None


class Twice(nn.Module):
    """Network that calls a module twice; the module returns two maps each time."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(lambda a, b: {"low": a, "high": b})
        self.to_three = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.encoder(x)
        again = self.encoder(torch.relu(self.to_three(first["low"])))
        return {"first": first["high"], "both": first["high"] + again["high"]}


def test_second_call_of_a_module_has_its_own_parts() -> None:
    torch.manual_seed(2)
    module = Twice().double().eval()
    net, reference = network(module), Parts(module, images())
    assert {"encoder.low", "encoder:2.low", "encoder:2.high", "output.both"} <= set(net.layers.names)
    for name, path in (("encoder:2.high", "encoder:2/high"), ("output.both", "/both")):
        (theirs,) = reference.unit(path, 0, 3, 2, 2)
        ours = net.record(images(), name).project(name, dv.Unit(0, 3, 2, 2)).pixels[0]
        assert difference(ours, theirs[0]) < 1e-12
    assert net.layers["output.first"].same_as == "encoder.high"


class Stages(nn.ModuleList):
    """List of modules that returns a list: its modules and its outputs have equal numbers."""

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self:
            x = stage(x)
            found.append(x)
        return found


class Numbered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = Stages([nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.stages(x)[-1]
        return result


def test_names_of_modules_do_not_change_if_a_part_has_the_same_name() -> None:
    net = network(Numbered().double())
    assert net.layers.names == [
        "stages.0", "stages.1", "stages.2", "stages[0]", "stages[1]", "stages[2]", "output",
    ]  # fmt: skip
    assert net.layers["stages.0"].kind == "Conv2d" and net.layers["stages[0]"].same_as == "stages.0"


class OwnOutput(nn.Module):
    """Network with a module called output that returns a dictionary, as the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.output = Encoder(lambda a, b: {"out": a})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.output(x)["out"] * 2}


def test_parts_of_the_network_and_of_its_module_output_have_different_names() -> None:
    net = network(OwnOutput().double())
    assert net.layers.names[-2:] == ["output.out", "(output).out"]
    x = images(1)
    rec = net.record(x, ["output.out", "(output).out"])
    assert torch.equal(2 * rec.activations("output.out"), rec.activations("(output).out"))


def test_errors_name_the_layers_that_are_parts() -> None:
    net = network(made(lambda a, b: {"low": a, "flag": torch.ones(2, 3), "sum": a.sum()}, lambda x: x["low"]))
    for name, message in {
        "encoder": r"^encoder of own returns a dict, not a single tensor: use encoder\.low$",
        "encoder.sum": r"^encoder\.sum of own is a tensor without a batch dimension, of shape \(\)$",
        "encoder.flag": r"^encoder\.flag of own does not depend on the image$",
        "encoder.lo": r"^no layer 'encoder\.lo' in own: nearest (is|are) encoder\.low",
    }.items():
        with pytest.raises(LayerError, match=message):
            net.record(images(), name)
    several = network(made(lambda a, b: (a, b), lambda x: x[0], lambda a, b: (a, b)))
    with pytest.raises(LayerError, match=r"^output of own returns a tuple.*: use output\.0, output\.1$"):
        several.layers.find("output")


def test_network_stops_after_the_requested_part() -> None:
    module = made(lambda a, b: {"low": a, "high": b}, lambda x: x["low"])
    calls: list[int] = []
    module.head.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    network(module).record(images(), "encoder.low")
    before = len(calls)  # the empty image of the layer table runs the whole network
    network(module).record(images(), "encoder.low")
    assert len(calls) == 2 * before == 2


def test_forward_passes_without_a_recording_find_parts() -> None:
    net = network(made(lambda a, b: {"low": a, "high": b}, lambda x: x["low"]))
    layer = net.layers["encoder.high"]
    found = Forward(net, {layer: lambda output: output.amax((2, 3))})(images())[layer]
    recorded = net.record(images(), layer).activations(layer).amax((2, 3))
    assert torch.allclose(found, recorded, rtol=1e-12)


def test_projections_of_parts_are_verified() -> None:
    net = network(made(lambda a, b: ModelOutput(a, (b,)), lambda x: x.logits))
    proj = net.record(images(), "encoder.hidden.0").project("encoder.hidden.0", [dv.Unit(1, 2, 3, 4)])
    assert dv.verify(net, proj).passed


FILE = """
import deconvviz as dv
import torch
from torch import nn
from torch.nn.functional import interpolate

class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return {"out": interpolate(self.body(x), size=x.shape[-2:], mode="bilinear")}

def make():
    torch.manual_seed(1)
    return dv.Network(Segmenter(), size=24, name="own", classes=["sky", "dog", "grass"])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from PIL import Image

    from deconvviz.scenes import scene

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    Image.fromarray(scene(7).image).save(tmp_path / "scene.png")
    return tmp_path


def test_project_command_writes_a_figure_of_a_part(folder: Path) -> None:
    asked = ["project", "scene.png", "--model", "own.py:make", "--layer", "output.out", "--top", "2"]
    result = CliRunner().invoke(app, [*asked, "--out", "out"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "scene-output.out.json", "scene-output.out.png",
    ]  # fmt: skip
    stored = json.loads((folder / "out" / "scene-output.out.json").read_text())
    assert stored["layer"] == {"name": "output.out", "module": "[out]"}
    again = ["project", "--from", "out/scene-output.out.json", "--allow-code", "--out", "again"]
    assert CliRunner().invoke(app, again).exit_code == 0
