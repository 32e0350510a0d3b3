"""Messages of commands."""

from __future__ import annotations

import re
from typing import Any


def assert_error(result: Any, message: str) -> None:
    """Check for exit code 2, the message without traceback, and empty stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    error = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert message in error, error
    assert "Traceback" not in error
