"""JSON patches: the examples of RFC 6902's appendix, what a wrong patch says, and that the document given never changes."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.kube.patching import PatchFailed, TestFailed, apply, checked

APPENDIX = {
    "A.1": ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    "A.2": ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    "A.3": ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    "A.4": ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    "A.5": ({"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo", "foo": "bar"}),
    "A.6": (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    "A.7": (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    "A.8": (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    "A.10": ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"grandchild": {}}}], {"foo": "bar", "child": {"grandchild": {}}}),
    "A.11": ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    "A.14": ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    "A.16": ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
    "the whole is replaced": ({"foo": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    "a place that is there is written over by add": ({"foo": 1}, [{"op": "add", "path": "/foo", "value": None}], {"foo": None}),
    "an item is replaced in its place": ({"a": [1, 2, 3]}, [{"op": "replace", "path": "/a/1", "value": 9}], {"a": [1, 9, 3]}),
    "copy copies deeply": (
        {"a": {"b": []}},
        [{"op": "copy", "from": "/a", "path": "/c"}, {"op": "add", "path": "/c/b/-", "value": 1}],
        {"a": {"b": []}, "c": {"b": [1]}},
    ),
}

REFUSED = {
    "A.9 a test that says no": ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "says something else"),
    "A.12 no parent": ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], "no 'baz'"),
    "A.15 a number is no text": ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "says something else"),
    "true is not one": ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], "says something else"),
    "an item behind the end": ({"a": [1]}, [{"op": "add", "path": "/a/2", "value": 1}], "no item '2'"),
    "an index with a zero before it": ({"a": [1, 2]}, [{"op": "remove", "path": "/a/01"}], "no item '01'"),
    "a negative index": ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], "no item '-1'"),
    "nothing to replace": ({}, [{"op": "replace", "path": "/a", "value": 1}], "no 'a'"),
    "into itself": ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "into itself"),
    "below a text": ({"a": "b"}, [{"op": "add", "path": "/a/b", "value": 1}], "nothing can stand"),
}

NO_PATCH = {
    "A.13 two operations in one are read as the last": ([{"op": "increase", "path": "/a"}], "operation 1 is 'increase'"),
    "no value": ([{"op": "remove", "path": "/a"}, {"op": "add", "path": "/a"}], "operation 2 .add. has no value"),
    "no path": ([{"op": "remove"}], "has no path"),
    "no source": ([{"op": "copy", "path": "/a"}], "has no from"),
    "a pointer without a slash": ([{"op": "remove", "path": "a"}], "not a pointer"),
    "a tilde that is none": ([{"op": "remove", "path": "/a~2"}], "not a pointer"),
}


@pytest.mark.parametrize(("document", "patch", "expected"), APPENDIX.values(), ids=APPENDIX)
def test_a_patch_does_what_the_rfc_says(document: object, patch: list, expected: object) -> None:
    """The appendix of the RFC, and what lies at its borders."""
    before = deepcopy(document)

    assert apply(document, checked(patch)) == expected
    assert document == before


@pytest.mark.parametrize(("document", "patch", "words"), REFUSED.values(), ids=REFUSED)
def test_a_patch_that_does_not_fit_changes_nothing_and_says_why(document: object, patch: list, words: str) -> None:
    """The number of the operation and its place stand in the error."""
    before = deepcopy(document)

    with pytest.raises(PatchFailed, match=words):
        apply(document, checked(patch))
    assert document == before


@pytest.mark.parametrize(("patch", "words"), NO_PATCH.values(), ids=NO_PATCH)
def test_what_is_no_patch_is_refused_when_it_is_read(patch: list, words: str) -> None:
    """Before any object is met."""
    with pytest.raises(PatchFailed, match=words):
        checked(patch)


def test_a_test_that_says_no_is_told_from_a_patch_that_does_not_fit() -> None:
    """The first is a condition, the second a mistake."""
    with pytest.raises(TestFailed):
        apply({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    with pytest.raises(PatchFailed) as caught:
        apply({"a": 1}, [{"op": "test", "path": "/b", "value": 2}])
    assert not isinstance(caught.value, TestFailed)


NAMES = st.text(alphabet="a/~-0", max_size=3)


@given(st.dictionaries(NAMES, st.integers(), max_size=4), NAMES, st.integers())
def test_what_is_added_and_removed_again_leaves_the_document_as_it_was(document: dict, name: str, value: int) -> None:
    """Also under names with slashes and tildes."""
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    before = {key: item for key, item in document.items() if key != name}
    added = apply(before, [{"op": "add", "path": path, "value": value}])

    assert added == {**before, name: value}
    assert apply(added, [{"op": "remove", "path": path}]) == before
