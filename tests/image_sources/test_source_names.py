from __future__ import annotations

import hashlib
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.image_sources.image_ids import Names, sorted_once

# UTF-8 can encode everything except halves of surrogate pairs
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.sets(IDS))
def test_names_are_a_sequence_of_the_sorted_ids(ids: set[str]) -> None:
    names, expected = Names(ids), sorted(ids)
    assert list(names) == expected
    assert [names[number] for number in range(len(names))] == expected
    assert [names.index(name) for name in expected] == list(range(len(expected)))
    assert [names[-one] for one in range(1, len(expected) + 1)] == expected[::-1]
    assert all(name in names for name in expected)
    assert pickle.loads(pickle.dumps(names)) == names


@given(st.sets(IDS, min_size=1), IDS)
def test_index_of_a_missing_id_raises_value_error(ids: set[str], other: str) -> None:
    names = Names(ids - {other})
    assert other not in names
    assert names.count(other) == 0
    with pytest.raises(ValueError, match="no id"):
        names.index(other)


@given(st.sets(IDS), st.slices(8))
def test_slice_has_the_sorted_ids_of_the_slice(ids: set[str], piece: slice) -> None:
    assert list(Names(ids)[piece]) == sorted(sorted(ids)[piece])


@given(st.lists(st.sets(IDS), min_size=2, max_size=2))
def test_names_and_digests_are_equal_if_and_only_if_the_ids_are(both: list[set[str]]) -> None:
    one, other = Names(both[0]), Names(both[1])
    assert (one == other) == (both[0] == both[1]) == (one.digest == other.digest)
    assert one != list(one)


def test_digest_depends_on_where_each_id_ends() -> None:
    assert Names(["ab", "c"]).digest != Names(["a", "bc"]).digest != Names(["abc"]).digest


def test_digest_is_the_hash_of_bounds_and_bytes() -> None:
    written = struct.pack("<3q", 0, 1, 3) + b"a\xc3\xa4"
    assert Names(["a", "ä"]).digest == f"sha256:{hashlib.sha256(written).hexdigest()}"


def test_invalid_ids_and_indices_raise() -> None:
    with pytest.raises(ValueError, match="duplicate id 'a'"):
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


def test_pickled_names_have_eight_bytes_more_than_each_id() -> None:
    names = Names(f"{one:07d}" for one in range(1_000_000))
    assert len(pickle.dumps(names)) < 15_001_000  # 7 bytes of id and 8 of bounds
    assert names.index("0765432") == 765_432


def test_repr_shows_the_count_and_some_ids() -> None:
    assert repr(Names("ba")) == "Names(a, b)"
    assert repr(Names("edcba")) == "Names(5: a, b ... e)"


@given(st.lists(IDS))
def test_last_of_equal_ids_is_kept(ids: list[str]) -> None:
    names, positions, dropped = sorted_once(ids)
    last = {name: position for position, name in enumerate(ids)}
    assert list(names) == sorted(last)
    assert [int(position) for position in positions] == [last[name] for name in names]
    assert sorted([*names, *dropped]) == sorted(ids)
