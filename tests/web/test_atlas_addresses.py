"""Addresses of an atlas: safe on every file system, different for different layers, and stable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.errors import OutputError
from deconvviz.web.atlas.addresses import folder_of, folders_of, image_of

SAFE = re.compile(r"[A-Za-z0-9_=-]|[A-Za-z0-9_=-][A-Za-z0-9._=-]*[A-Za-z0-9_=-]")
ANY = st.text(st.characters(), max_size=200)  # with surrogates


@pytest.mark.parametrize(
    ("layer", "folder"),
    [
        ("conv4_2", "conv4_2"),
        ("features.3", "features.3"),
        ("layer1.0.relu:2", "layer1.0.relu=3A2"),
        ("a/b", "a=2Fb"),
        ("..", "=2E=2E"),
        (".hidden", "=2Ehidden"),
        ("ends.", "ends=2E"),
        ("a=b", "a=3Db"),
        ("site", "=73ite"),
        ("Images", "=49mages"),
        ("con.0", "=63on.0"),
        ("ü", "=C3=BC"),
        ("", "=="),
    ],
)
def test_folder_of_a_layer(layer: str, folder: str) -> None:
    assert folder_of(layer) == folder


@given(ANY)
def test_folders_are_safe_names(layer: str) -> None:
    folder = folder_of(layer)
    assert SAFE.fullmatch(folder) and len(folder) <= 120


@given(ANY, ANY)
def test_different_layers_have_different_folders(one: str, other: str) -> None:
    assert (folder_of(one) == folder_of(other)) == (one == other)


def test_long_names_that_begin_alike_have_different_folders() -> None:
    one, other = (folder_of("x" * 300 + end) for end in "ab")
    assert one != other and one.startswith("x" * 100) and len(one) == len(other) == 120


def test_layers_that_differ_only_in_case_are_refused() -> None:
    assert folders_of(["a", "b", "a"]) == {"a": "a", "b": "b"}
    with pytest.raises(OutputError, match="'Relu' and 'relu' have names that differ only in upper and lower"):
        folders_of(["Relu", "conv", "relu"])


def test_address_of_an_image_depends_only_on_its_id() -> None:
    assert image_of("a") == image_of("a") != image_of("b")
    assert re.fullmatch(r"images/[0-9a-f]{20}\.webp", image_of('\ud800 ../x"'))
