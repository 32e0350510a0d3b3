"""`deconvviz search`: results, printed text, progress, resuming and errors."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.cli.support import progress as progress_module
from deconvviz.cli.support.progress import SearchProgress, duration, pace
from deconvviz.dataset_search import search as search_module
from deconvviz.dataset_search.progress import Progress
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow

COLUMNS = ["layer", "channel", "rank", "activation", "image", "y", "x", "x0", "y0", "x1", "y1"]
TABLES = ["top.parquet", "channels.parquet", "statistics.parquet", "images.parquet"]
FILES = [*TABLES, "skipped.csv", "manifest.json"]
MOSTLY_DEAD = """
import torch
from torch import nn

def make():
    first = nn.Conv2d(3, 12, 3)
    with torch.no_grad():
        first.bias[1:11] = -1000.0
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(12, 2, 3))
"""


def run(*arguments):
    return CliRunner().invoke(app, ["search", *map(str, arguments)])


def run_mini(source, out, *arguments):
    return run(source, "--model", "minivgg", "--workers", 0, "--out", out, *arguments)


def message_in(text):
    """Return a message as one line, without the box that Typer draws."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def assert_error(result, message, folder=None):
    """Check for exit code 2, the whole message without traceback, empty stdout and no output folder."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    error = message_in(result.stderr)
    assert error.endswith(message) or error.endswith(f"Error {message}"), error
    assert "Traceback" not in error
    if folder is not None:
        assert not folder.exists()


def rows(out):
    import pyarrow.parquet as pq

    return pq.read_table(out / "top.parquet").to_pylist()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folder with six scenes in two subfolders and two unreadable image files."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        place = folder / f"class-{number % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(scene(number).image).save(place / f"{number}.png")
    (folder / "class-0" / "empty.png").write_bytes(b"")
    (folder / "class-1" / "text.jpg").write_text("no image")
    return folder


@pytest.fixture
def interrupted(tmp_path):
    """Folder of an interrupted search with two of five batches done."""
    out = tmp_path / "interrupted"

    def stop(progress):
        if progress.done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_module.search(
            "minivgg", "scenes:40", ["conv1_2"], out=out, batch_size=8, workers=0, every=0, report=stop
        )
    return out


@pytest.mark.slow
def test_results_equal_a_full_sort_and_open_in_pandas_polars_and_duckdb(tmp_path):
    duckdb, pandas, polars = map(pytest.importorskip, ("duckdb", "pandas", "polars"))

    result = run_mini("scenes:40", tmp_path / "out", "--layer", "conv4_2", "-l", "pool1", "--top", 5)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(tmp_path / "out" / name) for name in FILES]
    path = str(tmp_path / "out" / "top.parquet")
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == COLUMNS == polars.read_parquet(path).columns
    assert len(frame) == 5 * (96 + 16)
    best = duckdb.sql(
        f"select image, activation from '{path}' where layer = 'conv4_2' and rank = 1"
    ).fetchall()
    network = dv.load("minivgg")
    recording = network.record([scene(number).image for number in range(40)], ["conv4_2", "pool1"])
    for layer in ("pool1", "conv4_2"):
        peaks = recording.activations(layer).flatten(2).amax(2).numpy()  # (40, C)
        order = np.argsort(-peaks, axis=0, kind="stable")[:5]
        found = frame[frame.layer == layer]
        expected = [f"scene-{number:06d}" for channel in order.T for number in channel]
        assert list(found.image) == expected
        np.testing.assert_allclose(
            found.activation, np.take_along_axis(peaks, order, axis=0).T.reshape(-1), rtol=1e-5
        )
    assert [image for image, _ in best] == list(
        frame[(frame.layer == "conv4_2") & (frame["rank"] == 1)].image
    )


def test_search_prints_a_summary(images, tmp_path):
    out = tmp_path / "out"
    result = run_mini(images, out, "-l", "conv4_2", "-l", "fc5", "--batch-size", 4)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert re.fullmatch(
        r"deconvviz: 8 images in \d+\.\d s, [\d.,]+/s \(reading [\d.,]+/s, network [\d.,]+/s; "
        r"(the network|reading|neither) is the limit.*\)",
        lines[0],
    )
    assert lines[1].startswith("deconvviz: 2 images skipped: class-0/empty.png")
    assert "; class-1/text.jpg" in lines[1]
    assert lines[-1] == f"Draw the figure: deconvviz topnine {out} --layer conv4_2"
    with open(out / "skipped.csv", newline="") as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == ["class-0/empty.png", "class-1/text.jpg"]


def test_json_describes_the_search_and_quiet_prints_paths_only(images, tmp_path):
    out = tmp_path / "out"
    result = run_mini(images, out, "--layers", "all", "--batch-size", 3, "--json")
    found = json.loads(result.stdout)
    assert set(found) == {
        "search", "files", "network", "source", "pictures", "top", "batch_size", "scaled_decoding",
        "layers", "skipped", "run", "next",
    }  # fmt: skip
    assert found["files"] == [str(out / name) for name in FILES]
    assert (found["network"], found["pictures"], found["top"], found["batch_size"]) == ("minivgg", 6, 9, 3)
    assert found["source"]["pictures"] == 8 and found["source"]["kind"] == "folder"
    assert [one["image"] for one in found["skipped"]] == ["class-0/empty.png", "class-1/text.jpg"]
    layers = {layer["name"]: layer["channels"] for layer in found["layers"]}
    assert layers["conv1_1"] == 16 and layers["conv4_2"] == 96 and layers["fc5"] == 64
    assert found["run"]["pictures"] == 8 and found["run"]["limit"] in ("reading", "the network")
    assert min(found["run"][name] for name in ("seconds", "reading_per_second", "network_per_second")) > 0
    assert found["next"] == f"deconvviz topnine {out} --layer conv4_2"
    quiet = run_mini(images, tmp_path / "quiet", "-l", "conv1_1", "--quiet")
    assert quiet.stderr == "" and len(quiet.stdout.splitlines()) == len(FILES)


def test_search_accepts_module_names_and_a_limit(tmp_path):
    module = dv.load("minivgg").layers.find("conv2_1").module
    assert run_mini("scenes:40@3", tmp_path / "a", "-l", module, "--limit", 7).exit_code == 0
    assert run_mini("scenes:7@3", tmp_path / "b", "-l", "conv2_1", "--batch-size", 7).exit_code == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert {row["layer"] for row in rows(tmp_path / "a")} == {"conv2_1"}


def test_results_do_not_depend_on_workers(tmp_path):
    for name, workers in (("a", 0), ("b", 2)):
        result = run(
            "scenes:20", "--model", "minivgg", "-l", "conv2_1", "--workers", workers,
            "--batch-size", 4, "--out", tmp_path / name,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_dead_channels_are_listed_and_topnine_needs_allow_code(tmp_path):
    path, out = tmp_path / "mostly_dead.py", tmp_path / "out"
    path.write_text(MOSTLY_DEAD)
    result = run("scenes:6", "--model", f"{path}:make", "-l", "1", "--workers", 0, "--out", out)
    assert result.exit_code == 0, result.output
    assert (
        "deconvviz: 1: 10 of 12 channels are dead (never above zero): 1, 2, 3, 4, 5, 6, 7, 8 ...\n"
        in result.stderr
    )
    following = f"deconvviz topnine {out} --layer 1 --allow-code"
    assert result.stderr.splitlines()[-1] == f"Draw the figure: {following}"
    drawn = CliRunner().invoke(app, [*following.split()[1:], "--out", str(tmp_path / "figure.png")])
    assert drawn.exit_code == 0, drawn.output
    assert (
        "deconvviz: only 2 of 16 channels are drawn: 1 has 12 channels, 10 of them dead (never above zero)\n"
        in drawn.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Invalid value for --layer: name a layer (deconvviz layers lists them), or use --layers all"),
        (
            ["-l", "conv1_1", "--layers", "all"],
            "Invalid value for --layers: cannot be combined with --layer",
        ),
        (
            ["--layers", "conv"],
            "Invalid value for --layers: must be all, not 'conv'. Name single layers with --layer",
        ),
        (
            ["-l", "conv3_5"],
            "deconvviz: no layer 'conv3_5' in vgg19: block 3 has conv3_1, conv3_2, conv3_3, conv3_4 "
            "(see: deconvviz layers --model vgg19)",
        ),
        (
            ["-l", "conv1_1", "--resume", "--force"],
            "Invalid value for --resume: cannot be combined with --force",
        ),
        (["-l", "conv1_1", "--address", "auto"], "Invalid value for --address: needs --engine ray"),
    ],
)
def test_mistake_is_reported_before_weights_are_loaded(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("deconvviz.loading.ModelRequest.load", None)
    assert_error(run("scenes:8", *arguments, "--out", tmp_path / "out"), message, tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--top", "0"),
        ("--limit", "0"),
        ("--batch-size", "0"),
        ("--workers", "-1"),
        ("--engine", "spark"),
        ("--device", "tpu"),
        ("--model", "vgg18"),
    ],
)
def test_invalid_option_value_is_rejected(tmp_path, monkeypatch, option, value):
    monkeypatch.setattr("deconvviz.loading.ModelRequest.load", None)
    result = run("scenes:8", "-l", "conv1_1", option, value, "--out", tmp_path / "out")
    assert result.exit_code == 2 and result.stdout == ""
    error = message_in(result.stderr)
    assert f"'{option}'" in error or f"'{value}'" in error
    assert "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "deconvviz: no source of images 'nowhere': nothing similar here"),
        (
            "scenes:none",
            "deconvviz: 'scenes:none' does not describe scenes: write scenes:COUNT or scenes:COUNT@SEED, for "
            "example scenes:1000@7",
        ),
        ("scenes:0", "deconvviz: 0 scenes requested: give a number from 1 to 10000000"),
    ],
)
def test_invalid_source_is_reported_before_weights_are_loaded(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deconvviz.loading.ModelRequest.load", None)
    assert_error(run(source, "-l", "conv1_1", "--out", "out"), message, tmp_path / "out")


def test_folder_without_readable_images_is_rejected(images, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_mini(tmp_path / "empty", tmp_path / "out", "-l", "conv1_1")
    assert result.exit_code == 2
    assert f"no images in {tmp_path / 'empty'} or its subfolders: 0 other files" in message_in(result.stderr)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes(b"bad")
    result = run_mini(tmp_path / "bad", tmp_path / "out", "-l", "conv1_1")
    assert result.exit_code == 2
    assert f"none of the 1 images in {tmp_path / 'bad'} could be read: bad.png" in message_in(result.stderr)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_strict_stops_at_the_first_unreadable_image(images, tmp_path):
    result = run_mini(images, tmp_path / "out", "-l", "conv1_1", "--strict")
    assert result.exit_code == 2 and result.stdout == ""
    error = message_in(result.stderr)
    assert "class-0/empty.png" in error and error.endswith(
        "Without --strict the image is skipped, counted and listed"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_ray_engine_without_ray_installed_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert_error(
        run_mini("scenes:8", tmp_path / "out", "-l", "conv1_1", "--engine", "ray"),
        "deconvviz: the engine ray needs Ray: pip install 'deconvviz[ray]'",
        tmp_path / "out",
    )


def test_out_inside_a_file_is_rejected(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert_error(
        run_mini("scenes:8", file / "out", "-l", "conv1_1"),
        f"deconvviz: cannot write into {file / 'out'}: {file} is a file, not a folder",
    )


def test_existing_search_is_kept_resumed_or_overwritten(tmp_path):
    out = tmp_path / "out"
    assert run_mini("scenes:8", out, "-l", "conv1_1").exit_code == 0
    first = (out / "top.parquet").read_bytes()
    assert_error(
        run_mini("scenes:9", out, "-l", "conv1_1"),
        f"deconvviz: {out} already contains a search. Overwrite it with --force, or choose another folder "
        "(--out FOLDER)",
    )
    again = run_mini("scenes:8", out, "-l", "conv1_1", "--resume")
    assert again.exit_code == 0, again.output
    assert f"deconvviz: the search in {out} is already complete\n" in again.stderr
    assert json.loads(run_mini("scenes:8", out, "-l", "conv1_1", "--resume", "--json").stdout)["run"] is None
    other = run_mini("scenes:8", out, "-l", "conv1_1", "--resume", "--top", 3)
    assert_error(
        other,
        f"deconvviz: cannot resume {out / 'manifest.json'}, which belongs to another search: top 9 before, "
        "3 now. Start again with --force, or choose another folder (--out FOLDER)",
    )
    assert (out / "top.parquet").read_bytes() == first
    assert run_mini("scenes:9", out, "-l", "conv1_1", "--force").exit_code == 0
    assert json.loads((out / "manifest.json").read_text())["pictures"] == 9


def test_interrupted_search_is_resumed_only_with_equal_options(interrupted, tmp_path):
    arguments_before = ("scenes:40", interrupted, "-l", "conv1_2")
    assert_error(
        run_mini(*arguments_before),
        f"deconvviz: {interrupted} contains an interrupted search: 2 of 5 batches are done. Continue with "
        "--resume, or start again with --force",
    )
    drawn = CliRunner().invoke(app, ["topnine", str(interrupted), "-l", "conv1_2"])
    assert_error(
        drawn,
        f"deconvviz: the search in {interrupted} is not finished: 2 of 5 batches are done. Repeat the same "
        "search with --resume",
    )
    for arguments, differs in (
        (("scenes:40", interrupted, "-l", "conv1_1"), "layers "),
        (("scenes:40", interrupted, "-l", "conv1_2", "--weights", "random"), "weights sha256:"),
        (("scenes:41", interrupted, "-l", "conv1_2"), "source sha256:"),
        ((*arguments_before, "--batch-size", 16), "batch size 8 before, 16 now"),
    ):
        result = run_mini(*arguments, "--resume")
        assert result.exit_code == 2 and result.stdout == ""
        error = message_in(result.stderr)
        assert (
            f"cannot resume {interrupted / 'checkpoint.npz'}, which belongs to another search: {differs}"
            in error
        )
        assert error.endswith("Start again with --force, or choose another folder (--out FOLDER)")
    resumed = run_mini(*arguments_before, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert f"deconvviz: resuming {interrupted}: 2 of 5 batches are done\n" in resumed.stderr
    assert "deconvviz: 24 images in " in resumed.stderr
    assert run_mini("scenes:40", tmp_path / "whole", "-l", "conv1_2", "--batch-size", 8).exit_code == 0
    assert rows(interrupted) == rows(tmp_path / "whole")
    assert sorted(path.name for path in interrupted.iterdir()) == sorted(FILES)


def test_resume_without_an_earlier_search_starts_from_the_beginning(tmp_path):
    result = run_mini("scenes:4", tmp_path / "out", "-l", "conv1_1", "--resume")
    assert result.exit_code == 0 and "resuming" not in result.stderr
    assert len(rows(tmp_path / "out")) == 16 * 4


FAILING = """
from torch import nn

