"""timm's networks, built as timm builds them, and fetched from a stand-in for its hub on this machine."""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import Tensor

from deconvviz.errors import DownloadError, NetworkError, WeightsError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.expected_input import preprocessing_of_config
from deconvviz.models.providers import parse
from deconvviz.models.timm_models import build, load_network, preprocessing, timm_names

timm: Any = pytest.importorskip("timm")

NAME = "test_resnet"  # timm's own network for tests: 0.5 million parameters
TEXT = f"timm:{NAME}"
HUB_NAME = "timm/test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return build(parse(TEXT), seed=7).state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def refused(
    text: str, error: type[Exception] = NetworkError, weights: Any = "random", **arguments: Any
) -> str:
    with pytest.raises(error) as caught:
        load_network(parse(text, arguments), weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- random weights, and shapes


def test_random_weights_are_those_that_timm_draws() -> None:
    torch.manual_seed(3)
    theirs = timm.create_model(NAME).state_dict()
    before = torch.random.get_rng_state()
    module, info = load_network(parse(TEXT), "random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(module.state_dict(), theirs) and not module.training
    assert (info.network, info.spec, info.source) == (TEXT, "random", "random, seed 3")
    assert len(info.classes) == 1000 and info.classes[0] == "tench"
    assert not same(load_network(parse(TEXT), "random", seed=4)[0].state_dict(), theirs)


@pytest.mark.parametrize(
    "name", [NAME, "test_byobnet", "test_convnext", "test_nfnet", "resnet26d", "densenet121"]
)
def test_shapes_cost_nothing(name: str) -> None:
    meta = build(parse(f"timm:{name}"), device="meta")
    assert {tensor.device.type for tensor in [*meta.parameters(), *meta.buffers()]} == {"meta"}
    drawn = timm.create_model(name)
    assert {key: t.shape for key, t in meta.state_dict().items()} == {
        key: t.shape for key, t in drawn.state_dict().items()
    }


def test_arguments_are_timms() -> None:
    module, info = load_network(parse(TEXT, {"num_classes": 4, "in_chans": 1}), "random")
    assert module.num_classes == 4 and module.conv1[0].in_channels == 1  # type: ignore[index, union-attr]
    assert info.classes == () and info.preprocessing.mean == (0.5,)


def test_names_with_and_without_tags() -> None:
    names = timm_names()
    assert {"resnet26d", "resnet26d.bt_in1k", NAME} <= set(names) and len(names) == len(set(names)) > 1000


# --- what it refuses


def test_wrong_names() -> None:
    assert refused("timm:resnet26e").startswith(
        f"no network 'resnet26e' in timm {timm.__version__}; nearest: timm:"
    )
    assert "timm:resnet26d" in refused("timm:resnet26e")
    assert refused("timm:zzzzz").endswith("nothing is like it")
    assert refused("timm:") == "timm: which network? Give timm:NAME, such as timm:resnet26d"
    told = refused("timm:resnet50.nobody")
    assert told.startswith(f"no weights 'nobody' of resnet50 in timm {timm.__version__}: it has a1_in1k, ")
    assert refused("timm:convnext_tiny_in22ft1k") == (
        "timm has no network 'convnext_tiny_in22ft1k' any more: "
        "it is called timm:convnext_tiny.fb_in22k_ft_in1k now"
    )


def test_wrong_arguments() -> None:
    told = refused(TEXT, bogus=3)
    assert told.startswith(f"{TEXT} cannot be built with bogus=3: ") and "bogus" in told.partition(": ")[2]
    assert refused(TEXT, in_chans="many").startswith(f"{TEXT} cannot be built with in_chans='many': ")
    for name in ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        assert refused(TEXT, **{name: True}).startswith(f"{name} is no argument of the network: say it with ")


def test_timm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refused(TEXT) == (
        "timm: networks need the package timm, which is not installed: pip install 'deconvviz[timm]'"
    )


# --- weights from a file


def test_a_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        module, info = load_network(parse(TEXT), path)
        assert same(module.state_dict(), state) and (info.spec, info.source) == (str(path), str(path))


def test_a_file_says_how_many_classes(tmp_path: Path) -> None:
    five = build(parse(TEXT), classes=5).state_dict()
    torch.save(five, tmp_path / "a.pth")
    module, info = load_network(parse(TEXT), tmp_path / "a.pth")
    assert same(module.state_dict(), five)
    assert (info.classes, info.notes) == ((), ("5 classes, as the weights have",))


def test_files_that_do_not_fit(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({key: value for key, value in state.items() if key != "conv1.0.weight"}, tmp_path / "a.pth")
    assert f"a.pth does not fit {TEXT}: 1 tensor missing (conv1.0.weight)" in refused(
        TEXT, WeightsError, tmp_path / "a.pth"
    )
    told = refused(TEXT, WeightsError, tmp_path / "b.pth")
    assert told.startswith("no weights file") and told.endswith(
        f"(weights of {TEXT} by name: default, random)"
    )


# --- what it was evaluated with

LIKE = {
    "centre": "resnet26d",
    "tests at another size": "resnet10t.c3_in1k",
    "bilinear": "vgg11",
    "squash": "convnext_nano.d1h_in1k",
    "one size only": "vit_tiny_patch16_224",
    "border": "deepseek_vit_412m",
    "not square": "vit_base_patch16_sapiens2",
}


@pytest.mark.parametrize("name", [*LIKE.values(), NAME])
@pytest.mark.parametrize("shape", [(300, 400, 3), (500, 333, 3), (50, 70, 3), (97, 1200, 3)])
def test_bit_for_bit_what_timm_evaluates_with(name: str, shape: tuple[int, ...]) -> None:
    if not timm.is_model(name.partition(".")[0]):
        pytest.skip(f"this timm has no {name}")
    config = timm.get_pretrained_cfg(name).to_dict()
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config, use_test_size=True)
    )
    rgb = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours = preprocessing(parse(f"timm:{name}"))
    assert torch.equal(ours.apply(rgb), theirs(Image.fromarray(rgb)))
    assert Preprocessing.from_json(ours.to_json()) == ours


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (50, 50)])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.875])
@pytest.mark.parametrize("shape", [(90, 61, 3), (61, 90, 3), (30, 20, 3), (64, 48, 3)])
def test_every_way_to_crop_is_timms(
    mode: str, size: tuple[int, int], share: float, shape: tuple[int, ...]
) -> None:
    config = {"input_size": (3, *size), "crop_pct": share, "crop_mode": mode, "mean": (0.1, 0.5, 0.7)}
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config, use_test_size=True)
    )
    rgb = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    made = preprocessing_of_config(config)
    assert made.shape == (3, *size)
    assert torch.equal(made.apply(rgb), theirs(Image.fromarray(rgb)))


