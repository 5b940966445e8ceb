"""Comparing two sides: every difference by its place, every ignored one with its rule, and never the value of a Secret."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from becalm.actions.diff import Change, Comparison, Held, Rules, Table, compare, compare_objects
from becalm.actions.diff_sides import LiveSide, PointSide, Wanted
from becalm.catalog.points import points
from becalm.cli.diff import print_comparison
from becalm.errors import AccessDenied, UsageError
from becalm.kube.base import Kind
from becalm.kube.diffing import diff
from becalm.kube.rules import RULES
from becalm.model import Manifest, ResourceRef, VolumeRef, from_payload, payload
from becalm.repository.reader import open_repository
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point

SHOP = (a_namespace(), a_map(level="1"), a_secret(key="YQ=="), a_claim(), a_deployment())


@dataclass
class Heap:
    """A side that is a heap of objects."""

    objects: tuple[Manifest, ...] = ()
    title: str = "a heap"
    volumes: dict[VolumeRef, str] | None = None
    kinds: tuple[Kind, ...] = DEFAULT_KINDS
    by_table: dict[Table, dict[ResourceRef, Manifest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for manifest in self.objects:
            kind = next(one for one in self.kinds if (one.api_version, one.kind) == (manifest["apiVersion"], manifest["kind"]))
            metadata = manifest["metadata"]
            ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=metadata["name"])
            self.by_table.setdefault((kind.group, kind.resource), {})[ref] = manifest

    def tables(self) -> set[Table]:
        """The kinds in it."""
        return set(self.by_table)

    def read(self, table: Table, *, version: str = "") -> Held:
        """What is of a kind."""
        return Held(objects=self.by_table.get(table, {}))

    def services(self) -> set[str]:
        """None."""
        return set()


@dataclass
class Scene:
    """Recovery points in a bucket, and a cluster."""

    store: MemoryStore = field(default_factory=MemoryStore)
    cluster: FakeCluster = field(default_factory=lambda: FakeCluster(kinds=list(DEFAULT_KINDS)))

    def save(self, *objects: Manifest, **more: object) -> str:
        """Write a recovery point; return its id."""
        return save_point(self.store, objects, kinds=DEFAULT_KINDS, **more).id

    def point(self, point: str, **more: object) -> PointSide:
        """Open a recovery point."""
        repository = open_repository(self.store, PASSWORD)
        found = next(one for one in points(repository, "shop") if one.id == point)
        return PointSide.open(repository, found, **more)

    def beside_the_cluster(self, point: str, *, rules: Rules | None = None, **more: object) -> Comparison:
        """Compare a recovery point with the cluster."""
        return compare(side := self.point(point, **more), LiveSide(cluster=self.cluster, like=side), rules)


def told(found: Comparison) -> list[str]:
    return [f"{one.change} {one.ref}" for one in found.differences]


def otherwise(manifest: Manifest, **metadata: object) -> Manifest:
    """The same object in another cluster, or at another time: only the server's own words differ."""
    other = deepcopy(manifest)
    other["metadata"] |= {"uid": "other", "resourceVersion": "99", "creationTimestamp": "2026-02-02T00:00:00Z", **metadata}
    return other


def test_what_was_added_removed_and_changed_is_told_with_its_fields() -> None:
    """From the first side to the second, each object once."""
    found = compare(Heap((a_map(level="1"), a_map("gone"))), Heap((a_map(level="2"), a_map("new"))))

    assert told(found) == ["removed configmaps/shop/gone", "added configmaps/shop/new", "changed configmaps/shop/settings"]
    assert [str(change) for change in found.differences[2].fields] == ["data.level: '1' → '2'"]
    assert (found.compared, found.equal) == (1, False)


