"""The sandbox's patches: merge, JSON, strategic, and server-side apply with its owners."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.sandbox.answers import ApiError
from becalm.sandbox.apply import server_side_apply
from becalm.sandbox.owners import fields_of, read_owners, track, write_owners
from becalm.sandbox.patch import json_patch, merge_patch, strategic_patch
from becalm.sandbox.store import copied

PLAIN = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 9), st.text("ab", max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3)


def difference(before: Any, after: Any) -> Any:
    """Return the merge patch that leads from one map to another."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    return patch | {
        key: difference(before.get(key), value) for key, value in after.items() if before.get(key) != value or key not in before
    }


@given(before=MAPS, after=MAPS)
def test_a_merge_patch_of_the_difference_leads_there(before: dict[str, Any], after: dict[str, Any]) -> None:
    """RFC 7386 has an inverse where there are no nulls."""
    assert merge_patch(before, difference(before, after)) == after


@pytest.mark.parametrize(
    ("document", "operations", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a/b": {"~": 1}}, [{"op": "replace", "path": "/a~1b/~0", "value": 2}], {"a/b": {"~": 2}}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": [1]}, [{"op": "copy", "from": "/a/0", "path": "/a/0"}], {"a": [1, 1]}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
    ],
)
def test_a_json_patch_does_what_it_says(document: dict[str, Any], operations: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """RFC 6902."""
    assert json_patch(document, operations) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "b", "value": 1},
        {"op": "dance", "path": "/a"},
        {"op": "add"},
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(operation: dict[str, Any]) -> None:
    """With the code of the real server."""
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, [operation])

    assert refused.value.code == 422


def test_a_strategic_patch_merges_containers_by_name() -> None:
    """What kubectl sends."""
    target = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}], "args": [1]}
    patch = {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "$patch": "delete"}], "args": [2]}

    assert strategic_patch(target, patch) == {
        "containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}],
        "args": [2],
    }


def a_config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def applied(live: dict[str, Any] | None, manager: str, *, force: bool = False, **data: str) -> dict[str, Any]:
    return server_side_apply(live, a_config(**data), manager=manager, force=force, subresource="", custom=False)


def test_two_managers_own_different_fields() -> None:
    """And what one no longer asks for goes, but for what the other owns."""
    live = applied(applied(None, "one", a="1", b="1"), "two", c="2")

    assert live["data"] == {"a": "1", "b": "1", "c": "2"}
    assert applied(live, "one", a="1")["data"] == {"a": "1", "c": "2"}


def test_a_field_of_another_manager_is_a_conflict_unless_forced() -> None:
    """Forced, it changes its owner; asked for with the same value, it has two."""
    live = applied(None, "one", a="1")

    with pytest.raises(ApiError) as refused:
        applied(live, "two", a="2")
    assert refused.value.status()["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    ]
    assert [owner.manager for owner in read_owners(applied(live, "two", force=True, a="2"))] == ["two"]
    assert {owner.manager for owner in read_owners(applied(live, "two", a="1"))} == {"one", "two"}


def test_a_plain_write_takes_the_fields_that_it_changes() -> None:
    """So that a later apply meets a conflict there."""
    live = applied(None, "one", a="1", b="1")
    after = copied(live)
    after["data"]["a"] = "2"
    track(live, after, manager="editor", subresource="", custom=False)

    with pytest.raises(ApiError, match="editor"):
        applied(after, "one", a="1", b="1")
    assert {owner.manager: owner.paths for owner in read_owners(after)} == {
        "one": {("f:data", "f:b")},
        "editor": {("f:data", "f:a")},
    }


@given(spec=MAPS)
def test_owners_survive_being_written(spec: dict[str, Any]) -> None:
    """FieldsV1 and back."""
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec}
    track(None, manifest, manager="m", subresource="", custom=False)
    before = read_owners(manifest)
    write_owners(manifest, before)

    assert read_owners(manifest) == before
    assert {path for owner in before for path in owner.paths} == set(fields_of(manifest, custom=False))
