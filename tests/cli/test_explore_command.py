"""``deconvviz explore``: mistakes that are reported early, the address, and a clean end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytest.importorskip("uvicorn")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.png"], "no image 'missing.png'"),
        (["--model", "nonet"], "no network 'nonet'"),
        (["--model", "minivgg", "--layer", "conv9_9"], "no layer 'conv9_9' in minivgg"),
        (["--layer", "conv9_9"], "no layer 'conv9_9' in minivgg"),  # minivgg is the default without images
        (["--device", "gpu7"], "no device 'gpu7'"),
        (["--port", "70000"], "65535"),
        (["--host", "192.0.2.1", "--port", "0"], "Choose an address of this machine with --host ADDRESS"),
    ],
)
def test_mistakes_are_reported_without_starting(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["explore", "--no-open", *words])
    assert done.exit_code == 2 and message in done.output


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvviz.cli.commands import explore as module

    command = sys.modules[module.__module__] if callable(module) else module
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["explore", "--no-open", "--model", "minivgg"])
    assert done.exit_code == 2 and "pip install 'deconvviz[explore]'" in done.output


def test_own_pictures_come_before_those_of_a_search(tmp_path: Path) -> None:
    from deconvviz.cli.support.explore_run import Networks, open_session
    from deconvviz.loading import ModelRequest

    folder = tmp_path / "found"
    dv.search("minivgg", "scenes:3", "conv2_2", out=folder, workers=0)
    image = tmp_path / "own.png"
    Image.fromarray(scene(9).image).save(image)
    networks = Networks(ModelRequest.of("minivgg"), None, "cpu", False)
    session = open_session([str(image)], folder, networks, None)
    assert session.shelf.names[0] == "own.png" and len(session.shelf) == 4
    two = CliRunner().invoke(app, ["explore", "--no-open", str(folder), str(folder)])
    assert two.exit_code == 2 and "2 searches are given" in two.output


def test_port_in_use_is_reported_before_the_network_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = str(used.getsockname()[1])
        done = CliRunner().invoke(app, ["explore", "--no-open", "--port", port])
    assert done.exit_code == 2 and "Choose another port with --port N" in " ".join(done.output.split())
    assert "importing torch" not in done.output


@pytest.mark.slow
def test_page_is_served_until_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "deconvviz", "explore", "--port", "0", "--no-open"],
            stdout=stream, stderr=stream, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        for _ in range(600):
            if found := re.search(r"http://127\.0\.0\.1:(\d+)(/\?token=\S+)", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", found[2])
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    assert code == 0 and log.read_text().endswith("Ctrl-C ends it\n")
