"""Files in the source distribution and the wheel that `scripts/build` writes into dist/."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from deconvviz import __version__

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
WHEEL, SDIST = DIST / f"deconvviz-{__version__}-py3-none-any.whl", DIST / f"deconvviz-{__version__}.tar.gz"
CODE_AND_DATA = {".py", ".safetensors", ".html", ".css", ".js", ".typed"}

FOLDERS = ("deconvviz", "tests", "docs", "examples", "benchmarks", "scripts")


def _files(folder: str) -> set[str]:
    """Return the files below a folder of the repository, without what tools leave there."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts)
    }


def _are_current() -> bool:
    """Return whether the archives exist and are newer than every file that should be in them."""
    if not (WHEEL.exists() and SDIST.exists()):
        return False
    made = SDIST.stat().st_mtime
    return all((ROOT / name).stat().st_mtime <= made for folder in FOLDERS for name in _files(folder))


pytestmark = pytest.mark.skipif(
    not _are_current(), reason="no archives of the current files: run scripts/build"
)


def test_wheel_has_the_package_and_nothing_else() -> None:
    names = set(zipfile.ZipFile(WHEEL).namelist())
    package = {name for name in names if not name.startswith(f"deconvviz-{__version__}.dist-info/")}
    assert package == _files("deconvviz")
    assert {Path(name).suffix for name in package} == CODE_AND_DATA
    assert f"deconvviz-{__version__}.dist-info/licenses/LICENSE" in names
    assert f"deconvviz-{__version__}.dist-info/entry_points.txt" in names


@pytest.mark.parametrize("folder", FOLDERS)
def test_sdist_has_every_file_of_a_folder(folder: str) -> None:
    with tarfile.open(SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert _files(folder) - names == set()
    assert {"README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "LICENSE", "noxfile.py"} <= names