def test_ignored_differences_are_told_with_their_rule_their_places_and_their_number() -> None:
    """A person sees what was not compared, and by whose word."""
    saved = [*map(a_map, ("a", "b")), a_deployment()]
    marked = otherwise(saved[2], annotations={"deployment.kubernetes.io/revision": "1"}) | {"status": {"readyReplicas": 1}}
    live = [otherwise(saved[0], annotations={"becalm.dev/restored-from": "abc"}), otherwise(saved[1]), marked]
    found = compare(Heap(tuple(saved)), Heap(tuple(live)))

    assert found.equal
    assert {one.rule: dict(one.fields) for one in found.ignored} == {
        "server-metadata": {"metadata.creationTimestamp": 3, "metadata.resourceVersion": 3, "metadata.uid": 3},
        "status": {"status": 1},
        "restore-marks": {'metadata.annotations["becalm.dev/restored-from"]': 1},
        "rollout-marks": {'metadata.annotations["deployment.kubernetes.io/revision"]': 1},
    }
    assert all(one.because for one in found.ignored)


def test_fields_that_do_not_differ_are_not_told_as_ignored() -> None:
    """Equal objects need no rule."""
    found = compare(Heap(SHOP), Heap(SHOP))

    assert (found.equal, found.compared, found.ignored) == (True, 5, ())


@pytest.mark.parametrize("rule", ["server-metadata", "status", "restore-marks"])
def test_a_rule_that_is_switched_off_ignores_nothing(rule: str) -> None:
    """What it kept out is a difference then."""
    saved = a_deployment()
    live = otherwise(saved, annotations=saved["metadata"]["annotations"] | {"becalm.dev/filled": "x"}) | {"status": {}}
    found = compare(Heap((saved,)), Heap((live,)), Rules.without([rule]))

    assert not found.equal
    assert rule not in {one.rule for one in found.ignored}


def test_a_rule_that_nobody_knows_is_a_usage_error_that_names_the_nearest() -> None:
    """A slip of the pen must not switch off nothing."""
    with pytest.raises(UsageError, match="did you mean server-metadata"):
        Rules.without(["server-metadat"])


VALUES = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
)
MANIFESTS = st.builds(
    lambda kind, metadata, spec, status: {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec, "status": status},
    st.sampled_from(["ConfigMap", "Service", "PersistentVolumeClaim", "Namespace"]),
    st.dictionaries(st.sampled_from(["uid", "labels", "annotations", "generation", "finalizers"]), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(["volumeName", "clusterIP", "ports", "x"]), VALUES, max_size=3),
    VALUES,
)


@given(MANIFESTS, MANIFESTS)
def test_every_difference_is_either_told_or_ignored_by_a_rule(before: Manifest, after: Manifest) -> None:
    """Nothing falls between: without rules everything is told, and objects that are equal by rule have a rule for each difference."""
    after = {**after, "kind": before["kind"]}
    everything, nothing = compare_objects(before, after, ())
    told_of, ignored = compare_objects(before, after, RULES)

    assert (everything, nothing) == (diff(before, after), {})
    assert bool(everything) == bool(told_of or ignored)


@given(MANIFESTS)
def test_comparing_changes_neither_object(manifest: Manifest) -> None:
    """Rules work on copies."""
    before, other = deepcopy(manifest), {**deepcopy(manifest), "status": "else"}
    compare_objects(manifest, other, RULES)

    assert manifest == before


@given(st.text(min_size=4), st.text(min_size=4))
def test_no_value_of_a_secret_is_told_whatever_rules_are_off(before: str, after: str) -> None:
    """That it differs is told, and where; the printed page and the document hold no value."""
    saved, live = a_secret(key="s3cr3t" + before), a_secret(key="s3cr3t" + after, more="s3cr3t")
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "s3cr3t"}
    found = compare(Heap((saved,)), Heap((live,)), Rules.without(rule.name for rule in RULES if rule.comparing))
    screen = Console(width=200)
    with screen.capture() as page:
        print_comparison(found, screen)

    assert not found.equal
    assert "s3cr3t" not in page.get() + str(payload(found))


