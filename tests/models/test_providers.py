"""Providers of networks: which one a name belongs to, and how a new one is added."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import nn

import deconvviz as dv
from deconvviz.cli.support.completion import complete_layer, complete_model
from deconvviz.errors import NetworkError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.loading import ModelRequest, sketch
from deconvviz.models import providers
from deconvviz.models.initialization import build
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers import PROVIDERS, parse, provider_of
from deconvviz.models.providers.provider import LoadedModel, ModelProvider
from deconvviz.models.providers.shipped import Shipped
from deconvviz.models.providers.timm import Timm
from deconvviz.models.providers.torchvision import Torchvision
from deconvviz.models.providers.user_file import UserFile
from deconvviz.models.weights import WeightsInfo
from deconvviz.scenes import scene

MODELS = Path(dv.__file__).parent / "models"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("minivgg", Shipped),
        ("vgg19", Torchvision),
        ("vgg91", Torchvision),
        ("timm:resnet26d", Timm),
        ("timm:own.py", Timm),
        ("own.py:make", UserFile),
        ("own.py", UserFile),
    ],
)
def test_name_belongs_to_one_provider(text: str, kind: type[ModelProvider]) -> None:
    spec = parse(text)
    assert type(provider_of(spec)) is kind
    assert parse(spec.text) == spec


def test_only_user_files_run_code() -> None:
    assert [type(one) for one in PROVIDERS if one.runs_code] == [UserFile]


def test_unknown_kind_of_network_is_rejected() -> None:
    with pytest.raises(NetworkError, match="this version of deconvviz has no networks of the kind 'hub'"):
        provider_of(ModelSpec("hub", "vgg19"))


class Toy(ModelProvider):
    """A fifth provider, with everything that a provider needs."""

    registry: ClassVar[str] = "toy"
    form: ClassVar[str] = "toy:WIDTH"
    prefix: ClassVar[str] = "toy:"
    package: ClassVar[str | None] = "deconvviz"

    def parse(self, text: str) -> ModelSpec | None:
        return ModelSpec("toy", text.removeprefix("toy:")) if text.startswith("toy:") else None

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        return self._loaded(spec, None, "none", "no weights")

    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        return self._loaded(spec, seed, str(weights), f"random, seed {seed}")

    def names(self) -> tuple[str, ...]:
        return ("4", "8")

    def _loaded(self, spec: ModelSpec, seed: int | None, weights: str, source: str) -> LoadedModel:
        def construct(drawn: bool) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, int(spec.name), 3, padding=1), nn.ReLU())

        module = build(construct, seed=seed, device="meta" if seed is None else "cpu")
        preprocessing = Preprocessing.simple(32, (0.5,) * 3, (0.25,) * 3)
        return LoadedModel(module, WeightsInfo(spec.text, weights, source, preprocessing, ()), spec, seed)


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "PROVIDERS", (Toy(), *PROVIDERS))


@pytest.mark.usefixtures("with_toy")
class TestFifthProvider:
    def test_network_is_loaded_and_sketched(self) -> None:
        net = dv.load("toy:4", "random", seed=3)
        assert (net.name, net.origin.seed, net.origin.source) == ("toy:4", 3, "random, seed 3")
        assert net.digest == dv.load("toy:4", seed=3).digest != dv.load("toy:4", seed=4).digest
        assert sketch("toy:4").layers.to_json() == net.layers.to_json()
        assert net.record(scene(1).image, "1").project("1").pixels.shape == (4, 3, 32, 32)

    def test_projection_is_remade_from_its_manifest(self, tmp_path: Path) -> None:
        from PIL import Image

        Image.fromarray(scene(1).image).save(tmp_path / "scene.png")
        made = dv.load("toy:4", "random", seed=3).record(tmp_path / "scene.png", "1").project("1")
        made.save(tmp_path / "figure.png")
        assert json.loads((tmp_path / "figure.json").read_text())["network"]["model"]["registry"] == "toy"
        assert dv.remake(tmp_path / "figure.json").projection.pixels.equal(made.pixels)

    def test_messages_contain_its_form(self) -> None:
        with pytest.raises(NetworkError, match=r"^no network 'own:make': give toy:WIDTH, a name "):
            parse("own:make")
        with pytest.raises(NetworkError, match=r"^toy:4 takes no arguments \(a\): only timm:NAME"):
            parse("toy:4", {"a": 1})

    def test_shell_completes_its_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert complete_model("to") == ["toy:"] and complete_model("toy:") == ["toy:4", "toy:8"]
        typed: Any = type("Typed", (), {"params": {"model": "toy:4"}, "args": []})
        assert complete_layer(typed, "") == ["0", "1", "output"]


# --- model requests


def test_request_accepts_the_arguments_of_load() -> None:
    request = ModelRequest.of("timm:resnet26d", "random", arguments={"a": 1}, seed=2, device="auto")
    assert (request.spec, request.weights, request.seed) == (parse("timm:resnet26d", {"a": 1}), "random", 2)
    assert request.device != "auto"
    with pytest.raises(NetworkError, match="no network 'own:make'"):
        ModelRequest.of("own:make")


def test_layers_of_a_sketch_are_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    request = ModelRequest.of("minivgg", "random", seed=3)
    sketched = request.sketch()
    table = sketched.layers
    loaded = request.load(sketched)
    assert loaded.layers is table
    assert loaded.digest == request.load().digest and request.load().layers is not table
    assert {tensor.device.type for tensor in sketched.module.parameters()} == {"meta"}


def test_code_of_a_file_is_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.py"
    path.write_text("from torch import nn\ndef make():\n    print('run')\n    return nn.Conv2d(3, 2, 3)\n")
    request = ModelRequest.of(f"{path}:make", seed=5)
    sketched = request.sketch()
    assert request.load(sketched) is sketched and capsys.readouterr() == ("", "run\n")
    assert sketched.digest == dv.load(f"{path}:make", seed=5).digest


# --- options in messages

MESSAGES_WITH_FLAGS = {
    ("model_spec.py", "--model"),  # the options that request a network, for a shell
    ("model_spec.py", "--model-arg"),
    ("layer_names.py", "deconvviz layers --model "),
    ("user_code.py", "--model-arg NAME=VALUE"),  # of `on_command_line`
}


def test_messages_do_not_contain_flags() -> None:
    """Messages name an option as in Python; `on_command_line` replaces it by the flag."""
    found = set()
    for path in [*MODELS.rglob("*.py"), MODELS.parent / "loading.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found |= {
            (path.name, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "--" in node.value
            if id(node) not in docs
        }
    assert found == MESSAGES_WITH_FLAGS


def test_option_in_a_message_becomes_a_flag_on_the_command_line() -> None:
    timm = pytest.importorskip("timm")
    assert timm
    with pytest.raises(NetworkError) as caught:
        sketch("timm:test_resnet", {"pretrained": True})
    message = "pretrained cannot be set as an argument of the network: use "
    assert str(caught.value) == message + "weights=FILE"
    assert caught.value.on_command_line() == message + "--weights FILE"
