"""HTML pages from templates: escaping, embedded styles, scripts and JSON, content security policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deconvviz.printable_names import printable

_UNSAFE_IN_SCRIPT = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def render(
    template: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    generated: Sequence[str] = (),
    images: str = "data:",
    style_files: str = "",
    connect: str = "",
    **values: Any,
) -> str:
    """Return a page that loads nothing from outside.

    Every value is escaped. Control characters and invisible marks are written as in `printable_names`, so
    that names cannot change the direction or the order of the text around them.

    Args:
        template: Name of a template that extends ``page.html``.
        styles: Names of style sheets in ``assets/``, which the page contains.
        scripts: Names of ES modules in ``assets/``, which the page contains. They import nothing. Names
            joined by ``+`` become one module.
        generated: Further style sheets as text, made for this page.
        images: Allowed sources of images, as in a content security policy.
        style_files: Allowed sources of style sheets besides those in `styles`.
        connect: Allowed targets of connections that scripts open; none by default.
        **values: Values for the template.
    """
    sheets = [*(asset(name) for name in styles), *generated]
    modules = [joined(names) for names in scripts]
    policy = {
        "default-src": "'none'",
        "img-src": images,
        "style-src": " ".join(filter(None, [style_files, *map(_source_of, sheets)])) or "'none'",
        "script-src": " ".join(map(_source_of, modules)) or "'none'",
        **({"connect-src": connect} if connect else {}),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return _environment().get_template(template).render(
        **values,
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        styles=[Markup(sheet) for sheet in sheets],
        scripts=[Markup(module) for module in modules],
    )  # fmt: skip


def joined(names: str) -> str:
    """Return the texts of assets whose names are joined by ``+``, one after the other."""
    return "".join(asset(name) for name in names.split("+"))


@cache
def asset(name: str) -> str:
    """Return the text of a style sheet or script in ``assets/``."""
    return (resources.files("deconvviz.web") / "assets" / name).read_text(encoding="utf-8")


def json_for_script(value: Any) -> Markup:
    """Return JSON for a ``<script type="application/json">`` element, which no value can close."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_UNSAFE_IN_SCRIPT.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def data_uri(kind: str, content: bytes) -> str:
    """Return a data URI, for example of kind ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _source_of(text: str) -> str:
    """Return the hash with which a content security policy allows an embedded style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("deconvviz.web"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["json_for_script"] = json_for_script
    return found


def _printable(value: Any) -> Any:
    """Escape control characters and invisible marks in text that is not markup."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