def test_what_a_restore_leaves_out_is_counted_with_its_reason_and_compared_on_request() -> None:
    """Pods of a Deployment come and go; nobody calls that a difference unless asked."""
    replicas = an_object("apps/v1", "ReplicaSet", "web-1", owners=(a_deployment(),))
    found = compare(Heap((a_deployment(),)), Heap((a_deployment(), replicas)))
    asked = compare(Heap((a_deployment(),)), Heap((a_deployment(), replicas)), Rules.without(["made-again"]))

    assert found.equal
    assert [(one.because, one.before, one.after) for one in found.left_out] == [("its Deployment makes it again", 0, 1)]
    assert told(asked) == ["added replicasets.apps/shop/web-1"]


def test_a_comparison_survives_a_hand_over() -> None:
    """It is a document as a plan is one."""
    found = compare(Heap((a_map(level="1"),)), Heap((a_map(level="2"), a_map("new"))))

    assert from_payload(Comparison, payload(found)) == found


def test_a_point_beside_the_cluster_it_was_saved_from_is_equal() -> None:
    """But for what servers say."""
    scene = Scene()
    scene.cluster.put(a_storage_class(), *map(otherwise, SHOP))
    found = scene.beside_the_cluster(scene.save(a_storage_class(), *SHOP))

    assert (told(found), found.compared, found.equal) == ([], 6, True)


def test_a_live_object_that_the_point_does_not_hold_was_added() -> None:
    """In the namespaces of the point, of any kind that its policy selects, and nowhere else."""
    scene = Scene()
    scene.cluster.put(*SHOP, a_secret("new"), a_namespace("other"), a_secret("theirs", namespace="other"), a_storage_class("theirs"))
    scene.cluster.put(an_object("v1", "Event", "noise"))
    found = scene.beside_the_cluster(scene.save(*SHOP[:-1]))

    assert told(found) == ["added deployments.apps/shop/web", "added secrets/shop/new"]


def test_what_the_policy_of_the_point_does_not_select_was_not_added() -> None:
    """The point says what was selected; the cluster is looked at in the same way."""
    select = {"namespaces": ["shop"], "labels": "app=web", "resources": {"include": ["*"], "exclude": ["secrets"]}}
    described = orjson.dumps({"policy": {"document": {"spec": {"select": select}}}})
    scene, web = Scene(), a_map("web")
    web["metadata"]["labels"] = {"app": "web"}
    new = otherwise(web, name="new")
    scene.cluster.put(a_namespace(), web, new, a_map("unlabelled"), a_secret() | {"metadata": {**web["metadata"], "name": "tls"}})
    found = scene.beside_the_cluster(scene.save(a_namespace(), web, raw={"recovery-point.json": described}))

    assert told(found) == ["added configmaps/shop/new"]


def test_a_mapped_point_is_looked_for_where_a_restore_brings_it() -> None:
    """References to the namespace follow; what stands in the old namespace is not looked at."""
    subject = {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}
    role = {"kind": "Role", "name": "web"}
    binding = an_object("rbac.authorization.k8s.io/v1", "RoleBinding", "web", subjects=[subject], roleRef=role)
    copy = otherwise(binding, namespace="shop2") | {"subjects": [{**subject, "namespace": "shop2"}]}
    scene = Scene()
    scene.cluster.put(a_namespace(), a_map("theirs"), a_namespace("shop2"), copy)
    found = scene.beside_the_cluster(scene.save(a_namespace(), binding), mapping={"shop": "shop2"})

    assert (told(found), found.compared) == ([], 2)


def test_a_mapping_of_a_namespace_that_the_point_does_not_hold_is_a_usage_error() -> None:
    """Else everything would seem to be removed."""
    scene = Scene()
    with pytest.raises(UsageError, match="holds no namespace shpo"):
        scene.point(scene.save(*SHOP), mapping={"shpo": "x"})


@pytest.mark.parametrize(
    ("wanted", "compared"),
    [
        (Wanted.read(kinds=["secrets"]), 1),
        (Wanted.read(namespaces=["sh*"]), 5),
        (Wanted.read(namespaces=["bank"]), 2),
        (Wanted.read(objects=["v1/Secret/shop/tls", "deployments/shop/*"]), 2),
        (Wanted.read(kinds=["Deployment"], namespaces=["bank"]), 0),
        (Wanted(), 8),
    ],
)
def test_a_selection_narrows_both_sides(wanted: Wanted, compared: int) -> None:
    """By namespace, by kind, one by one; what stands elsewhere is neither added nor removed."""
    scene = Scene()
    others = (a_namespace("bank"), a_map(namespace="bank"), a_storage_class())
    scene.cluster.put(*SHOP, *others)
    found = scene.beside_the_cluster(scene.save(*SHOP, *others), wanted=wanted)

    assert (told(found), found.compared) == ([], compared)


