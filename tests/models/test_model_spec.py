"""Model specs: read from typed text, stored as literals, and read again."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.errors import NetworkError
from deconvviz.models.model_spec import ModelSpec, as_literals, from_literals, read_value
from deconvviz.models.providers import parse, provider_of


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("vgg19", ModelSpec("torchvision", "vgg19")),
        ("minivgg", ModelSpec("torchvision", "minivgg")),
        ("timm:resnet26d", ModelSpec("timm", "resnet26d")),
        ("timm:resnet26d.bt_in1k", ModelSpec("timm", "resnet26d.bt_in1k")),
        ("timm:", ModelSpec("timm", "")),
        ("nets/own.py:make", ModelSpec("file", "make", {}, Path("nets/own.py"))),
        ("C:\\nets\\own.py:make", ModelSpec("file", "make", {}, Path("C:\\nets\\own.py"))),
        ("a.py:b.py:make", ModelSpec("file", "make", {}, Path("a.py:b.py"))),
        ("own.py", ModelSpec("file", "", {}, Path("own.py"))),
        ("own.py:", ModelSpec("file", "", {}, Path("own.py"))),
    ],
)
def test_parse_reads_every_form(text: str, spec: ModelSpec) -> None:
    assert parse(text) == spec
    assert provider_of(spec).runs_code == (spec.registry == "file")
    assert spec.text.rstrip(":") == text.rstrip(":")


def test_parse_rejects_unknown_form() -> None:
    with pytest.raises(NetworkError) as wrong:
        parse("own:make")
    assert str(wrong.value) == (
        "no network 'own:make': give a name (see: deconvviz models), timm:NAME, or path/to/file.py:factory"
    )


def test_parse_accepts_arguments_for_timm_and_files_only() -> None:
    arguments = {"width": 3}
    assert parse("timm:vgg11", arguments).arguments == parse("a.py:f", arguments).arguments == arguments
    with pytest.raises(NetworkError, match=r"^vgg19 takes no arguments \(width\): only timm:NAME and"):
        parse("vgg19", arguments)
    for name in ("no name", "", 3):
        with pytest.raises(NetworkError, match="is not a valid argument name"):
            parse("timm:vgg11", {name: 1})  # type: ignore[dict-item]


def test_spec_has_short_title_and_command_line_options() -> None:
    spec = parse("my nets/own.py:make", {"width": 3, "kind": "a b", "text": "3"})
    assert spec.short == "own.py:make"
    assert shlex.split(spec.options) == [
        "--model", "my nets/own.py:make", "--model-arg", "width=3", "--model-arg", "kind=a b",
        "--model-arg", "text='3'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("32", 32), ("-1.5", -1.5), ("None", None), ("True", True), ("(3, 4)", (3, 4)), ("'3'", "3"),
        ("{'a': [1]}", {"a": [1]}), ("relu", "relu"), ("a b", "a b"), ("", ""), ("1 +", "1 +"),
        ("__import__('os')", "__import__('os')"), ("a\0b", "a\0b"), ("(" * 300, "(" * 300),
    ],
)  # fmt: skip
def test_typed_value_is_literal_or_text(typed: str, value: Any) -> None:
    assert read_value(typed) == value and type(read_value(typed)) is type(value)


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1), LITERALS, max_size=3))
def test_literals_round_trip(arguments: dict[str, Any]) -> None:
    stored = as_literals(arguments)
    assert stored is not None and all(isinstance(value, str) for value in stored.values())
    again = from_literals(stored)
    assert again == arguments and repr(again) == repr(arguments)


@given(st.text() | st.integers() | st.none() | st.tuples(st.integers(), st.text()))
def test_options_preserve_arguments(value: Any) -> None:
    words = shlex.split(parse("timm:x", {"a": value}).options)
    assert words[-2] == "--model-arg"
    assert read_value(words[-1].removeprefix("a=")) == value


def test_sets_are_stored_as_literals() -> None:
    assert from_literals(as_literals({"a": {3, 4}}) or {}) == {"a": {3, 4}}


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), set(), [1, print], {"a": int}, 1j])
def test_values_without_a_literal_are_not_stored(value: Any) -> None:
    assert as_literals({"good": 1, "bad": value}) is None


@pytest.mark.parametrize("stored", [{"a": "print()"}, {"a": 3}, {"a": "1 +"}, ["a"], {"a": "x"}])
def test_from_literals_rejects_other_values(stored: Any) -> None:
    with pytest.raises(ValueError):
        from_literals(stored)


def test_providers_do_not_import_torch() -> None:
    code = "import sys, deconvviz.models.providers; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
