"""Tests run in several processes: what a test prints must not end the whole run."""

from __future__ import annotations

import execnet
import pytest


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "plain é"])
def test_report_with_output_that_is_not_valid_utf8_can_be_sent(
    text: str, request: pytest.FixtureRequest
) -> None:
    report = pytest.TestReport(
        "test_x.py::test_x", ("test_x.py", 0, "test_x"), {}, "passed", None, "call", [("stderr", text)]
    )
    data = request.config.hook.pytest_report_to_serializable(config=request.config, report=report)
    sent = execnet.loads(execnet.dumps(data))
    (section,) = sent["sections"]
    assert section == ("stderr", text.encode("utf-8", "backslashreplace").decode("utf-8"))
