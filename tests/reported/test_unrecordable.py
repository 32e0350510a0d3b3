"""Modules that cannot be recorded raise when the network is made, with a reason and a suggestion."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from helpers.snapshots import composed, left_as_it_was, pictures, wrapped
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import NetworkError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit and torch.ao are deprecated

IMAGE = pictures()


def plain() -> nn.Module:
    return composed(["conv", "batch norm", "relu"]).eval()


@pytest.fixture(autouse=True)
def engine() -> Any:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = next(
        one for one in ("fbgemm", "x86", "qnnpack") if one in torch.backends.quantized.supported_engines
    )
    yield
    torch.backends.quantized.engine = before


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(plain(), (IMAGE,))


def statically_quantised() -> nn.Module:
    prepared = prepare_fx(plain(), quantization.get_default_qconfig_mapping(), IMAGE)
    prepared(IMAGE)
    return convert_fx(prepared)  # type: ignore[no-any-return]


class Quantising(nn.Module):
    """Module that quantises by a function call, without a quantised submodule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).dequantize()


class UserQuantize(torch.ao.nn.quantized.Quantize):
    """User class derived from a quantised module."""


def with_quantised_buffer() -> nn.Module:
    module = plain()
    module.register_buffer("table", torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8))
    return module


def saved_and_loaded() -> nn.Module:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), stream)
    stream.seek(0)
    return torch.jit.load(stream)  # type: ignore[no-any-return]


def _double(x: Tensor) -> Tensor:
    return 2 * x


SCRIPTED = r"is scripted or traced by torch\.jit.*Give the module that it was made from$"
EXPORTED = r"is a program of torch\.export.*Give the module that was exported$"
QUANTISED = r"is quantised.*work on integers.*Give the floating point module that it was made from$"
PREPARED = (
    r"is prepared for quantisation-aware training.*Give the floating point module that it was made from$"
)

UNRECORDABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "scripted": (lambda: torch.jit.script(plain()), SCRIPTED),
    "traced": (lambda: torch.jit.trace(plain(), IMAGE), SCRIPTED),
    "frozen": (lambda: torch.jit.freeze(torch.jit.script(plain())), SCRIPTED),
    "saved and loaded": (saved_and_loaded, SCRIPTED),
    "scripted in a wrapper": (lambda: nn.DataParallel(torch.jit.script(plain())), SCRIPTED),
    "scripted part": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(plain())), r"submodule 1\)"),
    "scripted function": (lambda: torch.jit.script(_double), SCRIPTED),
    "exported": (exported, EXPORTED),
    "exported, as a module": (lambda: exported().module(), EXPORTED),
    "exported part": (lambda: nn.Sequential(exported().module(), nn.Identity()), r"\(its submodule 0\)"),
    "traced to operations": (lambda: torch.fx.experimental.proxy_tensor.make_fx(plain())(IMAGE), EXPORTED),
    "dynamically quantised": (lambda: quantization.quantize_dynamic(plain(), {nn.Linear}), QUANTISED),
    "statically quantised": (statically_quantised, QUANTISED),
    "quantised by a function": (lambda: torch.fx.symbolic_trace(Quantising()), QUANTISED),
    "quantised buffer": (with_quantised_buffer, QUANTISED),
    "quantised part": (
        lambda: nn.Sequential(plain(), quantization.quantize_dynamic(plain(), {nn.Linear})),
        r"\(its submodule 1\.6\)",
    ),
    "quantised user class": (lambda: UserQuantize(0.1, 0, torch.quint8), QUANTISED),
    "prepared for training": (
        lambda: prepare_qat_fx(plain().train(), quantization.get_default_qat_qconfig_mapping(), IMAGE),
        PREPARED,
    ),
    "fake quantised by hand": (lambda: nn.Sequential(plain(), quantization.FakeQuantize()), PREPARED),
}


@pytest.mark.parametrize("name", UNRECORDABLE)
def test_network_of_an_unrecordable_module_raises(name: str) -> None:
    make, message = UNRECORDABLE[name]
    module = make()
    with pytest.raises(NetworkError, match=message) as error:
        dv.Network(module, size=8, name="mine")
    text = str(error.value)
    assert text.isprintable() and "cannot be recorded: it " in text and len(text) < 300


@pytest.mark.slow
def test_quantised_network_of_torchvision_raises() -> None:
    with pytest.raises(NetworkError, match=QUANTISED):
        dv.Network(torchvision.models.quantization.resnet18(quantize=True, weights=None))


NOT_MODULES: dict[str, tuple[Callable[[], Any], str]] = {
    "class": (lambda: nn.Identity, r"^Identity is a class, not a network: give an instance, Identity\("),
    "state dict": (lambda: plain().state_dict(), r"not an OrderedDict of weights: build the module, load"),
    "function": (
        lambda: _double,
        r"^a network must be a torch\.nn\.Module or a deconvviz\.Network, not function$",
    ),
    "path": (lambda: "net.pth", r"not str$"),
    "tensor": (lambda: torch.zeros(3), r"not Tensor$"),
    "nothing": (lambda: None, r"not NoneType$"),
    "list of modules": (lambda: [nn.Identity()], r"not list$"),
    "network": (lambda: wrapped(plain()), r"not Network$"),
}


