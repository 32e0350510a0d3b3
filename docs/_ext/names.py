"""Sphinx extension: how names and classes appear in the API reference.

Docstrings write `size` for an argument and `Recording.project` for a method, both between single backticks.
Both are shown as code, and the second is a link. A member of a public class that does not exist is a warning.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.domains.python import PyXRefRole

import deconvviz

MADE_BY_USERS = {
    "Unit",
    "Layer",
}  # frozen dataclasses that programs create; all others are returned by functions


class NameRole(PyXRefRole):
    """Reference to a Python object of any kind."""

    def create_xref_node(self) -> Any:
        self.refdomain, self.reftype = "py", "obj"
        return super().create_xref_node()


def _resolve(app: Any, env: Any, node: pending_xref, shown: nodes.Element) -> nodes.Element | None:
    """Link a public object that is named by its module, or a documented attribute. Show other names as code.

    Return None, which is a warning, for a member that a public class does not have.
    """
    if node.get("refdomain") != "py":
        return None
    *module, name = node["reftarget"].split(".")
    path = [name] if module[:1] == ["deconvviz"] and name in deconvviz.__all__ else [*module, name]
    if path[0] not in deconvviz.__all__:
        return shown
    public = getattr(deconvviz, path[0])
    if len(path) > 1 and not hasattr(public, path[1]) and path[1] not in inspect.get_annotations(public):
        return None if node["reftype"] == "obj" else shown
    found = env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"deconvviz.{path[0]}", node, shown
    )
    return found if found is not None else shown


def _escape(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Escape the star of a shape such as (K, *shape), which would begin emphasis."""
    lines[:] = [re.sub(r"(?<=[ (])\*(?=[a-z])", r"\\*", line) for line in lines]


def _signature(
    app: Any, what: str, name: str, found: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out the arguments of classes that only functions of the package create."""
    if what == "class" and dataclasses.is_dataclass(found) and found.__name__ not in MADE_BY_USERS:
        return "", None
    if (
        what == "class"
        and "Args:" not in (inspect.getdoc(found) or "")
        and found.__name__ not in MADE_BY_USERS
    ):
        return "", None
    return signature, returned


def _label(app: Any, tree: nodes.document) -> None:
    """Call the attributes of a class attributes; Sphinx calls them variables."""
    for name in tree.findall(nodes.field_name):
        if name.astext() == "Variables":
            name.children = [nodes.Text("Attributes")]


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.add_role("name", NameRole())
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _escape)
    app.connect("doctree-read", _label)
    return {"parallel_read_safe": True}
