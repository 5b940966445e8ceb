"""The sandbox's store: every revision can be read again until it is compacted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.sandbox.answers import ApiError
from becalm.sandbox.store import Change, Store

PLACES = [("", "a"), ("n", "a"), ("n", "b"), ("o", "a")]
WRITES = st.lists(st.tuples(st.sampled_from(PLACES), st.one_of(st.none(), st.integers(0, 9))), max_size=30)


def an_object(place: tuple[str, str], value: int) -> dict[str, object]:
    return {"metadata": {"namespace": place[0], "name": place[1]}, "data": value}


def played(writes: list[tuple[tuple[str, str], int | None]]) -> tuple[Store, list[dict[tuple[str, str], int]]]:
    """Write to a store, and keep beside it what each revision must show."""
    store = Store()
    states: list[dict[tuple[str, str], int]] = [{}]
    for place, value in writes:
        if value is None and place not in states[-1]:
            continue
        if value is None:
            store.remove("b", place)
            states.append({key: kept for key, kept in states[-1].items() if key != place})
        else:
            store.put("b", place, an_object(place, value))
            states.append({**states[-1], place: value})
    return store, states


def seen(store: Store, revision: int, namespace: str | None = None) -> dict[tuple[str, str], int]:
    found = store.walk("b", namespace=namespace, revision=revision)
    return {(manifest["metadata"]["namespace"], manifest["metadata"]["name"]): manifest["data"] for manifest in found}


@given(writes=WRITES)
def test_every_revision_shows_what_stood_there_then(writes: list[tuple[tuple[str, str], int | None]]) -> None:
    """Whatever was written or removed later."""
    store, states = played(writes)

    assert [seen(store, revision) for revision in range(len(states))] == states


@given(writes=WRITES, keep=st.integers(0, 30))
def test_a_compaction_forgets_the_past_and_nothing_else(writes: list[tuple[tuple[str, str], int | None]], keep: int) -> None:
    """Revisions from the compacted one on are what they were; older ones are gone, and said to be."""
    store, states = played(writes)
    oldest = store.compact(min(keep, store.revision))

    assert [seen(store, revision) for revision in range(oldest, len(states))] == states[oldest:]
    for revision in range(oldest):
        with pytest.raises(ApiError) as refused:
            seen(store, revision)
        assert (refused.value.code, refused.value.reason) == (410, "Expired")


@given(writes=WRITES, start=st.integers(0, 30))
def test_the_changes_after_a_revision_lead_to_the_present(writes: list[tuple[tuple[str, str], int | None]], start: int) -> None:
    """Whoever lists at a revision and follows the changes from there ends with the present."""
    store, states = played(writes)
    start = min(start, store.revision)
    state = dict(states[start])
    for change in store.changes("b", after=start):
        if change.after is None:
            del state[change.place]
        else:
            state[change.place] = change.after["data"]

    assert state == states[-1]


def test_objects_come_in_the_order_of_namespace_and_name() -> None:
    """Pages rest on it."""
    store = Store()
    for place in (("o", "a"), ("n", "b"), ("", "z"), ("n", "a")):
        store.put("b", place, an_object(place, 1))

    assert list(seen(store, store.revision)) == [("", "z"), ("n", "a"), ("n", "b"), ("o", "a")]
    assert list(seen(store, store.revision, "n")) == [("n", "a"), ("n", "b")]


def test_a_listener_hears_each_change_until_it_stops() -> None:
    """With what stood there before."""
    heard: list[Change] = []
    store = Store()
    stop = store.listen(heard.append)
    store.put("b", ("", "a"), an_object(("", "a"), 1))
    store.put("b", ("", "a"), an_object(("", "a"), 2))
    store.remove("b", ("", "a"))
    stop()
    store.put("b", ("", "a"), an_object(("", "a"), 3))

    assert [change.type for change in heard] == ["ADDED", "MODIFIED", "DELETED"]
    assert heard[2].last["metadata"]["resourceVersion"] == "3"
