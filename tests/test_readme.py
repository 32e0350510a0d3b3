"""Run the Python blocks and shell lines of README and docs/, and every file in examples/.

A block that begins with a file name is written to that file. `models/test_minivgg.py` runs
`examples/train_minivgg.py`, `dataset_search/test_parts.py` runs `examples/parts.py`, and `tests/examples`
runs those with a page in `docs/stories`.
"""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"# (\w+\.py)\n")
RUN_ELSEWHERE = {"train_minivgg.py", "parts.py"}
NIGHTLY = {"film_training_lightning.py"}  # film_training.py is the same without Lightning
STORIES = {path.stem.replace("-", "_") + ".py" for path in (ROOT / "docs" / "stories").glob("*.md")}
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py") if path.name not in RUN_ELSEWHERE | STORIES
)


PAGES = {"README.md": README} | {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if "_build" not in page.parts
    and page.name != "write-a-rule.md"  # tests/engine/test_rule_check.py runs it
}


def blocks(language, page="README.md"):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def with_blocks(language):
    return [page for page in PAGES if blocks(language, page)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with the images and files that the pages use."""
    Image.fromarray(scene(1, size=300).image).save(tmp_path / "cat.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "beats").mkdir()
    np.save(tmp_path / "heart.npy", np.sin(np.arange(500) / 9) ** 15)
    for number in range(4):
        Image.fromarray(scene(number).image).save(tmp_path / "photos" / f"{number}.jpg")
        np.save(tmp_path / "beats" / f"{number}.npy", np.sin(np.arange(450) / (5 + number)) ** 15)
    for page in PAGES:
        for block in blocks("python", page):
            if named := FILE.match(block):
                (tmp_path / named[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_begins_with_six_lines_of_python_and_two_of_shell():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 6
    assert len(blocks("sh")[0].splitlines()) == 2
    assert README.index("```python") < README.index("```sh") < 1500


def test_readme_is_short():
    assert len(README.splitlines()) <= 100


WRITTEN = {
    "README.md": ["grid.png", "grid.json", "own.png", "topnine.png"],
    "docs/how-to/compare-methods.md": ["methods.png", "methods.npz"],
    "docs/how-to/judge-a-projection.md": ["trust.png", "trust.json", "trust.npz"],
    "docs/how-to/signals-and-volumes.md": ["heart.png", "fields.png", "nine.png"],
    "docs/how-to/use-your-network.md": ["own.png", "timm.png"],
    "docs/how-to/explore.md": ["chosen.png"],
    "docs/how-to/make-an-atlas.md": ["site-scenes/index.html", "site-scenes/pool1/index.html"],
    "docs/how-to/write-a-report.md": ["scene.html", "more.html"],
    "docs/how-to/search-a-dataset.md": ["found/top.parquet", "topnine.png"],
    "docs/how-to/occlusion.md": ["occluded/cat-relu4_2-occlusion.png", "occluded/cat-relu4_2-occlusion.npz"],
    "docs/how-to/filters.md": ["first-layer/filters.png", "first-layer/filters.parquet"],
    "docs/how-to/correspondence.md": ["parts/correspondence.png", "parts/correspondence.parquet"],
    "docs/how-to/inversion.md": ["inverted/cat-relu2_2-inversion-tv.png", "made-up/relu4_2-maximised.npz"],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks("python"))
def test_python_blocks_of_a_page_run(folder, monkeypatch, page):
    pytest.importorskip("timm")
    original = dv.load

    def without_download(name="vgg19", weights="default", **options):
        downloads = not (name == "minivgg" or ".py:" in name)
        return original(name, "random" if downloads else weights, **options)

    monkeypatch.setattr(dv, "load", without_download)
    namespace = {}
    for block in blocks("python", page):
        if not FILE.match(block):
            exec(compile(block, page, "exec"), namespace)
    for name in WRITTEN.get(page, []):
        assert (folder / name).exists(), name
    if page == "README.md":
        with Image.open(folder / "grid.png") as image:
            assert image.width > 1000
        assert len(namespace["found"].top("conv4_2", 42)) == 9
    if page == "docs/how-to/search-a-dataset.md":
        assert namespace["found"].image_count == 64 and len(namespace["best"].shown["conv4_2"]) == 6
    if page == "docs/how-to/choose-units.md":
        assert tuple(namespace["proj"].pixels.shape) == (2, 3, 96, 96)


def commands(block):
    """Return the deconvviz commands in a block that need only the files of the fixture."""
    return [
        line
        for line in block.splitlines()
        if line.startswith("deconvviz ")
        and not any(part in line for part in ("MANIFEST", "--address", "deconvviz explore"))
    ]


SHELL = {
    lines[0]: lines for page in PAGES for block in blocks("sh", page) if (lines := commands(block))
}.values()  # a block that is on two pages runs once


def arguments(line):
    """Return the arguments of a line, with random weights and less work where that saves much time."""
    words = shlex.split(line, comments=True)[1:]
    if words[0] in ("project", "search", "report"):
        words += ["--weights", "random"]
    if words[0] == "trust":
        words = [word.replace("scenes:20", "scenes:2") for word in words]
        words += ["--top", "2", *(() if "--methods" in words else ("--methods", "deconvnet,integrated"))]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("lines", SHELL, ids=lambda lines: lines[0])
def test_shell_lines_of_the_pages_run(folder, lines):
    """They run in this process, which saves the import of PyTorch; the next test runs some by themselves."""
    for line in lines:
        done = CliRunner().invoke(app, arguments(line))
        assert done.exit_code == 0, done.output
        assert done.stdout


@pytest.mark.slow
def test_shell_lines_of_readme_run_as_programs(folder):
    first = [line for block in blocks("sh") for line in commands(block)][:2]
    assert len(first) == 2
    for line in first:
        program = [sys.executable, "-m", "deconvviz", *arguments(line)]
        done = subprocess.run(program, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.fixture
def coverage(monkeypatch):
    """Namespace of the program that prints the table of families."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "coverage.py"))


def table(head):
    """Return the rows of the only table with this head and a column of differences, without that column."""
    pages, head = PAGES.values(), f"{head} difference |"
    found = [page.split(f"\n{head}\n", 1)[1] for page in pages if f"\n{head}\n" in page]
    assert len(found) == 1, f"{len(found)} pages have the table {head}"
    line, *rows = [row for row in found[0].split("\n\n")[0].splitlines() if row]
    assert set(line) == set("|- ")
    return [row.rsplit(" | ", 1)[0] + " |" for row in rows]


@pytest.mark.parametrize(
    "family",
    [
        pytest.param("squeezenet", marks=pytest.mark.nightly),
        pytest.param("mobilenetv2", marks=pytest.mark.nightly),
        pytest.param("segmentation.lraspp", marks=pytest.mark.slow),
    ],
)
def test_rows_of_the_table_of_families_equal_the_output_of_its_command(coverage, family, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["coverage.py", "--markdown", "--only", family])
    coverage["main"]()
    head, _, row = capsys.readouterr().out.splitlines()
    assert row.startswith(f"| `{family}` | ") and row in table(head)


@pytest.mark.nightly  # the test above covers the program, test_zoo.py covers the families
def test_whole_table_of_families_is_current(coverage, monkeypatch, capsys):
    pytest.importorskip("timm")
    monkeypatch.setattr(sys, "argv", ["coverage.py", "--markdown"])
    coverage["main"]()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) > 60 and [counts_of_boxes_removed(row) for row in table(head)] == [
        counts_of_boxes_removed(row) for row in rows
    ]


def counts_of_boxes_removed(row):
    """Return a row without its numbers of calls if they depend on how many boxes a detector finds."""
    family, networks, _, _, *others = row.split(" | ")
    return (family, networks, *others) if family.startswith("| `detection.") else row


def test_options_named_in_the_pages_exist():
    known = "--install-completion --head "  # the second is Ray's
    commands = [[one.name or one.callback.__name__] for one in app.registered_commands]
    for command in ([], *commands):
        known += CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout
    for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")):
        known += " ".join(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    named = {option for page in PAGES.values() for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)}
    assert {option for option in named if option not in known} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.nightly if path.name in NIGHTLY else ()) for path in EXAMPLES],
    ids=lambda path: path.name,
)
def test_examples_run(folder, path):
    if "lightning" in path.name:
        pytest.importorskip("lightning", reason="the extra 'lightning' is not installed")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout
