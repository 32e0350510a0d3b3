"""The explorer with an atlas: links to its pages, and what the server gives of its folder."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import browser
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import NetworkError, OutputError
from deconvviz.scenes import scene
from deconvviz.web.explorer.atlas_pages import open_atlas
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.requests import Request
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker

pytest.importorskip("uvicorn")
from deconvviz.web.explorer.server import Server

pytestmark = pytest.mark.slow
LAYER, CHANNELS = "conv2_1", 4


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def site(net: dv.Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the four channels of a layer with the largest maximum."""
    home = tmp_path_factory.mktemp("atlas")
    found = dv.search(net, "scenes:8", [LAYER], workers=0)
    dv.atlas(found, home / "site", channels=CHANNELS)
    (home / "secret.html").write_text("a secret")
    (home / "site" / "unlisted.html").write_text("not a file of the atlas")
    (home / "site" / LAYER / "linked.html").symlink_to(home / "secret.html")
    return home / "site"


@pytest.fixture(scope="module")
def server(net: dv.Network, site: Path) -> Iterator[Server]:
    shelf = Shelf()
    shelf.add_scene(3)
    atlas = open_atlas(site)
    worker = Worker(Session([net], shelf, atlas=atlas))
    found = Server(worker, port=0, atlas=atlas)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join(timeout=20)
    worker.close()


def get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


def base(server: Server) -> str:
    """Return the path under which the page says that the atlas is."""
    _, _, text = get(server, f"/?token={server.token}")
    found = re.search(rb'data-atlas="([^"]+)"', text)
    assert found is not None
    return found[1].decode()


def channels_of(site: Path) -> list[int]:
    return sorted(int(path.stem) for path in (site / LAYER).glob("*.html") if path.stem.isdigit())


def test_state_has_the_pages_of_the_channels_of_the_atlas(net: dv.Network, site: Path) -> None:
    shelf = Shelf()
    shelf.add_scene(3)
    other = dv.load("minivgg", weights="random")
    session = Session([other, net], shelf, atlas=open_atlas(site))
    (state,) = session.answer(Request.of({"kind": "state"}))
    described = json.loads(json.dumps(state.body["atlas"]))
    assert described["networks"] == [1]
    assert len(channels_of(site)) == CHANNELS
    assert described["pages"] == {LAYER: {str(one): f"{LAYER}/{one}.html" for one in channels_of(site)}}
    assert str(site) not in json.dumps(described)


def test_every_file_of_the_atlas_is_served_unchanged(server: Server, site: Path) -> None:
    home = base(server)
    listed = json.loads((site / LAYER / "files.json").read_text())["files"]
    own = json.loads((site / "files.json").read_text())["files"]
    types = {".html": "text/html", ".css": "text/css", ".webp": "image/webp", ".json": "application/json"}
    for name in [*own, *listed]:
        status, headers, data = get(server, home + name)
        assert status == 200 and data == (site / name).read_bytes()
        assert headers["content-type"].startswith(types[Path(name).suffix])


def test_pages_have_the_headers_of_the_explorer_and_a_policy(server: Server) -> None:
    _, headers, _ = get(server, f"{base(server)}index.html")
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["x-content-type-options"] == "nosniff" and lower["referrer-policy"] == "no-referrer"
    policy = lower["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    own = f"http://127.0.0.1:{server.port}{base(server)}"
    assert "connect-src" not in policy and "http" not in policy.replace(own, "")


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html",
        "%2e%2e/secret.html",
        "..%2fsecret.html",
        "conv2_1/../../secret.html",
        "conv2_1/..%2f..%2fsecret.html",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "conv2_1/linked.html",
        "unlisted.html",
        "index.html%00.webp",
        "..\\secret.html",
        "",
        "conv2_1",
        "conv2_1/",
        "x" * 5000 + ".html",
    ],
)
def test_other_files_are_not_served(server: Server, path: str) -> None:
    status, _, data = get(server, base(server) + path)
    assert status in (403, 404) and b"secret" not in data and b"root:" not in data


