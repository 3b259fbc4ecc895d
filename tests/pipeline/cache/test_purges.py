"""What falls under a purge."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parley_server.pipeline.cache.entry import Entry
from parley_server.pipeline.cache.purges import Purge, Purges, next_revision, unpacked

tenants = st.sampled_from(["", "t", "u"])
models = st.sampled_from(["lab/a", "lab/b", "route"])
namespaces = st.sampled_from(["", "n"])
keys = st.sampled_from([b"k" * 20, b"l" * 20])
revisions = st.integers(0, 6)
times = st.integers(0, 5).map(float)

purges = st.builds(
    Purge,
    tenant=st.none() | tenants,
    model=st.just("") | models,
    namespace=st.none() | namespaces,
    key=st.just(b"") | keys,
    before=st.just(math.inf) | times,
    revision=st.integers(1, 6),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    fields: dict[str, Any] = {"tenant": tenants, "target": models, "answered": models, "namespace": namespaces}
    drawn = {name: draw(strategy) for name, strategy in fields.items()}
    return Entry.of(b"", made=draw(times), ttl=1.0, revision=draw(revisions), **drawn)


@given(st.lists(purges, max_size=8), keys, entries())
def test_an_entry_is_gone_if_any_purge_hits_it(added: list[Purge], key: bytes, entry: Entry) -> None:
    known = Purges()
    for purge in added:
        known.add(purge)
    assert known.is_purged(key, entry) is any(one.hits(key, entry) for one in added)


@given(purges, purges, keys, entries())
def test_what_covers_another_hits_all_that_it_hits(one: Purge, other: Purge, key: bytes, entry: Entry) -> None:
    if one.covers(other) and other.hits(key, entry):
        assert one.hits(key, entry)


@given(st.lists(purges, max_size=5), purges)
def test_purges_travel(several: list[Purge], last: Purge) -> None:
    known = Purges()
    for purge in several:
        known.add(purge)
    told = unpacked(known.packed_with(last, oldest=0))
    assert told[-1] == last
    assert all(any(one.covers(purge) for one in told) for purge in several)
    assert unpacked(b"nonsense\n[1]\n" + last.pack()) == [last]


def test_those_older_than_any_answer_are_not_passed_on() -> None:
    known = Purges()
    known.add(Purge(tenant="t", revision=1_000_000))
    last = Purge(tenant="u", revision=2_000_000)
    assert unpacked(known.packed_with(last, oldest=1500.0)) == [last]
    assert len(unpacked(known.packed_with(last, oldest=500.0))) == 2


def test_many_purges_become_one_that_takes_more() -> None:
    known = Purges()
    for number in range(1, 1500):
        known.add(Purge(namespace=str(number), revision=number))
    assert len(known) <= 1000
    old, new, last = (
        Entry.of(b"", made=0.0, ttl=1.0, revision=revision, namespace=namespace)
        for revision, namespace in ((5, "other"), (1499, "other"), (1498, "1499"))
    )
    assert known.is_purged(b"", old)
    assert not known.is_purged(b"", new)
    assert known.is_purged(b"", last)


def test_revisions_go_up_even_where_those_before_were_lost() -> None:
    assert next_revision(0, 1000.0) == 1_000_000
    assert next_revision(2_000_000, 1000.0) == 2_000_001
