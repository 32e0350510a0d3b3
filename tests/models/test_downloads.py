"""Downloads from a server on this machine that fails in different ways."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.named import listed, load_network
from torchvision import models

from deconvviz.errors import DownloadError
from deconvviz.models import minivgg
from deconvviz.models.downloads import cache_path
from deconvviz.models.torchvision_models import build

NAME = "squeezenet1_1"
ENTRY: Any = models.SqueezeNet1_1_Weights.IMAGENET1K_V1


@pytest.fixture(scope="module")
def payload() -> bytes:
    stream = io.BytesIO()
    torch.save(build(NAME, seed=7).state_dict(), stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def server(payload: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour = self.path.split("/")[1]
            if behaviour == "absent":
                self.send_error(404)
                return
            if behaviour == "failing":
                self.send_error(503)
                return
            if behaviour == "silent":
                return
            body = b"<html>log in first</html>" if behaviour == "portal" else payload
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if behaviour == "broken" else body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home" / "hub" / "checkpoints"


def serve(
    monkeypatch: pytest.MonkeyPatch, base: str, behaviour: str, payload: bytes, *, named: bool = True
) -> str:
    mark = hashlib.sha256(payload).hexdigest()[:8]
    url = f"{base}/{behaviour}/squeezenet1_1{'-' + mark if named else ''}.pth"
    monkeypatch.setattr(ENTRY.value, "url", url)
    return url


def test_weights_are_downloaded_once_and_cached(
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    payload: bytes,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = serve(monkeypatch, server, "whole", payload)
    assert listed(NAME).cached is None
    module, info = load_network(NAME)
    drawn = build(NAME, seed=7).state_dict()
    assert all(torch.equal(value, drawn[key]) for key, value in module.state_dict().items())
    assert (info.spec, info.source) == (
        "IMAGENET1K_V1",
        f"torchvision IMAGENET1K_V1 ({url.rpartition('/')[2]})",
    )
    assert info.classes[0] == "tench"
    printed = capsys.readouterr()
    assert printed.out == "" and url in printed.err

    monkeypatch.setattr(ENTRY.value, "url", url.replace(server, "http://127.0.0.1:9"))  # no server
    assert listed(NAME).cached == home / url.rpartition("/")[2]
    for spec in ("default", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"):
        assert load_network(NAME, spec)[1] == info


def test_download_without_progress_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, server: str, payload: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, server, "whole", payload)
    load_network(NAME, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("absent", "HTTP Error 404: Not Found"),
        ("failing", "HTTP Error 503: Service Unavailable"),
        ("silent", "[Rr]emote end closed connection without response"),
        ("broken", 'invalid hash value \\(expected "'),
        ("portal", 'invalid hash value \\(expected "'),
    ],
)
def test_failed_download_gives_advice_and_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, server: str, payload: bytes, home: Path, behaviour: str, reason: str
) -> None:
    url = serve(monkeypatch, server, behaviour, payload)
    with pytest.raises(DownloadError, match=reason) as caught:
        load_network(NAME, progress=False)
    message = str(caught.value)
    assert message.startswith(f"the weights of {NAME} could not be downloaded from {url}: ")
    place = home / url.rpartition("/")[2]
    assert f"Save the file as {place}, or give another file with weights=FILE, or use minivgg" in message
    assert message.endswith("which needs no download")
    assert "or give another file with --weights FILE, or use minivgg" in caught.value.on_command_line()
    assert list(home.iterdir()) == []
    assert listed(NAME).cached is None


@pytest.mark.parametrize("behaviour", ["broken", "portal"])
def test_damaged_download_without_hash_in_its_name_is_deleted(
    monkeypatch: pytest.MonkeyPatch, server: str, payload: bytes, home: Path, behaviour: str
) -> None:
    serve(monkeypatch, server, behaviour, payload, named=False)
    with pytest.raises(DownloadError, match="could not be downloaded"):
        load_network(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_unreachable_server_raises_download_error(
    monkeypatch: pytest.MonkeyPatch, payload: bytes, home: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        serve(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}", "whole", payload)
        with pytest.raises(DownloadError, match=r"\.pth: connection refused\. Save the file"):
            load_network(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_download_with_wrong_hash_is_rejected(
    monkeypatch: pytest.MonkeyPatch, server: str, home: Path
) -> None:
    serve(monkeypatch, server, "whole", b"something else")
    with pytest.raises(DownloadError, match="invalid hash value"):
        load_network(NAME, progress=False)
    assert list(home.iterdir()) == []


def test_damaged_file_in_the_cache_is_reported_and_kept(
    monkeypatch: pytest.MonkeyPatch, server: str, payload: bytes, home: Path
) -> None:
    serve(monkeypatch, server, "whole", payload)
    place = cache_path(ENTRY)
    place.parent.mkdir(parents=True)
    place.write_bytes(payload[:1000])
    with pytest.raises(DownloadError) as caught:
        load_network(NAME, progress=False)
    assert str(caught.value).startswith(
        f"the weights of {NAME} in the cache are damaged or are not plain tensors: {place}. Delete this file"
    )
    assert place.read_bytes() == payload[:1000]


def test_cache_that_cannot_be_created_raises_download_error(
    monkeypatch: pytest.MonkeyPatch, server: str, payload: bytes, home: Path
) -> None:
    home.parent.parent.write_text("a file where the folder should be")
    serve(monkeypatch, server, "whole", payload)
    with pytest.raises(DownloadError, match="not a directory"):
        load_network(NAME, progress=False)


def test_listed_models_have_size_and_cache_path() -> None:
    assert listed("vgg19").download_mb == pytest.approx(548.051)
    assert listed("squeezenet1_1").download_mb == pytest.approx(4.729)
    assert (listed("minivgg").download_mb, listed("minivgg").cached) == (0.0, minivgg.WEIGHTS)
    assert listed("vgg19").cached is None


def test_published_weights_without_classifier_load_with_a_note(
    monkeypatch: pytest.MonkeyPatch, server: str, home: Path
) -> None:
    """Like vgg16's IMAGENET1K_FEATURES: NaN in the classifier, and no class names."""
    state = build(NAME, seed=7).state_dict()
    state["classifier.1.weight"].fill_(float("nan"))
    stream = io.BytesIO()
    torch.save(state, stream)
    serve(monkeypatch, server, "whole", stream.getvalue())
    cache_path(ENTRY).parent.mkdir(parents=True)
    cache_path(ENTRY).write_bytes(stream.getvalue())
    monkeypatch.setattr(ENTRY.value, "meta", {**ENTRY.meta, "categories": None})
    _, info = load_network(NAME, progress=False)
    assert info.notes == (
        "the published weights contain NaN or infinity in classifier.1.weight",
        "1 tensor missing (classifier.1.weight): layers from classifier.1 on cannot be requested",
    )
    assert info.missing == ("classifier.1.weight",)
    assert info.classes == ()
