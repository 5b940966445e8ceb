"""The contract of a cluster, of many objects: selectors, pages, one revision, and watching."""

from __future__ import annotations

import pytest

from becalm.errors import NotFound, RevisionGone
from becalm.kube.base import Kind, Verb
from becalm.kube.kinds import CONFIG_MAP, NAMESPACE, POD
from becalm.testing.contracts.cluster_subject import Subject  # noqa: TC001  (pytest reads the annotations of its tests)

OURS = "metadata.name!=kube-root-ca.crt"
"""Leaves out what Kubernetes puts into each namespace by itself."""


def names(subject: Subject, namespace: str | None, *, labels: str = "", fields: str = OURS, revision: str | None = None) -> list[str]:
    """List ConfigMaps and return their names, in the order of the answer."""
    found = subject.cluster.list(CONFIG_MAP, namespace=namespace, labels=labels, fields=fields, revision=revision, page_size=2)
    return [item["metadata"]["name"] for item in found]


class SelectionContract:
    """Which objects a list gives."""

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ("", ["a", "b", "c"]),
            ("tier=front", ["a"]),
            ("tier==front", ["a"]),
            ("tier!=front", ["b", "c"]),
            ("tier", ["a", "b"]),
            ("!tier", ["c"]),
            ("tier in (front,back)", ["a", "b"]),
            ("tier notin (front)", ["b", "c"]),
            ("tier=back,zone=1", ["b"]),
            ("tier=back,zone=2", []),
        ],
    )
    def test_labels_select(self, subject: Subject, namespace: str, labels: str, expected: list[str]) -> None:
        """Every form of a label selector; a key that is absent is unequal to any value."""
        subject.config_map(namespace, "a", labels={"tier": "front"})
        subject.config_map(namespace, "b", labels={"tier": "back", "zone": "1"})
        subject.config_map(namespace, "c")

        assert names(subject, namespace, labels=labels) == expected

    def test_fields_select_by_name_and_namespace(self, subject: Subject, namespace: str) -> None:
        """Also over all namespaces."""
        subject.config_map(namespace, "a")
        subject.config_map(namespace, "b")

        assert names(subject, namespace, fields="metadata.name=b") == ["b"]
        assert names(subject, None, fields=f"metadata.namespace={namespace},{OURS}") == ["a", "b"]
        assert names(subject, None, fields=f"metadata.name=a,metadata.namespace={namespace}") == ["a"]

    def test_fields_select_pods_by_phase_and_node(self, subject: Subject, namespace: str) -> None:
        """As discovery of what holds a volume asks."""
        subject.pod(namespace, "ends", "true")
        subject.pod(namespace, "stays")
        subject.in_phase(namespace, "ends", "Succeeded")
        node = subject.running(namespace, "stays")["spec"]["nodeName"]

        def pods(fields: str) -> list[str]:
            return [item["metadata"]["name"] for item in subject.cluster.list(POD, namespace=namespace, fields=fields)]

        assert pods("status.phase=Running") == ["stays"]
        assert pods("status.phase!=Running") == ["ends"]
        assert pods(f"spec.nodeName={node}") == ["ends", "stays"]
        assert pods("spec.nodeName=elsewhere") == []

    def test_each_listed_object_names_its_kind(self, subject: Subject, namespace: str) -> None:
        """So that it can be stored and written again as it is."""
        made = subject.config_map(namespace, "a", key="value")
        (listed,) = subject.cluster.list(CONFIG_MAP, namespace=namespace, fields="metadata.name=a")

        assert listed == made

    def test_a_kind_that_is_not_served_is_not_found(self, subject: Subject, namespace: str) -> None:
        """At once, not when the listing is read."""
        unknown = Kind(group="unknown.becalm.dev", version="v1", resource="things", kind="Thing", namespaced=True)

        with pytest.raises(NotFound):
            subject.cluster.list(unknown, namespace=namespace)