def test_record_that_lists_files_outside_of_the_atlas_serves_none(site: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "site"
    shutil.copytree(site, copy, symlinks=True)
    (tmp_path / "secret.html").write_text("a secret")
    record = json.loads((copy / LAYER / "files.json").read_text())
    for name in (
        "../secret.html",
        f"{LAYER}/linked.html",
        "/etc/hostname.html",
        str(tmp_path / "secret.html"),
    ):
        record["files"][name] = {"bytes": 8, "sha256": ""}
    (copy / LAYER / "files.json").write_text(json.dumps(record))
    atlas = open_atlas(copy)
    assert atlas.read("index.html") is not None
    for name in record["files"]:
        found = atlas.read(name)
        assert found is None or b"secret" not in found[1]


def test_each_token_opens_its_own_part_only(server: Server) -> None:
    home = base(server)
    token = home.split("/")[2]
    assert token != server.token
    assert get(server, f"/?token={token}")[0] == 403
    for path in (f"/atlas/{server.token}/index.html", "/atlas/index.html", "/atlas//index.html", "/atlas/"):
        assert get(server, f"{path}?token={server.token}")[0] == 403
    assert get(server, f"{home}index.html", Host="evil.example")[0] == 403
    assert get(server, f"{home}index.html", Origin="http://evil.example")[0] == 403


def test_without_an_atlas_there_is_no_address(net: dv.Network) -> None:
    shelf = Shelf()
    shelf.add_scene(3)
    worker = Worker(Session([net], shelf))
    made = Server(worker, port=0)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        assert b'data-atlas=""' in get(made, f"/?token={made.token}")[2]
        assert get(made, f"{made.tokens.atlas_address}index.html")[0] == 404
    finally:
        made.stop()
        thread.join(timeout=20)
        worker.close()


def test_opened_card_links_its_page_if_the_atlas_has_one(server: Server, site: Path) -> None:
    with browser() as chromium:
        page = chromium.new_page()
        page.set_default_timeout(20_000)
        logged: list[str] = []
        answers: dict[str, int] = {}
        page.context.on("console", lambda message: logged.append(message.text))
        page.context.on("response", lambda one: answers.update({Path(one.url).name: one.status}))
        page.goto(server.address)
        page.locator(".explorer[aria-busy=false] .card").first.wait_for()
        page.get_by_label("layer", exact=True).select_option(label=LAYER)
        maps = dv.load("minivgg").record(scene(3).image, LAYER).activations(LAYER)[0]
        active = [channel for channel, values in enumerate(maps) if values.max() > 0]
        inside = next(one for one in active if one in channels_of(site))
        outside = next(one for one in active if one not in channels_of(site))
        for channel, links in ((inside, 1), (outside, 0)):
            page.get_by_label("channel", exact=True).fill(str(channel))
            page.keyboard.press("Enter")
            page.get_by_text(f"Where channel {channel} of {LAYER} answers").wait_for()
            page.locator(".explorer[aria-busy=false]").wait_for()
            page.locator(".card .open").first.click()
            assert page.locator("dialog a").count() == links
            if links:
                with page.context.expect_page() as opened:
                    page.locator("dialog a").click()
                atlas = opened.value
                atlas.wait_for_load_state("networkidle")
                assert answers[f"{inside}.webp"] == answers["style.css"] == 200
                assert f"channel {channel}" in atlas.locator("h1").inner_text()
                assert atlas.evaluate("getComputedStyle(document.body).margin") != "8px"  # not the default
                atlas.get_by_role("link", name=LAYER).first.click()
                atlas.wait_for_url("**/index.html*")
                assert atlas.evaluate("window.opener") is None
            page.keyboard.press("Escape")
        assert logged == []


def test_folder_without_an_atlas_is_an_error(net: dv.Network, site: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no folder .*missing: atlas=SITE takes a folder"):
        open_atlas(tmp_path / "missing")
    with pytest.raises(OutputError, match=r"no finished atlas in .*: there is no atlas\.json"):
        open_atlas(tmp_path)
    (tmp_path / "atlas.json").write_text('{"format": "deconvviz atlas 0", "layers": []}')
    with pytest.raises(OutputError, match="has the format 'deconvviz atlas 0' instead of"):
        open_atlas(tmp_path)
    for text in ("{}", "[]", '{"format": "deconvviz atlas 1", "identity": {}, "layers": 3}', "{"):
        (tmp_path / "atlas.json").write_text(text)
        with pytest.raises(OutputError, match="damaged"):
            open_atlas(tmp_path)


def test_atlas_of_another_network_is_refused_with_both_digests(site: Path) -> None:
    other = dv.load("minivgg", weights="random")
    shelf = Shelf()
    shelf.add_scene(3)
    with pytest.raises(NetworkError) as caught:
        Session([other], shelf, atlas=open_atlas(site))
    assert other.digest in str(caught.value) and dv.load("minivgg").digest in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--atlas", "nowhere"], "no folder nowhere: --atlas SITE takes a folder that deconvviz atlas made"),
        (["--atlas", "{empty}"], "there is no atlas.json. Make one with deconvviz atlas"),
        (["--atlas", "{site}", "--weights", "random"], "is of minivgg with the weights sha256:"),
    ],
)
def test_command_refuses_a_wrong_atlas(words: list[str], message: str, site: Path, tmp_path: Path) -> None:
    given = [word.format(empty=tmp_path, site=site) for word in words]
    done = CliRunner().invoke(app, ["explore", "--no-open", "--port", "0", "--model", "minivgg", *given])
    assert done.exit_code == 2 and message in " ".join(done.output.split())


def test_widget_names_the_page(net: dv.Network, site: Path) -> None:
    pytest.importorskip("anywidget")
    widget: Any = net.explore(scene(3).image, layer=LAYER, atlas=site)
    assert widget.atlas_folder == str(site)
    widget.close()
    rec = net.record(scene(3).image, LAYER)
    widget = rec.explore(atlas=site)
    assert widget.atlas_folder == str(site)
    widget.close()
    with pytest.raises(NetworkError):
        dv.load("minivgg", weights="random").explore(scene(3).image, atlas=site)
    widget = net.explore(scene(3).image)
    assert widget.atlas_folder == ""
    widget.close()
