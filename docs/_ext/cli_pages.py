"""Sphinx extension: reference of the commands, made from the definitions that Typer reads.

A line ``<!-- commands: Look -->`` in a page is replaced by the commands of the help panel ``Look``, with the
options in their panels. General tools for Typer lose the panels, or print the help as a
terminal shows it.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.utils import get_params_from_function

from deconvviz.cli.app import app

MARK = re.compile(r"^<!-- commands: (.+) -->$", re.MULTILINE)
GENERAL = "Options"


def panels() -> dict[str, list[tuple[str, Callable[..., Any]]]]:
    """Return the commands of each help panel, as (name, function)."""
    found: dict[str, list[tuple[str, Callable[..., Any]]]] = {}
    for one in app.registered_commands:
        assert one.callback is not None
        found.setdefault(str(one.rich_help_panel), []).append(
            (one.name or one.callback.__name__, one.callback)
        )
    return found


def page(panel: str) -> str:
    """Return the reference of the commands of a panel as Markdown."""
    return "\n".join(_command(name, function) for name, function in panels()[panel])


def _command(name: str, function: Callable[..., Any]) -> str:
    arguments = [row for row in _parameters(function) if isinstance(row[2], ArgumentInfo)]
    options = [row for row in _parameters(function) if isinstance(row[2], OptionInfo)]
    text = inspect.getdoc(function) or ""
    usage = " ".join(["deconvviz", name, "[OPTIONS]", *(_metavar(*row[:3]) for row in arguments)])
    parts = [f"(cli-{name})=", f"## deconvviz {name}", *map(_paragraph, text.split("\n\n"))]
    parts.append(f"```text\n{usage}\n```")
    if arguments:
        parts.append(_table("argument", [(f"`{_metavar(*row[:3])}`", _help(*row[1:])) for row in arguments]))
    grouped: dict[str, list[tuple[str, str]]] = {}
    for row in options:
        panel = str(row[2].rich_help_panel or GENERAL)
        grouped.setdefault(panel, []).append((_flags(*row), _help(*row[1:])))
    for panel in sorted(
        grouped, key=lambda panel: panel == GENERAL
    ):  # as in --help, but general options last
        parts += [f"**{panel}**", _table("option", grouped[panel])]
    return "\n\n".join(parts) + "\n"


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield name, type, Typer's description and default of each parameter that the help shows."""
    for one in get_params_from_function(function).values():
        if not one.default.hidden:
            yield one.name, one.annotation, one.default, one.default.default


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the allowed values of a type, or nothing."""
    if typing.get_origin(kind) is typing.Literal:
        return tuple(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (types.UnionType, typing.Union, list):
        return tuple(choice for one in typing.get_args(kind) for choice in _choices(one))
    return ()


def _metavar(name: str, kind: Any, info: Any) -> str:
    return info.metavar or "|".join(_choices(kind)) or name.upper()


def _flags(name: str, kind: Any, info: Any, default: Any) -> str:
    plain = f"--{name.strip('_').replace('_', '-')}"
    flags = [flag for one in info.param_decls or (plain,) for flag in one.split("/")]
    is_flag = kind is bool or bool in typing.get_args(kind)
    value = "" if is_flag else f" {_metavar(name.strip('_'), kind, info)}"
    return ", ".join(f"`{flag}{value if flag.startswith('--') else ''}`" for flag in flags)


def _help(kind: Any, info: Any, default: Any) -> str:
    shown = info.show_default
    if isinstance(shown, str):
        return f"{info.help} *Default: {shown}.*"
    if shown and default is not None and default is not False:
        return f"{info.help} *Default: {default}.*"
    return str(info.help)


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head} | |", "|---|---|"]
    return "\n".join(lines + [f"| {one.replace('|', chr(92) + '|')} | {_text(two)} |" for one, two in rows])


def _text(text: str) -> str:
    """Return a help text as Markdown: options and file names are shown as code."""
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
    return re.sub(
        r"(?<![\w`-])(--[a-z][a-z-]*|[\w/.:-]+\.(?:json|npz|png|py|parquet|csv|html)(?::\w+)?)\b",
        r"`\1`",
        text,
    )


def _paragraph(text: str) -> str:
    codes = [line for line in text.splitlines() if line.startswith("Exit code")]
    if codes and codes == text.splitlines():
        return "\n".join(f"- {_text(line)}" for line in codes)
    return _text(text)


def _fill(app: Any, name: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda found: page(found[1]), source[0])


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    typer.echo("\n".join(map(page, panels())))