class RevisionContract:
    """Lists of one instant."""

    def test_pages_hold_each_object_once(self, subject: Subject, namespace: str) -> None:
        """However small the pages are; and the listing can be read again."""
        for number in range(7):
            subject.config_map(namespace, f"n{number}")
        listing = subject.cluster.list(CONFIG_MAP, namespace=namespace, fields=OURS, page_size=2)
        expected = [f"n{number}" for number in range(7)]

        assert [item["metadata"]["name"] for item in listing] == expected
        assert [item["metadata"]["name"] for item in listing] == expected

    def test_what_is_written_between_two_pages_is_not_seen(self, subject: Subject, namespace: str) -> None:
        """All pages are of the revision of the first."""
        for number in range(6):
            subject.config_map(namespace, f"n{number}", key="old")
        listing = subject.cluster.list(CONFIG_MAP, namespace=namespace, fields=OURS, page_size=2)
        seen = iter(listing)
        first = next(seen)
        subject.cluster.delete(CONFIG_MAP, "n4", namespace=namespace)
        subject.config_map(namespace, "n9")
        patch = {"metadata": {"name": "n5", "namespace": namespace}, "data": {"key": "new"}}
        subject.cluster.apply(CONFIG_MAP, patch, verb=Verb.MERGE)
        rest = list(seen)

        assert [item["metadata"]["name"] for item in (first, *rest)] == [f"n{number}" for number in range(6)]
        assert rest[-1]["data"] == {"key": "old"}

    def test_a_list_at_an_old_revision_shows_the_old_state(self, subject: Subject, namespace: str) -> None:
        """What was deleted is there, what came later is not, what changed is as it was, and all pages agree."""
        for name in ("gone", "kept", "old"):
            subject.config_map(namespace, name, key="before")
        revision = subject.cluster.list(NAMESPACE, page_size=1).revision
        subject.cluster.delete(CONFIG_MAP, "gone", namespace=namespace)
        subject.config_map(namespace, "later")
        patch = {"metadata": {"name": "kept", "namespace": namespace}, "data": {"key": "after"}}
        subject.cluster.apply(CONFIG_MAP, patch, verb=Verb.MERGE)
        old = subject.cluster.list(CONFIG_MAP, namespace=namespace, fields=OURS, revision=revision, page_size=2)

        assert [(item["metadata"]["name"], item["data"]["key"]) for item in old] == [(name, "before") for name in ("gone", "kept", "old")]
        assert old.revision == revision
        assert names(subject, namespace) == ["kept", "later", "old"]

    def test_one_revision_holds_for_all_kinds(self, subject: Subject, namespace: str) -> None:
        """The revision of one collection names the same instant in every other."""
        first = subject.config_map(namespace, "a")
        revision = first["metadata"]["resourceVersion"]
        subject.config_map(namespace, "b")
        subject.pod(namespace, "later", "true")

        assert names(subject, namespace, revision=revision) == ["a"]
        assert list(subject.cluster.list(POD, namespace=namespace, revision=revision)) == []

    def test_a_forgotten_revision_is_gone(self, subject: Subject, namespace: str) -> None:
        """The caller is told, and lists at a newer one."""
        with pytest.raises(RevisionGone):
            list(subject.cluster.list(CONFIG_MAP, namespace=namespace, revision=subject.gone_revision()))


class WatchContract:
    """Changes as they come."""

    def test_a_watch_tells_what_happened_since_a_revision(self, subject: Subject, namespace: str) -> None:
        """In order, and only of what is selected."""
        revision = subject.cluster.list(CONFIG_MAP, namespace=namespace).revision
        subject.config_map(namespace, "other")
        subject.config_map(namespace, "a", labels={"watch": "yes"})
        patch = {"metadata": {"name": "a", "namespace": namespace}, "data": {"key": "1"}}
        subject.cluster.apply(CONFIG_MAP, patch, verb=Verb.MERGE)
        subject.cluster.delete(CONFIG_MAP, "a", namespace=namespace)
        events = []
        for event in subject.cluster.watch(CONFIG_MAP, namespace=namespace, labels="watch=yes", revision=revision, timeout_seconds=20):
            events += [event] if event.type != "BOOKMARK" else []
            if event.type == "DELETED":
                break

        assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        assert [event.object["metadata"]["name"] for event in events] == ["a", "a", "a"]
        assert [event.object.get("data") for event in events] == [None, {"key": "1"}, {"key": "1"}]

    def test_a_watch_without_a_revision_begins_with_what_is_there(self, subject: Subject, namespace: str) -> None:
        """As additions."""
        subject.config_map(namespace, "a")
        watch = subject.cluster.watch(CONFIG_MAP, namespace=namespace, fields="metadata.name=a", timeout_seconds=20)
        first = next(watch)

        assert (first.type, first.object["metadata"]["name"]) == ("ADDED", "a")

    def test_a_quiet_watch_ends_when_its_time_is_over(self, subject: Subject, namespace: str) -> None:
        """Without an error; a bookmark says how far it came, and a watch can go on from there."""
        subject.config_map(namespace, "a")
        revision = subject.cluster.list(CONFIG_MAP, namespace=namespace).revision
        for _ in range(5):  # a busy server may send no bookmark within the time
            began = subject.clock.monotonic()
            events = list(subject.cluster.watch(CONFIG_MAP, namespace=namespace, revision=revision, timeout_seconds=4))
            lasted = subject.clock.monotonic() - began
            if reached := [event.object["metadata"]["resourceVersion"] for event in events if event.type == "BOOKMARK"]:
                break
        subject.config_map(namespace, "b")
        onwards = subject.cluster.watch(CONFIG_MAP, namespace=namespace, fields=OURS, revision=reached[-1], timeout_seconds=20)
        after = next(event for event in onwards if event.type != "BOOKMARK")

        assert {event.type for event in events} <= {"BOOKMARK", "ADDED"}
        assert int(reached[-1]) >= int(revision)
        assert lasted < 60
        assert after.object["metadata"]["name"] == "b"

    def test_a_watch_from_a_forgotten_revision_is_told_so(self, subject: Subject, namespace: str) -> None:
        """The watcher lists again."""
        if not subject.forgets_watches:
            pytest.skip("this cluster's watch cache still holds every change since it was started")
        with pytest.raises(RevisionGone):
            list(subject.cluster.watch(CONFIG_MAP, namespace=namespace, revision=subject.gone_revision(), timeout_seconds=5))