class Failing(nn.Conv2d):
    def forward(self, x):
        if len(x) > 1:  # true only for batches of the search
            {failure}
        return super().forward(x)

def make():
    return nn.Sequential(Failing(3, 4, 3))
"""


def search_that_fails(folder, failure, *arguments):
    (folder / "failing.py").write_text(FAILING.format(failure=failure))
    return run(
        "scenes:40", "--model", folder / "failing.py:make", "-l", "0", "--out", folder / "out", *arguments
    )


def test_out_of_memory_suggests_a_smaller_batch_size(tmp_path):
    result = search_that_fails(tmp_path, "x.new_empty(1 << 56)", "--batch-size", 16)
    assert_error(
        result,
        "deconvviz: out of memory with batches of 16 images. Start again with --force and a smaller "
        "--batch-size",
    )


def test_unexpected_error_is_not_caught(tmp_path):
    result = search_that_fails(tmp_path, "raise RuntimeError('something else')")
    assert result.exit_code == 1 and str(result.exception) == "something else"


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_prints_how_to_resume(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "deconvviz", "search", "scenes:100000", "--model", "minivgg", "-l", "conv1_1",
        "--workers", "1", "--batch-size", "4", "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore SIGINT
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "checkpoint.npz").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # also to the workers, as a terminal does
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and stdout == ""
    assert "Traceback" not in stderr
    assert re.fullmatch(
        r"deconvviz: interrupted: \d+ of 25000 batches are saved in .*\. "
        r"Continue with the same command and --resume",
        stderr.splitlines()[-1],
    )
    assert [path.name for path in out.iterdir()] == ["checkpoint.npz"]


@pytest.fixture
def fixed_clock(monkeypatch):
    """Stop the clock, so that rates do not depend on the run time of a test."""
    now = time.monotonic()
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)


def reported(**numbers):
    return Progress(**{"total": 1000, "done": 250, "read": 250, **numbers, "begun": time.monotonic() - 10})


def test_progress_line_has_rates_time_left_and_the_limit(fixed_clock):
    progress = SearchProgress(more_workers=True, quiet=False)
    assert re.fullmatch(
        r"250 of 1,000 images, 25/s, about 30 s left; reading 50/s, network 100/s; "
        r"reading is the limit; increase --workers",
        progress.line(reported(readers=2, reading=10.0, looking=2.5)),
    )
    assert progress.line(reported(reading=2.5, looking=10.0)).endswith(
        "; reading 100/s, network 25/s; the network is the limit"
    )
    full = SearchProgress(more_workers=False, quiet=False)
    assert full.parts(reported(reading=10.0, looking=2.5)).endswith(
        "reading is the limit, but no core is free for more workers"
    )
    assert full.parts(reported(reading=1.0, looking=2.0)) == (
        "reading 250/s, network 125/s; neither is the limit: most of the time is start-up and data transfer"
    )
    assert "left" not in full.line(reported(done=1000, reading=1.0, looking=2.0))


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(capsys, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    one = Progress(total=100, begun=100.0)
    with SearchProgress(more_workers=False, quiet=False) as progress:
        for clock.now in (101.0, 103.0, 105.0, 112.9, 113.1, 120.0, 123.2):
            one.done = one.read = int(clock.now) - 100
            one.reading, one.looking = 1.0, 2.0
            progress(one)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["deconvviz: 3", "deconvviz: 13", "deconvviz: 23"]
    assert progress.last is one and progress.seconds == pytest.approx(23.2)
    with SearchProgress(more_workers=False, quiet=True) as progress:
        progress(one)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar_with_both_rates(monkeypatch, fixed_clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    with SearchProgress(more_workers=True, quiet=False) as progress:
        progress(reported(skipped=3, reading=10.0, looking=2.5))
    drawn = message_in(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()))
    assert "250/1000 25/s, 3 skipped 30 s left" in drawn
    assert "reading 25/s, network 100/s; reading is the limit; increase --workers" in drawn


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min"),
        (float("nan"), "?"),
    ],
)  # fmt: skip
def test_duration_as_text(seconds, text):
    assert duration(seconds) == text


def test_pace_as_text():
    assert [pace(rate) for rate in (0.123, 9.87, 10.4, 12345.6)] == ["0.12/s", "9.9/s", "10/s", "12,346/s"]


def test_failed_start_does_not_block_a_new_search(tmp_path):
    """The first checkpoint is written before the first image is read, so it contains no results."""
    out = tmp_path / "out"
    failed = run_mini("scenes:8", out, "-l", "conv1_1", "--engine", "ray", "--address", "127.0.0.1:1")
    assert failed.exit_code == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in failed.stderr
    assert run_mini("scenes:8", out, "-l", "conv1_1").exit_code == 0
    assert {path.name for path in out.iterdir()} == set(FILES)


def test_scaled_decoding_is_reported_and_resumed_only_with_the_option(tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(scene(seed, size=400).image).save(folder / f"{seed}.jpg")
    arguments = (folder, out, "-l", "conv1_2")
    result = run_mini(*arguments, "--scaled-decoding", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scaled_decoding"] is True
    scaled = rows(out)
    assert_error(
        run_mini(*arguments, "--resume"),
        f"deconvviz: cannot resume {out / 'manifest.json'}, which belongs to another search: scaled decoding "
        "on before, off now. Start again with --force, or choose another folder (--out FOLDER)",
    )
    again = run_mini(*arguments, "--resume", "--scaled-decoding")
    assert again.exit_code == 0 and "is already complete" in again.stderr
    drawn = CliRunner().invoke(app, ["topnine", str(out), "-l", "conv1_2", "--out", str(tmp_path / "a.png")])
    assert drawn.exit_code == 0, drawn.output
    assert json.loads((tmp_path / "a.json").read_text())["scaled_decoding"] is True
    assert run_mini(*arguments, "--force", "--json").exit_code == 0
    assert rows(out) != scaled
    assert json.loads((out / "manifest.json").read_text())["scaled_decoding"] is False
