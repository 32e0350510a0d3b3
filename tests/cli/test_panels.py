"""Grouping of commands in the help text and shared options."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from typer.testing import CliRunner

import deconvviz
from deconvviz.cli.app import app

CLI = Path(deconvviz.__file__).parent / "cli"


def test_help_groups_commands_in_panels() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).stdout
    panels: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.match(r"╭─ (\w+) ─", line):
            panels[title[1]] = []
        elif panels and (command := re.match(r"│ (\w+) ", line)):
            panels[list(panels)[-1]].append(command[1])
    assert panels.pop("Options") == []
    assert panels == {
        "Look": ["project", "explore", "demo"],
        "Dataset": ["search", "topnine"],
        "Trust": ["compare", "trust"],
        "Experiments": ["evolve", "invariance", "filters", "occlude", "correspond", "invert", "maximise"],
        "Share": ["report", "atlas", "remake"],
        "Network": ["layers", "models", "check"],
    }


def test_command_modules_do_not_import_each_other() -> None:
    for path in (CLI / "commands").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("deconvviz.cli.commands"), path


def test_shared_options_are_not_declared_in_command_modules() -> None:
    """Options with the same meaning in several commands belong in `support/options.py`."""
    shared = {"--model-arg", "--weights", "--device", "--memory", "--format", "--arrays", "--percentile"}
    shared |= {"--dpi", "--json", "--force", "--quiet", "--layer", "--columns", "--out", "--allow-code"}
    for path in (CLI / "commands").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option":
                names = {one.value for one in node.args if isinstance(one, ast.Constant)}
                assert not names & shared, path
