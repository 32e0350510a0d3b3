"""The second implementation shares no code with the engine."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deconvviz

ROOM = Path(deconvviz.__file__).parent / "verification"
MODULES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")


def test_second_implementation_imports_only_torch_captum_and_itself() -> None:
    assert {"semantics", "guided", "passes", "with_captum"} <= set(MODULES)
    imported = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    own = {name for name in imported if name.startswith("deconvviz")}
    assert own <= {f"deconvviz.verification.{module}" for module in MODULES}
    others = {name.partition(".")[0] for name in imported - own} - sys.stdlib_module_names
    assert others <= {"torch", "captum"}


@pytest.mark.slow
def test_importing_the_second_implementation_does_not_import_the_engine() -> None:
    modules = ", ".join(f"deconvviz.verification.{module}" for module in MODULES)
    program = (
        f"import sys, {modules}\nsys.exit(any(name.startswith('deconvviz.engine') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