@pytest.mark.parametrize("name", NOT_MODULES)
def test_network_of_something_else_than_a_module_raises(name: str) -> None:
    make, message = NOT_MODULES[name]
    with pytest.raises(NetworkError, match=message):
        dv.Network(make())


def test_submodule_that_becomes_quantised_later_raises_when_it_is_used() -> None:
    module = plain()
    net = wrapped(module)
    layer = net.layers.names[0]
    module[6] = quantization.quantize_dynamic(module, {nn.Linear})[6]
    for use in (
        lambda: net.layers,
        lambda: net.record(IMAGE, layer),
        lambda: net.coverage(),
        lambda: dv.search(net, "scenes:2", layer, workers=0),
    ):
        message = QUANTISED.replace("quantised.*", r"quantised \(its submodule 6.*")
        with pytest.raises(NetworkError, match=message):
            use()


ORDINARY: dict[str, Callable[[], nn.Module]] = {
    "symbolically traced": lambda: torch.fx.symbolic_trace(plain()),
    "prepared, with observers only": lambda: prepare_fx(
        plain(), quantization.get_default_qconfig_mapping(), IMAGE
    ),
    "with a functional layer": lambda: nn.Sequential(plain()[0], quantization.QuantStub(), nn.ReLU()),
    "traced in part": lambda: nn.Sequential(torch.fx.symbolic_trace(plain()[:2]), nn.ReLU()),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_traced_graph_that_calls_modules_can_be_recorded(name: str) -> None:
    module = ORDINARY[name]()
    net = wrapped(module)
    with left_as_it_was(module):
        names = net.layers.names
        assert len(names) > 2
        recording = net.record(IMAGE, names[0])
        assert recording.project(names[0], recording.strongest(names[0], 1)).pixels.any()


def test_floating_point_network_that_can_be_quantised_can_be_recorded() -> None:
    """Its additions are modules of torch.ao.nn.quantized that work on floating point numbers."""
    module = torchvision.models.quantization.resnet18(quantize=False, weights=None, num_classes=3)
    net = dv.Network(module, size=32)
    recording = net.record(pictures(size=32), "layer1.0")
    bare = torchvision.models.resnet18(weights=None, num_classes=3)
    bare.load_state_dict(module.state_dict())
    expected = dv.Network(bare, size=32).record(pictures(size=32), "layer1.0")
    assert torch.allclose(recording.activations("layer1.0"), expected.activations("layer1.0"), atol=1e-5)


FACTORIES = """
import torch
from torch import nn
from torch.ao import quantization

def plain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()

def scripted():
    return torch.jit.script(plain())

def traced():
    return torch.jit.trace(plain(), torch.rand(1, 3, 8, 8))

def loaded():
    return torch.jit.load("scripted.pt")

def exported():
    return torch.export.export(plain(), (torch.rand(1, 3, 8, 8),))

def module_of_exported():
    return exported().module()

def quantised():
    return quantization.quantize_dynamic(plain(), {nn.Linear})

def meta():
    with torch.device("meta"):
        return plain()

def meta_in_part():
    net = plain()
    net[0].to("meta")
    return net
"""


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("scripted", "it is scripted or traced by torch.jit, so that PyTorch runs it"),
        ("traced", "it is scripted or traced by torch.jit, so that PyTorch runs it"),
        ("loaded", "it is scripted or traced by torch.jit, so that PyTorch runs it"),
        ("exported", "it is a program of torch.export, whose operations do not belong to submodules"),
        (
            "module_of_exported",
            "it is a program of torch.export, whose operations do not belong to submodules",
        ),
        ("quantised", "it is quantised (its submodule 4): its operations work on integers"),
        ("meta", "has parameters without values (on the meta device): 0.weight, 0.bias"),
        ("meta_in_part", "has parameters without values (on the meta device): 0.weight, 0.bias"),
    ],
)
def test_command_line_exits_with_2_and_one_line_for_unrecordable_modules(
    factory: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(FACTORIES)
    if factory == "loaded":
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), "scripted.pt")
    torchvision.io.write_png(torch.zeros(3, 9, 9, dtype=torch.uint8), "image.png")
    for command in (
        ["project", "image.png", "--layer", "0", "--out", "out"],
        ["search", "scenes:2", "--layer", "0", "--out", "found"],
    ):
        result = CliRunner().invoke(app, [*command, "--model", f"own.py:{factory}", "--quiet"])
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.stderr.split())
        assert "Traceback" not in result.output and result.exception.__class__ is SystemExit
    assert not Path("out").exists() and not Path("found").exists()


@pytest.mark.parametrize("command", ["layers", "check"])
def test_layers_and_check_commands_exit_with_2_for_a_quantised_module(command: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FACTORIES)
    result = CliRunner().invoke(app, [command, "--model", f"{tmp_path / 'own.py'}:quantised"])
    assert result.exit_code == 2 and "it is quantised" in result.stderr


@pytest.mark.parametrize("name", ["program.pt2", "scripted.pt"])
def test_saved_programs_as_weights_raise(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "program.pt2":
        torch.export.save(exported(), path)
    else:
        torch.jit.save(torch.jit.script(plain()), path)
    (tmp_path / "own.py").write_text(FACTORIES)
    with pytest.raises(dv.DeconvvizError) as error:
        dv.load(f"{tmp_path / 'own.py'}:plain", weights=path)
    text = str(error.value)
    assert name in text and "program" in text and "state_dict" in text and text.isprintable()
