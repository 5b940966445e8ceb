"""Coverage: each piece of state has a verdict with its reason, and the scores show their arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.unit.hidden_state import CONTROLLED, SENTINEL, SHOP, a_cluster_with_all

from becalm.actions import census, coverage, inventory
from becalm.actions.coverage import Coverage, Covered, Protection, Verdict
from becalm.actions.objectives import PolicyStatus
from becalm.cli.coverage import document, grouped, show
from becalm.errors import AccessDenied
from becalm.model import Manifest
from becalm.policy.claims import StatelessClaim
from becalm.testing.builders import NOON, a_point, a_policy, days
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_claim, a_config_map, a_namespace, a_pod, a_snapshot_class, a_storage_class, a_volume, an_object

GOOD = PolicyStatus(policy="shop", now=NOON, last_good=a_point(age=timedelta(hours=1)), met=True)


def a_cluster(*objects: Manifest, namespaces: tuple[str, ...] = (SHOP,)) -> FakeCluster:
    """Return a cluster whose bound claims have volumes that can be cut."""
    cluster = FakeCluster()
    classes = a_storage_class(), a_snapshot_class()
    for item in classes:
        item["metadata"].setdefault("annotations", {})["meta.helm.sh/release-name"] = "storage"
    cluster.put(*classes, *(a_namespace(name) for name in namespaces))
    for item in objects:
        cluster.put(item)
        if item["kind"] == "PersistentVolumeClaim" and "volumeName" in item["spec"]:
            cluster.put(a_volume(item))
    return cluster


def judged(cluster: FakeCluster, *protections: Protection, claims: tuple[StatelessClaim, ...] = ()) -> Coverage:
    """Return the coverage of a whole cluster."""
    seen = census.read(cluster)
    facts = inventory.read(cluster, seen.namespaces, frozenset(item.name for item in seen.namespaces))
    return coverage.judge(seen, facts, protections, claims)


def protected(*, status: PolicyStatus = GOOD, **spec: Any) -> Protection:
    return Protection(policy=a_policy(**spec), status=status)


def the_only(found: Coverage) -> Covered:
    (item,) = found.items
    return item


def test_what_a_policy_captures_and_has_saved_is_covered() -> None:
    """A claim and an object beside it; the arithmetic is shown."""
    found = judged(a_cluster(a_claim("data"), a_config_map("settings")), protected())

    assert [(item.verdict, item.policies) for item in found.items] == [(Verdict.COVERED, ("shop",))] * 2
    assert "last good point 2026-06-15T11:00:00Z" in found.items[0].because
    assert (str(found.score), found.whole) == ("2 of 2 = 100 %", True)


def test_without_a_policy_nothing_is_covered() -> None:
    """Each namespace stands in the answer, an empty one too, with the reason."""
    found = judged(a_cluster(a_config_map("settings"), namespaces=(SHOP, "empty")))

    assert (the_only(found).verdict, the_only(found).because) == (Verdict.UNCOVERED, coverage.NOBODY)
    assert [(place.namespace, place.why_not, str(place.score)) for place in found.places] == [
        ("empty", "no policy names it", "nothing to cover"),
        (SHOP, "no policy names it", "0 of 1 = 0 %"),
    ]


def test_a_policy_without_a_good_point_covers_nothing() -> None:
    """Selected is not saved; so it is with a point that is too old, and with a repository that cannot be read."""
    cluster = a_cluster(a_config_map("settings"))
    statuses = [
        PolicyStatus(policy="shop", now=NOON),
        PolicyStatus(policy="shop", now=NOON, last_good=a_point(age=days(3)), met=False),
        PolicyStatus(policy="shop", now=NOON, reached=False),
    ]
    found = [the_only(judged(cluster, protected(status=status))) for status in statuses]

    assert [item.verdict for item in found] == [Verdict.STALE] * 3
    assert [
        words in item.because for words, item in zip(("no good recovery point", "older than its", "cannot be read"), found, strict=True)
    ]
    assert all(not judged(cluster, protected(status=status)).whole for status in statuses)


def test_a_point_that_was_made_by_another_selection_covers_nothing() -> None:
    """It may not hold what the policy selects today: the next run will."""
    item = the_only(judged(a_cluster(a_config_map("settings")), replace(protected(), changed=True)))

    assert (item.verdict, "selected otherwise" in item.because) == (Verdict.STALE, True)


def test_only_what_says_what_is_captured_makes_another_selection() -> None:
    """A new namespace or volume rule does, a longer retention does not; a point that tells no policy is another."""
    saved = a_policy().model_dump(mode="json", by_alias=True, exclude_none=True)
    other = a_policy(select={"namespaces": ["shop", "till"]})

    assert not coverage.selects_otherwise(a_policy(retention={"daily": 30}), saved)
    assert coverage.selects_otherwise(other, saved)
    assert coverage.selects_otherwise(a_policy(volumes={"default": "skip"}), saved)
    assert coverage.selects_otherwise(a_policy(), {})


def test_one_policy_that_stands_is_enough() -> None:
    """Another that selects the same and failed takes nothing away."""
    failed = Protection(policy=a_policy(name="other"), status=PolicyStatus(policy="other", now=NOON))
    found = judged(a_cluster(a_config_map("settings")), failed, protected())

    assert (the_only(found).verdict, the_only(found).policies) == (Verdict.COVERED, ("shop",))


def test_a_skipped_volume_is_left_out_with_its_because() -> None:
    """It was decided: it counts neither way, and is shown beside the sum."""
    rules = {"rules": [{"match": {"claim": "cache"}, "use": "skip", "because": "rebuilt each night"}]}
    found = judged(a_cluster(a_claim("cache"), a_claim("data")), protected(volumes=rules))
    verdicts = {item.state.name: (item.verdict, item.because) for item in found.items}

    assert verdicts["cache"] == (Verdict.LEFT_OUT, "volumes.rules.0 of shop: rebuilt each night")
    assert (verdicts["data"][0], str(found.score)) == (Verdict.COVERED, "1 of 1 = 100 %; 1 left out")


def test_a_volume_that_cannot_be_cut_is_not_covered() -> None:
    """The verdict is that of the next run: no snapshot class serves it."""
    cluster = FakeCluster()
    claim = a_claim("data")
    kept = a_storage_class()
    kept["metadata"].setdefault("annotations", {})["meta.helm.sh/release-name"] = "storage"
    cluster.put(a_namespace(SHOP), kept, claim, a_volume(claim))
    item = the_only(judged(cluster, protected()))

    assert (item.verdict, "no VolumeSnapshotClass serves" in item.because) == (Verdict.UNCOVERED, True)


def test_what_stands_in_no_claim_is_never_covered() -> None:
    """A path of a node, though the policy selects its pod."""
    pod = a_pod("writer", mounts={}, volumes=[{"name": "v", "hostPath": {"path": "/srv"}}])
    pod["spec"]["containers"] = [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]
    pod["metadata"]["ownerReferences"] = CONTROLLED
    item = the_only(judged(a_cluster(pod), protected()))

    assert (item.verdict, item.policies, "only claims" in item.because) == (Verdict.UNCOVERED, ("shop",), True)


def test_labels_and_kinds_decide_as_in_a_run() -> None:
    """What no selector means is not covered; a kind that is excluded by name is left out; so is what opts out."""
    objects = (
        a_config_map("mine", labels={"app": "web"}),
        a_config_map("other", labels={"app": "db"}),
        an_object("batch/v1", "CronJob", "nightly", SHOP, labels={"app": "web"}, spec={"schedule": "@daily"}),
        a_config_map("never", labels={"app": "web", "becalm.dev/protect": "no"}),
    )
    select = {"namespaces": [SHOP], "labels": "app=web", "resources": {"exclude": ["cronjobs"]}}
    found = judged(a_cluster(*objects), protected(select=select))

    assert {item.state.name: item.verdict for item in found.items} == {
        "mine": Verdict.COVERED,
        "other": Verdict.UNCOVERED,
        "nightly": Verdict.LEFT_OUT,
        "never": Verdict.LEFT_OUT,
    }


def test_what_belongs_to_no_namespace_is_covered_only_for_certain() -> None:
    """`clusterScoped: all` takes it; `auto` may not, and so does not count."""
    volume = an_object("v1", "PersistentVolume", "left", spec={"nfs": {}}, status={"phase": "Released"})
    role = an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "helper", rules=[])
    role["metadata"]["managedFields"] = [{"manager": "kubectl-edit"}]
    cluster = a_cluster(volume, role)
    auto = judged(cluster, protected())
    everything = judged(cluster, protected(select={"namespaces": [SHOP], "clusterScoped": "all"}))

    assert {item.state.name: item.verdict for item in auto.items} == {"left": Verdict.UNCOVERED, "helper": Verdict.UNCOVERED}
    assert {item.state.name: item.verdict for item in everything.items} == {"left": Verdict.UNCOVERED, "helper": Verdict.COVERED}


def test_a_claim_that_holds_excuses_and_says_so() -> None:
    """With its owner, its reason and its last day; it counts neither way."""
    claim = StatelessClaim.model_validate(
        {
            "apiVersion": "becalm.dev/v1",
            "kind": "StatelessClaim",
            "metadata": {"name": "front"},
            "spec": {"scope": {"namespaces": [SHOP]}, "reason": "only a proxy", "owner": "web", "confirmed": "2026-06-01"},
        }
    )
    found = judged(a_cluster(a_config_map("settings")), claims=(claim,))

    assert the_only(found).because == "the claim front of web holds until 2026-08-30: only a proxy"
    assert (str(found.score), found.whole) == ("nothing to cover; 1 claimed", True)


def test_what_could_not_be_read_is_not_whole() -> None:
    """Unknown is never taken for covered."""
    cluster = a_cluster(a_config_map("settings"))
    cluster.fail(AccessDenied("forbidden"), verb="list", kind="secrets")
    found = judged(cluster, protected())

    assert (found.score.percent, found.whole) == (100, False)


def test_every_planted_kind_has_a_verdict_and_no_secret_comes_out(capsys: Any) -> None:
    """In the document for programs and in the tables for people."""
    cluster, planted = a_cluster_with_all()
    found = judged(cluster, protected())
    said = json.dumps(document(found), default=str)
    show(found, every=True)
    printed = capsys.readouterr().out

    assert {item["where"] for item in json.loads(said)["state"]} == {one.where for one in planted}
    assert all(item.because for item in found.items)
    assert sum(found.score.counts.values()) == len(planted)
    assert SENTINEL not in said + printed


def test_alike_rows_are_told_together() -> None:
    """Three are named, the others counted."""
    found = judged(a_cluster(*(a_config_map(f"map-{number}") for number in range(5))))

    assert list(grouped(found.items)) == [(SHOP, "not covered", "config map", "map-0, map-1, map-2 and 2 more", coverage.NOBODY)]
