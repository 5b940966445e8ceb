"""Selection: what a policy means, and by which rule."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.errors import PolicyError
from becalm.model import VolumeUse
from becalm.policy import globs
from becalm.policy.select import Choice, Selector, VolumeChoice, VolumeFacts, explain, parse_labels, volume_rule
from becalm.testing.builders import a_policy

GIB = 2**30


def a_selector(**select: Any) -> Selector:
    return Selector.of(a_policy(select={"namespaces": ["shop"], **select}).spec.select)


def test_a_namespace_is_selected_by_name_or_pattern_with_the_reason() -> None:
    """The first pattern that names it is the reason."""
    selector = a_selector(namespaces=["shop", "shop-*"])

    assert Choice(selected=True, by="select.namespaces", because="named") == selector.namespace("shop")
    assert Choice(selected=True, by="select.namespaces", because="answers shop-*") == selector.namespace("shop-eu", {})
    assert Choice(selected=False, by="select.namespaces", because="no pattern names it") == selector.namespace("shopping")


def test_the_opt_out_label_keeps_a_namespace_an_object_and_a_volume_out() -> None:
    """Whatever else the policy says; with any other value it says nothing."""
    selector, label = a_selector(labels="app=web"), {"becalm.dev/protect": "no", "app": "web"}
    facts = VolumeFacts(namespace="shop", claim="data", labels=label)

    assert selector.namespace("shop", label).because == "it carries becalm.dev/protect=no"
    assert selector.object({"labels": label}).by == "label becalm.dev/protect"
    assert VolumeUse.SKIP is volume_rule(a_policy().spec.volumes, facts).use
    assert selector.object({"labels": {"becalm.dev/protect": "yes", "app": "web"}})


def test_a_list_of_selectors_means_or_and_a_comma_means_and() -> None:
    """The selector that was answered is the reason."""
    selector = a_selector(labels=["app=web, tier in (db,cache)", "critical"])

    assert selector.object({"labels": {"app": "web", "tier": "db"}}).because == "app=web,tier in (cache,db)"
    assert selector.object({"labels": {"critical": ""}})
    assert Choice(selected=False, by="select.labels", because="its labels answer no selector") == selector.object(
        {"labels": {"app": "web"}}
    )


@pytest.mark.parametrize("metadata", [{}, {"labels": None}, {"labels": []}, {"labels": {}}])
def test_an_object_without_labels_is_no_accident(metadata: dict[str, Any]) -> None:
    """An API server may leave them out."""
    assert a_selector().object(metadata)
    assert not a_selector(labels="app").object(metadata)


@pytest.mark.parametrize(
    ("group", "resource", "selected"),
    [
        ("", "events", False),
        ("events.k8s.io", "events", False),
        ("coordination.k8s.io", "leases", False),
        ("example.org", "leases", True),
        ("", "secrets", True),
        ("cert-manager.io", "certificates", False),
        ("acme.cert-manager.io", "orders", False),
        ("", "configmaps", False),
        ("example.org", "configmaps", True),
    ],
)
def test_what_is_excluded_stays_out(group: str, resource: str, selected: bool) -> None:
    """Without a dot a pattern asks for the plural in any group; with one, for both; the core group is called core."""
    selector = a_selector(resources={"exclude": ["events", "leases.coordination.k8s.io", "*.cert-manager.io", "configmaps.core"]})

    assert selected == selector.resource(group, resource).selected


def test_only_what_is_included_comes_along() -> None:
    """Exclusion wins where both name it."""
    selector = a_selector(resources={"include": ["*.apps", "secrets"], "exclude": ["replicasets"]})

    assert Choice(selected=True, by="select.resources.include", because="answers *.apps") == selector.resource("apps", "deployments")
    assert Choice(selected=False, by="select.resources.exclude", because="named") == selector.resource("apps", "replicasets")
    assert not selector.resource("", "pods")


def test_the_first_rule_that_means_a_volume_decides_with_its_reason() -> None:
    """All keys of a rule must hold."""
    volumes = a_policy(
        volumes={
            "default": "snapshot",
            "rules": [
                {"match": {"storageClass": "scratch", "sizeOver": "500Gi"}, "use": "skip", "because": "rebuilt"},
                {"match": {"storageClass": "scratch*"}, "use": "live"},
                {
                    "match": {
                        "labels": ["tier=cache", "tier=tmp"],
                        "namespace": "shop",
                        "claim": "data-?",
                        "driver": "csi.*",
                        "sizeUnder": "1Gi",
                    },
                    "use": "live",
                },
            ],
        }
    ).spec.volumes
    plain = {"namespace": "shop", "claim": "data-0"}
    small = {**plain, "driver": "csi.example.org", "size_bytes": GIB - 1}

    assert VolumeChoice(use=VolumeUse.SKIP, by="volumes.rules.0", because="rebuilt") == volume_rule(
        volumes, VolumeFacts(**plain, storage_class="scratch", size_bytes=500 * GIB + 1)
    )
    assert volume_rule(volumes, VolumeFacts(**plain, storage_class="scratch", size_bytes=500 * GIB)).by == "volumes.rules.1"
    assert volume_rule(volumes, VolumeFacts(**small, labels={"tier": "tmp"})).by == "volumes.rules.2"
    assert volume_rule(volumes, VolumeFacts(**small, labels={"tier": "db"})).by == "volumes.default"
    assert VolumeChoice(use=VolumeUse.SNAPSHOT, by="volumes.default") == volume_rule(volumes, VolumeFacts(**plain))


def test_a_policy_is_explained_in_sentences() -> None:
    """Everything that narrows it is named."""
    policy = a_policy(
        schedule="@daily",
        select={"namespaces": ["shop"], "labels": ["a", "b=c"]},
        volumes={"rules": [{"match": {"claim": "tmp", "sizeOver": "1Gi"}, "use": "skip", "because": "scratch"}]},
    )

    assert explain(policy) == (
        "Namespaces: shop.",
        "Only what answers (a) or (b=c).",
        "Resources: *, but not events, leases.coordination.k8s.io.",
        "Objects that belong to no namespace: auto.",
        "Runs: @daily (UTC).",
        "Volumes: skip where claim tmp, over 1Gi, because scratch.",
        "Volumes otherwise: snapshot.",
        "Hooks: 0; nobody is frozen longer than 30s.",
    )


@pytest.mark.parametrize(
    ("text", "labels", "answer"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "b"}, True),
        ("a = b", {"a": "b"}, True),
        ("a=", {"a": ""}, True),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b,c)", {}, True),
        ("a notin(b,c)", {"a": "b"}, False),
        ("a", {"a": "x"}, True),
        ("!a", {"a": "x"}, False),
        ("! a", {}, True),
        ("x.io/a=b,!c", {"x.io/a": "b"}, True),
        ("x.io/a=b,!c", {"x.io/a": "b", "c": ""}, False),
    ],
)
def test_a_label_selector_means_what_it_means_in_kubernetes(text: str, labels: dict[str, str], answer: bool) -> None:
    """Also `!=` and `notin` for a label that is absent."""
    assert answer == parse_labels(text).matches(labels)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "a,",
        "a=b=c",
        "a in b",
        "a in (b",
        "a b",
        "=b",
        "!",
        "-a",
        "a/b/c",
        "A.io/x",
        "a=" + "x" * 64,
        "a>1",
        "(a)",
        "x" * 5000,
    ],
)
def test_what_is_no_label_selector_is_refused_with_a_remedy(text: str) -> None:
    """As a finding of a policy."""
    with pytest.raises(PolicyError) as refused:
        parse_labels(text)

    assert [finding.path for finding in refused.value.findings] == ["labels"]
    assert refused.value.findings[0].remedy


keys, values = st.sampled_from(["a", "b", "x.io/c"]), st.sampled_from(["", "1", "2", "long-er.value"])


@st.composite
def a_term(draw: st.DrawFn) -> tuple[str, Any]:
    """Return the text of a term and what it means, as a function of labels."""
    key, several = draw(keys), draw(st.lists(values, min_size=1, max_size=3))
    space, value = draw(st.sampled_from(["", " "])), several[0]
    return draw(
        st.sampled_from(
            [
                (f"{key}{space}={space}{value}", lambda labels: labels.get(key) == value),
                (f"{key}{space}=={value}", lambda labels: labels.get(key) == value),
                (f"{key}{space}!={space}{value}", lambda labels: labels.get(key) != value),
                (f"{key} in {space}({','.join(several)})", lambda labels: labels.get(key) in several),
                (f"{key} notin ({', '.join(several)})", lambda labels: labels.get(key) not in several),
                (key, lambda labels: labels.get(key) is not None),
                (f"!{key}", lambda labels: labels.get(key) is None),
            ]
        )
    )


@given(st.lists(a_term(), min_size=1, max_size=4), st.dictionaries(keys, values))
@settings(deadline=None)
def test_terms_joined_by_commas_must_all_hold_and_survive_being_written(terms: list[tuple[str, Any]], labels: dict[str, str]) -> None:
    """Against the meaning of each term by itself."""
    selector = parse_labels(",".join(text for text, _ in terms))
    expected = all(meaning(labels) for _, meaning in terms)

    assert expected == selector.matches(labels)
    assert expected == parse_labels(str(selector)).matches(labels)


@given(st.text("ab*?", max_size=8), st.text("ab.", max_size=8))
@settings(deadline=None)
def test_a_pattern_means_what_a_shell_means(pattern: str, name: str) -> None:
    """For the two special characters that it has."""
    assert fnmatchcase(name, pattern) == globs.matches(pattern, name)


def test_no_pattern_is_slow() -> None:
    """Sixty stars against a long name that fails at its very end."""
    assert not globs.matches("a*" * 60 + "b", "a" * 5000)


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_a_label_selector_or_a_finding(text: str) -> None:
    """Nothing else comes out, and nothing that cannot be printed on one line."""
    try:
        parse_labels(text)
    except PolicyError as error:
        assert not re.search(r"[\x00-\x1f\x7f]", error.findings[0].problem)
