"""What README says is run: its Python blocks, its shell lines, and every file in examples/.

A block that begins with a file's name is that file.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import deconvviz as dv
from deconvviz.scenes import scene

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"# (\w+\.py)\n")
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "train_minivgg.py")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the README's picture and files in it."""
    Image.fromarray(scene(1, size=300).image).save(tmp_path / "cat.jpg")
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.fromarray(scene(number).image).save(tmp_path / "photos" / f"{number}.jpg")
    for block in blocks("python"):
        if named := FILE.match(block):
            (tmp_path / named[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_screen_is_six_lines_of_python_and_two_of_shell():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 6
    assert len(blocks("sh")[0].splitlines()) == 2
    assert README.index("```python") < README.index("```sh") < 1500


def test_python_blocks_run_as_they_stand(folder, monkeypatch):
    pytest.importorskip("timm")
    real = dv.load

    def without_download(name="vgg19", weights="default", **options):
        downloads = not (name == "minivgg" or ".py:" in name)
        return real(name, "random" if downloads else weights, **options)

    monkeypatch.setattr(dv, "load", without_download)
    namespace = {}
    for block in blocks("python"):
        if not FILE.match(block):
            exec(compile(block, "README.md", "exec"), namespace)
    with Image.open(folder / "grid.png") as image:
        assert image.width > 1000
    assert (folder / "grid.json").exists() and (folder / "own.png").exists()
    assert (folder / "timm.png").exists() and (folder / "topnine.png").exists()
    assert namespace["found"].pictures == 64 and len(namespace["best"].shown["conv4_2"]) == 6
    assert namespace["net"].name == "my net" and namespace["net"].layers["0"].shape == (16, 30, 30)
    assert tuple(namespace["proj"].pixels.shape) == (2, 3, 96, 96)


def commands(block):
    """Ours, that need nothing but the files of the fixture."""
    return [
        line
        for line in block.splitlines()
        if line.startswith("deconvviz ") and "MANIFEST" not in line and "--address" not in line
    ]


SHELL = [lines for block in blocks("sh") if (lines := commands(block))]


@pytest.mark.parametrize("lines", SHELL, ids=lambda lines: lines[0])
def test_shell_lines_run(folder, lines):
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0] in ("project", "search"):
            words += ["--weights", "random"]
        done = subprocess.run([sys.executable, "-m", "deconvviz", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_pictures_and_links_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("family", ["squeezenet", "mobilenetv2", "segmentation.lraspp"])
def test_the_table_of_families_is_what_its_command_prints(family):
    command = [sys.executable, ROOT / "benchmarks" / "coverage.py", "--markdown", "--only", family]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, line, row = done.stdout.splitlines()
    assert row.startswith(f"| `{family}` | ")
    assert f"\n{head}\n{line}\n" in README and f"\n{row}\n" in README


def test_options_that_readme_names_exist():
    from typer.testing import CliRunner

    from deconvviz.cli.app import app

    there = "--install-completion --head "  # the second is Ray's
    for command in ("project", "search", "topnine", "check", "layers", "models", "demo"):
        there += CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")):
        there += " ".join(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert {option for option in named if option not in there} == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(folder, path):
    small = ["--scenes", "90"] if path.name == "parts.py" else []  # test_parts.py measures on 400
    done = subprocess.run([sys.executable, path, *small], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout
