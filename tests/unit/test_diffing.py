"""Comparing objects: what differs is named by its place, what servers assign is not looked at, and Secrets stay secret."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from becalm.kube.diffing import FieldChange, comparable, compare, diff, ignored
from becalm.kube.resources import strip

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab.", max_size=2)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab./", max_size=2), inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(st.text("ab.", max_size=2), JSON, max_size=4)


def a_secret(**data: str) -> dict:
    """A Secret as a server gives it."""
    metadata = {"name": "tls", "namespace": "shop", "uid": "1", "resourceVersion": "3", "labels": {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


@given(OBJECTS)
def test_nothing_differs_from_itself(value: dict) -> None:
    """An object and its copy are equal."""
    assert diff(value, deepcopy(value)) == []


@given(OBJECTS, OBJECTS)
def test_a_difference_turned_round_is_the_same_difference(left: dict, right: dict) -> None:
    """The same places differ, with before and after exchanged."""
    there = {(change.path, repr(change.before), repr(change.after)) for change in diff(left, right)}
    back = {(change.path, repr(change.after), repr(change.before)) for change in diff(right, left)}

    assert there == back


@given(OBJECTS, st.sampled_from(["x", "y"]), st.integers())
def test_one_changed_field_is_one_change(value: dict, key: str, number: int) -> None:
    """The path leads to the field and to nothing else."""
    before, after = {"spec": {**value, key: number}}, {"spec": {**value, key: number + 1}}

    assert diff(before, after) == [FieldChange(path=f"spec.{key}", before=number, after=number + 1)]


def test_named_things_are_found_by_their_names() -> None:
    """A container that moved is not two containers that changed; its move is told."""
    one, two = {"name": "web", "image": "a"}, {"name": "log", "image": "b"}

    assert diff({"containers": [one, two]}, {"containers": [two | {"image": "c"}, one]}) == [
        FieldChange(path="containers[log].image", before="b", after="c"),
        FieldChange(path="containers[order]", before=["web", "log"], after=["log", "web"]),
    ]


def test_odd_keys_stand_in_quotes() -> None:
    """A path can be read back, even where a key has dots."""
    assert [change.path for change in diff({"a": {"b.c/d": 1}}, {"a": {"b.c/d": 2}})] == ['a["b.c/d"]']


def test_a_stripped_object_says_the_same_as_the_one_it_came_from() -> None:
    """What a server assigns is not compared, and the rules that were needed are told by name."""
    saved = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "1",
            "generation": 4,
            "annotations": {"deployment.kubernetes.io/revision": "3", "becalm.dev/restored-from": "abc"},
        },
        "spec": {"replicas": 2, "template": {"metadata": {"creationTimestamp": None, "labels": {"app": "web"}}}},
        "status": {"readyReplicas": 2},
    }

    assert compare(saved, strip(saved)) == []
    assert [rule.name for rule in ignored(saved)] == [
        "server-metadata",
        "status",
        "restore-marks",
        "rollout-marks",
        "template-stamp",
        "empty-maps",
    ]


def test_an_owner_with_a_new_uid_is_the_same_owner_and_a_missing_one_is_not() -> None:
    """Owners are compared by what they are, not by their uids."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "base", "uid": "old"}
    saved = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "ownerReferences": [owner]}}
    linked = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "ownerReferences": [owner | {"uid": "new"}]}}
    alone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}

    assert compare(saved, linked) == []
    assert [change.path for change in compare(saved, alone)] == ["metadata.ownerReferences"]


@given(st.text(min_size=3), st.text(min_size=3))
def test_the_values_of_a_secret_are_never_told(before: str, after: str) -> None:
    """A plan travels and is printed: it may say that a value differs, and not more."""
    saved, live = a_secret(key="s3cr3t" + before), a_secret(key="n3w" + after)
    annotated = deepcopy(saved)
    annotated["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "s3cr3t"}

    assert compare(saved, live) == [FieldChange(path="data.key", before="(hidden)", after="(hidden)")]
    assert "s3cr3t" not in repr([compare(annotated, live), compare(live, annotated), compare(saved, a_secret())])


def test_comparing_changes_neither_object() -> None:
    """Both are copied first."""
    saved = a_secret(key="a")
    before = deepcopy(saved)
    comparable(saved)

    assert saved == before
