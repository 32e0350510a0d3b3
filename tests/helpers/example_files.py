"""Scripts of the folder examples/, imported as modules or run once for all tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Import examples/NAME.py, which may import its neighbours."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


def run_once(factory: pytest.TempPathFactory, name: str, *arguments: str) -> tuple[Path, str]:
    """Run examples/NAME.py --quick once for all workers; return the folder of its files and its output."""
    of_worker = factory.getbasetemp()
    home = (of_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_worker) / f"example-{name}"
    home.mkdir(exist_ok=True)
    out, printed = home / "run", home / "printed.txt"
    with FileLock(home / "lock"):
        if not printed.exists():
            command = [sys.executable, EXAMPLES / f"{name}.py", "--quick", *arguments, "--out", out]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout, encoding="utf-8")
    return out, printed.read_text(encoding="utf-8")
