"""The sandbox's selectors."""

from __future__ import annotations

import pytest

from becalm.sandbox.answers import ApiError
from becalm.sandbox.kinds import CONFIG_MAPS, PODS
from becalm.sandbox.selectors import fields_match, label_selector, labels_match, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "shop.example.org/size": "3"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("app", True),
        ("!app", False),
        ("app=web", True),
        ("app==web,tier!=back", True),
        ("app in (web, db)", True),
        ("app notin (web,db)", False),
        ("missing notin (x)", True),
        ("missing!=x", True),
        ("missing=", False),
        ("shop.example.org/size>2", True),
        ("shop.example.org/size < 3", False),
        ("!missing , app in (web)", True),
    ],
)
def test_a_label_selector_takes_what_it_says(selector: str, matches: bool) -> None:
    """All its requirements together."""
    assert labels_match(parse_labels(selector), {"metadata": {"labels": LABELS}}) is matches


@pytest.mark.parametrize("selector", ["a ===1", "a in web", "=x", "a,,b", "a in (x", "ä=1"])
def test_a_broken_label_selector_is_a_bad_request(selector: str) -> None:
    """Not an empty selection, and not everything."""
    with pytest.raises(ApiError) as refused:
        parse_labels(selector)

    assert refused.value.code == 400


def test_a_selector_of_a_manifest_reads_both_of_its_parts() -> None:
    """Labels and expressions."""
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}

    assert labels_match(label_selector(selector), {"metadata": {"labels": LABELS}})
    assert not labels_match(label_selector(selector), {"metadata": {"labels": {"app": "web", "tier": "back"}}})


def test_fields_are_selected_where_the_kind_allows_it() -> None:
    """And refused where it does not."""
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Running"}}

    assert fields_match(parse_fields("metadata.name=p,status.phase!=Failed", PODS), pod)
    assert not fields_match(parse_fields("spec.nodeName=x", PODS), pod)
    with pytest.raises(ApiError, match="not a known field selector"):
        parse_fields("status.phase=Running", CONFIG_MAPS)