def test_arguments_change_what_it_reads() -> None:
    assert preprocessing(parse("timm:vit_tiny_patch16_224", {"img_size": 64})).shape == (3, 64, 64)
    assert preprocessing(parse("timm:vit_tiny_patch16_224", {"img_size": (64, 96)})).shape == (3, 64, 96)
    assert preprocessing(parse("timm:resnet26d", {"in_chans": 1})).shape == (1, 288, 288)
    five = preprocessing(parse("timm:resnet26d", {"in_chans": 5}))
    assert five.shape == (5, 288, 288) and not five.reads_images


# --- the hub


class Hub:
    """A stand-in for the hub: what it holds, how it behaves, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviour = "well"
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            body = hub.files.get(self.path)
            if body is None or hub.behaviour == "absent":
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if hub.files else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if hub.behaviour == "portal":
                body = b"<html>log in first</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if hub.behaviour != "portal":
                self.send_header("ETag", '"0123456789abcdef"')
                self.send_header("X-Repo-Commit", "a" * 40)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{serving.server_port}"
        point_at(hub.url, monkeypatch, tmp_path)
        yield hub
        serving.shutdown()
        thread.join()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As HF_ENDPOINT and HF_HOME do, which the client reads when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


def address(file: str = "model.safetensors") -> str:
    return f"/{HUB_NAME}/resolve/main/{file}"


def test_fetched_once_and_kept(
    hub: Hub, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files[address()] = save(state)
    module, info = load_network(parse(TEXT))
    assert same(module.state_dict(), state) and not module.training
    assert (info.spec, info.source, info.notes) == ("default", "timm test_resnet.r160_in1k", ())
    assert info.preprocessing.shape == (3, 160, 160)
    assert f"GET {address()}" in hub.asked and capsys.readouterr().out == ""
    hub.asked.clear()
    again, same_info = load_network(parse(f"{TEXT}.r160_in1k"))
    assert same(again.state_dict(), state) and same_info.source == info.source
    assert not [asked for asked in hub.asked if asked.startswith("GET")]


def test_what_was_kept_needs_no_connection(
    hub: Hub, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.files[address()] = save(state)
    load_network(parse(TEXT))
    point_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    assert same(load_network(parse(TEXT))[0].state_dict(), state)
    point_at(hub.url, monkeypatch, tmp_path)


def test_older_files_than_safetensors(hub: Hub, state: dict[str, Tensor]) -> None:
    stream = io.BytesIO()
    torch.save(state, stream)
    hub.files[address("pytorch_model.bin")] = stream.getvalue()
    assert same(load_network(parse(TEXT))[0].state_dict(), state)


def test_another_number_of_classes(hub: Hub, state: dict[str, Tensor]) -> None:
    hub.files[address()] = save(state)
    module, info = load_network(parse(TEXT, {"num_classes": 4}), seed=5)
    assert torch.equal(module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert info.notes == ("trained for 1000 classes, not 4: the classifier's weights are random, seed 5",)
    again, _ = load_network(parse(TEXT, {"num_classes": 4}), seed=5)
    assert same(again.state_dict(), module.state_dict())


WAYS = "give a file with weights=FILE, or take weights=random"


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        point_at(url, monkeypatch, tmp_path)
        told = refused(TEXT, DownloadError, "default")
    assert told == (
        f"the weights of {TEXT} could not be fetched from {url}/{HUB_NAME}: Connection refused; "
        f"nor does the cache have them: {WAYS}"
    )


@pytest.mark.parametrize("behaviour", ["absent", "portal"])
def test_a_hub_without_the_weights(hub: Hub, behaviour: str, state: dict[str, Tensor]) -> None:
    hub.files[address()] = save(state)
    hub.behaviour = behaviour
    told = refused(TEXT, DownloadError, "default")
    assert told.startswith(f"the weights of {TEXT} could not be fetched from {hub.url}/{HUB_NAME}: ")
    assert told.endswith(WAYS)


def test_broken_weights(hub: Hub, state: dict[str, Tensor]) -> None:
    hub.files[address()] = b"no safetensors at all"
    told = refused(TEXT, WeightsError, "default")
    assert told.startswith(f"the weights of {TEXT} from {hub.url}/{HUB_NAME} are broken, or do not fit it: ")
    assert told.endswith(WAYS)


def test_weights_of_another_network(hub: Hub) -> None:
    hub.files[address()] = save({"conv.weight": torch.zeros(3)})
    assert "are broken, or do not fit it: " in refused(TEXT, WeightsError, "default")


def test_a_network_that_was_never_trained() -> None:
    assert refused("timm:test_mambaout", WeightsError, "default") == (
        f"timm has no trained weights of test_mambaout: {WAYS}"
    )
