"""Parsers for option values that typer cannot parse."""

from __future__ import annotations

import re
from typing import Any

import typer

from deconvviz.models.model_spec import read_value

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}  # powers of 2
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>[KMGT]?)(I?B)?", re.IGNORECASE)


def model_arguments(typed: list[str] | None) -> dict[str, Any]:
    """Return the values of --model-arg as keyword arguments for `load` and `sketch`."""
    arguments: dict[str, Any] = {}
    for one in typed or []:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE, such as width=32", param_hint="--model-arg")
        if name in arguments:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--model-arg")
        arguments[name] = read_value(value)
    return arguments


def no_layer(but: str = "") -> typer.BadParameter:
    """Return the error for a missing --layer. `but` names another way, such as ``, or use --layers all``."""
    return typer.BadParameter(f"name a layer (deconvviz layers lists them){but}", param_hint="--layer")


def read_size(text: str) -> int:
    """Return the number of bytes that a size such as 512M, 1.5G, 2GiB or 4096 stands for."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found["number"]) * (1 << _UNITS[found["unit"].upper()])) if found else 0
    if size < 1:
        raise typer.BadParameter(
            f"{text!r} is not a memory size: use bytes, or a number with K, M, G or T, such as 512M",
            param_hint="--memory",
        )
    return size
