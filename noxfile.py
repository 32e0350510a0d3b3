"""Tests with every supported Python, and with the lowest versions of the dependencies.

    nox                            # every Python that is installed here
    nox -s tests-3.12              # one of them; arguments after -- go to pytest
    nox -s lowest                  # the lowest versions that pyproject.toml allows

uv makes the environments (`pip install nox uv`). Each has a copy of PyTorch.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]
FAST = ("-m", "not slow")


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the fast tests with one Python, or what the arguments name."""
    session.install(".[test]")
    session.run("pytest", *(session.posargs or FAST))


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the fast tests with the lowest versions of the direct dependencies.

    Their deprecation warnings are not errors here, because later versions have mended them.
    """
    tools = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100")
    session.install("--resolution", "lowest-direct", ".[timm,explore,notebook]", *tools)
    session.run("pytest", "-W", "default", *(session.posargs or FAST))
