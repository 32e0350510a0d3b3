"""timm's networks: built like timm builds them, and downloaded from a fake hub on this machine."""

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


def all_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def rejection(
    text: str, error: type[Exception] = NetworkError, weights: Any = "random", **arguments: Any
) -> str:
    with pytest.raises(error) as caught:
        load_network(parse(text, arguments), weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- random weights, and shapes


def test_random_weights_equal_timms() -> None:
    torch.manual_seed(3)
    theirs = timm.create_model(NAME).state_dict()
    before = torch.random.get_rng_state()
    module, info = load_network(parse(TEXT), "random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all_equal(module.state_dict(), theirs) and not module.training
    assert (info.network, info.spec, info.source) == (TEXT, "random", "random, seed 3")
    assert len(info.classes) == 1000 and info.classes[0] == "tench"
    assert not all_equal(load_network(parse(TEXT), "random", seed=4)[0].state_dict(), theirs)


@pytest.mark.parametrize(
    "name", [NAME, "test_byobnet", "test_convnext", "test_nfnet", "resnet26d", "densenet121"]
)
def test_meta_network_has_the_same_shapes(name: str) -> None:
    meta = build(parse(f"timm:{name}"), device="meta")
    assert {tensor.device.type for tensor in [*meta.parameters(), *meta.buffers()]} == {"meta"}
    drawn = timm.create_model(name)
    assert {key: t.shape for key, t in meta.state_dict().items()} == {
        key: t.shape for key, t in drawn.state_dict().items()
    }


def test_arguments_are_passed_to_timm() -> None:
    module, info = load_network(parse(TEXT, {"num_classes": 4, "in_chans": 1}), "random")
    assert module.num_classes == 4 and module.conv1[0].in_channels == 1  # type: ignore[index, union-attr]
    assert info.classes == () and info.preprocessing.mean == (0.5,)


def test_names_include_and_omit_tags() -> None:
    names = timm_names()
    assert {"resnet26d", "resnet26d.bt_in1k", NAME} <= set(names) and len(names) == len(set(names)) > 1000


# --- errors


def test_unknown_names_are_rejected_with_the_nearest() -> None:
    assert rejection("timm:resnet26e").startswith(
        f"no network 'resnet26e' in timm {timm.__version__}; nearest: timm:"
    )
    assert "timm:resnet26d" in rejection("timm:resnet26e")
    assert rejection("timm:zzzzz").endswith("no name is similar")
    assert rejection("timm:") == "no name after 'timm:'. Give timm:NAME, such as timm:resnet26d"
    message = rejection("timm:resnet50.unknown")
    assert message.startswith(
        f"no weights 'unknown' of resnet50 in timm {timm.__version__}: there are a1_in1k, "
    )
    assert rejection("timm:convnext_tiny_in22ft1k") == (
        "timm no longer has the network 'convnext_tiny_in22ft1k': "
        "it is now called timm:convnext_tiny.fb_in22k_ft_in1k"
    )


def test_invalid_arguments_are_rejected() -> None:
    message = rejection(TEXT, bogus=3)
    assert message.startswith(f"{TEXT} cannot be built with bogus=3: ")
    assert "bogus" in message.partition(": ")[2]
    assert rejection(TEXT, in_chans="many").startswith(f"{TEXT} cannot be built with in_chans='many': ")
    for name in ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        message = rejection(TEXT, **{name: True})
        assert message.startswith(f"{name} cannot be set as an argument of the network: use ")


def test_missing_timm_is_reported_with_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert rejection(TEXT) == (
        "timm is not installed: networks named timm:NAME need it. Run pip install 'deconvviz[timm]'"
    )


# --- weights from a file


def test_weights_are_loaded_from_a_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        module, info = load_network(parse(TEXT), path)
        assert all_equal(module.state_dict(), state) and (info.spec, info.source) == (str(path), str(path))


def test_number_of_classes_comes_from_the_file(tmp_path: Path) -> None:
    five = build(parse(TEXT), classes=5).state_dict()
    torch.save(five, tmp_path / "a.pth")
    module, info = load_network(parse(TEXT), tmp_path / "a.pth")
    assert all_equal(module.state_dict(), five)
    assert (info.classes, info.notes) == ((), ("5 classes, as in the weights",))


def test_unfitting_and_missing_files_are_rejected(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({key: value for key, value in state.items() if key != "conv1.0.weight"}, tmp_path / "a.pth")
    assert f"a.pth does not fit {TEXT}: 1 tensor missing (conv1.0.weight)" in rejection(
        TEXT, WeightsError, tmp_path / "a.pth"
    )
    message = rejection(TEXT, WeightsError, tmp_path / "b.pth")
    assert message.startswith("no weights file")
    assert message.endswith(f"(named weights of {TEXT}: default, random)")


# --- preprocessing

EXAMPLES = {
    "centre": "resnet26d",
    "a different test size": "resnet10t.c3_in1k",
    "bilinear": "vgg11",
    "squash": "convnext_nano.d1h_in1k",
    "one size only": "vit_tiny_patch16_224",
    "border": "deepseek_vit_412m",
    "not square": "vit_base_patch16_sapiens2",
}


@pytest.mark.parametrize("name", [*EXAMPLES.values(), NAME])
@pytest.mark.parametrize("shape", [(300, 400, 3), (500, 333, 3), (50, 70, 3), (97, 1200, 3)])
def test_preprocessing_equals_timms_bit_for_bit(name: str, shape: tuple[int, ...]) -> None:
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
def test_every_crop_mode_equals_timms(
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


def test_arguments_change_the_input_shape() -> None:
    assert preprocessing(parse("timm:vit_tiny_patch16_224", {"img_size": 64})).shape == (3, 64, 64)
    assert preprocessing(parse("timm:vit_tiny_patch16_224", {"img_size": (64, 96)})).shape == (3, 64, 96)
    assert preprocessing(parse("timm:resnet26d", {"in_chans": 1})).shape == (1, 288, 288)
    five = preprocessing(parse("timm:resnet26d", {"in_chans": 5}))
    assert five.shape == (5, 288, 288) and not five.reads_images


# --- the hub


class Hub:
    """Fake hub: its files, its behaviour and the requests that it received."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviour = "normal"
        self.requests: list[str] = []
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
            hub.requests.append(f"{self.command} {self.path}")
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
    """Set the hub and its cache, as HF_ENDPOINT and HF_HOME do when the client is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


def address(file: str = "model.safetensors") -> str:
    return f"/{HUB_NAME}/resolve/main/{file}"


def test_weights_are_downloaded_once_and_cached(
    hub: Hub, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files[address()] = save(state)
    module, info = load_network(parse(TEXT))
    assert all_equal(module.state_dict(), state) and not module.training
    assert (info.spec, info.source, info.notes) == ("default", "timm test_resnet.r160_in1k", ())
    assert info.preprocessing.shape == (3, 160, 160)
    assert f"GET {address()}" in hub.requests and capsys.readouterr().out == ""
    hub.requests.clear()
    again, same_info = load_network(parse(f"{TEXT}.r160_in1k"))
    assert all_equal(again.state_dict(), state) and same_info.source == info.source
    assert not [request for request in hub.requests if request.startswith("GET")]


def test_cached_weights_load_without_a_connection(
    hub: Hub, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.files[address()] = save(state)
    load_network(parse(TEXT))
    point_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    assert all_equal(load_network(parse(TEXT))[0].state_dict(), state)
    point_at(hub.url, monkeypatch, tmp_path)


def test_weights_are_read_from_older_pytorch_file(hub: Hub, state: dict[str, Tensor]) -> None:
    stream = io.BytesIO()
    torch.save(state, stream)
    hub.files[address("pytorch_model.bin")] = stream.getvalue()
    assert all_equal(load_network(parse(TEXT))[0].state_dict(), state)


def test_different_number_of_classes_gets_random_classifier(hub: Hub, state: dict[str, Tensor]) -> None:
    hub.files[address()] = save(state)
    module, info = load_network(parse(TEXT, {"num_classes": 4}), seed=5)
    assert torch.equal(module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert info.notes == ("trained for 1000 classes, not 4: the classifier's weights are random, seed 5",)
    again, _ = load_network(parse(TEXT, {"num_classes": 4}), seed=5)
    assert all_equal(again.state_dict(), module.state_dict())


ADVICE = "Give a file with weights=FILE, or use weights=random"


def test_unreachable_hub_raises_download_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        point_at(url, monkeypatch, tmp_path)
        message = rejection(TEXT, DownloadError, "default")
    assert message == (
        f"the weights of {TEXT} are not in the cache and could not be downloaded from {url}/{HUB_NAME}: "
        f"Connection refused. {ADVICE}"
    )


@pytest.mark.parametrize("behaviour", ["absent", "portal"])
def test_hub_without_the_weights_raises_download_error(
    hub: Hub, behaviour: str, state: dict[str, Tensor]
) -> None:
    hub.files[address()] = save(state)
    hub.behaviour = behaviour
    message = rejection(TEXT, DownloadError, "default")
    assert message.startswith(
        f"the weights of {TEXT} are not in the cache and could not be downloaded from {hub.url}/{HUB_NAME}: "
    )
    assert message.endswith(ADVICE)


def test_damaged_download_raises_weights_error(hub: Hub, state: dict[str, Tensor]) -> None:
    hub.files[address()] = b"not a safetensors file"
    message = rejection(TEXT, WeightsError, "default")
    assert message.startswith(f"the weights of {TEXT} from {hub.url}/{HUB_NAME} are damaged or do not fit: ")
    assert message.endswith(ADVICE)


def test_weights_of_another_network_are_rejected(hub: Hub) -> None:
    hub.files[address()] = save({"conv.weight": torch.zeros(3)})
    assert "are damaged or do not fit: " in rejection(TEXT, WeightsError, "default")


def test_network_without_trained_weights_is_rejected() -> None:
    assert rejection("timm:test_mambaout", WeightsError, "default") == (
        f"timm has no trained weights of test_mambaout. {ADVICE}"
    )