def test_an_object_pattern_that_names_nothing_is_a_usage_error() -> None:
    """The remedy shows how to write it."""
    with pytest.raises(UsageError, match="v1/Secret/shop/tls"):
        Wanted.read(objects=["tls"])


def test_two_points_are_compared_with_the_data_of_their_volumes() -> None:
    """By the digests of their trees: no file is read."""
    scene = Scene()
    first = scene.save(*SHOP, volumes={"shop/data": {"a": b"1"}, "shop/same": {"b": b"1"}, "shop/old": {}})
    second = scene.save(*SHOP, volumes={"shop/data": {"a": b"2"}, "shop/same": {"b": b"1"}, "shop/new": {}}, cut=CUT.replace(hour=12))
    found = compare(scene.point(first), scene.point(second))

    assert [(str(one.volume), one.change) for one in found.volumes] == [
        ("shop/data", Change.CHANGED),
        ("shop/new", Change.ADDED),
        ("shop/old", Change.REMOVED),
    ]
    assert not found.equal


def test_a_kind_that_nobody_may_list_ends_the_comparison() -> None:
    """Half a comparison is none: the error names what is missing."""
    scene = Scene()
    point = scene.save(*SHOP)
    scene.cluster.put(*SHOP)
    scene.cluster.fail(AccessDenied("no", hint="ask for it"), verb="list", kind="secrets")

    with pytest.raises(AccessDenied):
        scene.beside_the_cluster(point)


def test_a_group_that_does_not_answer_is_not_called_equal() -> None:
    """Whether it is there, nobody knows, and that is said."""
    scene = Scene()
    point = scene.save(*SHOP)
    scene.cluster = FakeCluster(kinds=[kind for kind in DEFAULT_KINDS if kind.group != "apps"], failures={"apps/v1": "no answer"})
    scene.cluster.put(*SHOP[:-1])
    found = scene.beside_the_cluster(point)

    assert [finding.where for finding in found.findings] == ["apps/v1"]
    assert not found.equal


def test_an_object_that_is_not_what_its_path_says_is_not_called_equal() -> None:
    """A hostile point is named, and the rest is compared."""
    scene = Scene()
    scene.cluster.put(*SHOP)
    found = scene.beside_the_cluster(scene.save(*SHOP, raw={"resources/core/configmaps/shop/evil.json": b'{"kind":"ConfigMap"}'}))

    assert [finding.where for finding in found.findings] == ["resources/core/configmaps/shop/evil.json"]
    assert (found.compared, found.equal) == (5, False)


def test_the_cluster_is_asked_in_the_version_of_the_point() -> None:
    """Where it serves several, an object is not compared with itself in other words."""
    old = replace(next(kind for kind in DEFAULT_KINDS if kind.kind == "CronJob"), version="v1beta1", preferred=False)
    saved = an_object("batch/v1beta1", "CronJob", "nightly", spec={"schedule": "@daily"})
    kinds = (*DEFAULT_KINDS, old)
    scene = Scene(cluster=FakeCluster(kinds=list(kinds)))
    scene.cluster.put(a_namespace(), saved)
    point = save_point(scene.store, (a_namespace(), saved), kinds=kinds).id

    assert scene.beside_the_cluster(point).equal


def test_no_control_character_of_a_point_reaches_the_terminal() -> None:
    """Names and values may be hostile."""
    found = compare(Heap((a_map(level="1"),)), Heap((a_map(level="\x1b[2J[red]"),)))
    screen = Console(width=200)
    with screen.capture() as page:
        print_comparison(found, screen)

    assert "\x1b" not in page.get()
    assert "[red]" in page.get()
