from __future__ import annotations

import hashlib
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.image_sources.image_ids import Names, as_id, sorted_once

# UTF-8 holds everything but halves of surrogate pairs
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.sets(IDS))
def test_names_are_the_sorted_ids(ids: set[str]) -> None:
    names, told = Names(ids), sorted(ids)
    assert list(names) == told
    assert [names[number] for number in range(len(names))] == told
    assert [names.index(name) for name in told] == list(range(len(told)))
    assert [names[-one] for one in range(1, len(told) + 1)] == told[::-1]
    assert all(name in names for name in told)
    assert pickle.loads(pickle.dumps(names)) == names


@given(st.sets(IDS, min_size=1), IDS)
def test_what_is_not_there_is_not_found(ids: set[str], other: str) -> None:
    names = Names(ids - {other})
    assert other not in names
    assert names.count(other) == 0
    with pytest.raises(ValueError, match="no id"):
        names.index(other)


@given(st.sets(IDS), st.slices(8))
def test_slices_are_of_names(ids: set[str], piece: slice) -> None:
    assert list(Names(ids)[piece]) == sorted(sorted(ids)[piece])


@given(st.lists(st.sets(IDS), min_size=2, max_size=2))
def test_equal_ids_have_equal_digests(both: list[set[str]]) -> None:
    one, other = Names(both[0]), Names(both[1])
    assert (one == other) == (both[0] == both[1]) == (one.digest == other.digest)
    assert one != list(one)


def test_ids_that_run_into_one_another_have_different_digests() -> None:
    assert Names(["ab", "c"]).digest != Names(["a", "bc"]).digest != Names(["abc"]).digest


def test_the_digest_is_of_bounds_and_bytes() -> None:
    written = struct.pack("<3q", 0, 1, 3) + b"a\xc3\xa4"
    assert Names(["a", "ä"]).digest == f"sha256:{hashlib.sha256(written).hexdigest()}"


def test_what_is_no_id() -> None:
    with pytest.raises(ValueError, match="'a' comes twice"):
        Names(["a", "b", "a"])
    with pytest.raises(ValueError, match="surrogates"):
        Names(["\udcff"])
    names = Names(["a", "b"])
    assert "\udcff" not in names
    assert 3 not in names
    for number in (2, -3):
        with pytest.raises(IndexError, match="there are 2"):
            names[number]
    with pytest.raises(ValueError, match="no id 'a'"):
        names.index("a", 1)


def test_a_million_names_are_one_buffer() -> None:
    names = Names(f"{one:07d}" for one in range(1_000_000))
    assert len(pickle.dumps(names)) < 15_001_000  # 7 bytes of id and 8 of bounds
    assert names.index("0765432") == 765_432


def test_it_says_what_it_is() -> None:
    assert repr(Names("ba")) == "Names(a, b)"
    assert repr(Names("edcba")) == "Names(5: a, b ... e)"


@given(st.lists(IDS))
def test_of_equal_ids_the_last_one_counts(ids: list[str]) -> None:
    names, places, again = sorted_once(ids)
    last = {name: place for place, name in enumerate(ids)}
    assert list(names) == sorted(last)
    assert [int(place) for place in places] == [last[name] for name in names]
    assert sorted([*names, *again]) == sorted(ids)


def test_paths_that_are_no_utf_8_get_escapes() -> None:
    assert as_id(b"a\xff/\xc3\xa4.jpg") == "a\\xff/ä.jpg"
    assert as_id("a\udcff/ä.jpg") == "a\\xff/ä.jpg"
