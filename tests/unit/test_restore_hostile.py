"""Recovery points that are damaged, locked away or hostile: refused or confined, with a sentence that says what to do, and nothing written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import orjson
import pytest

from becalm.actions import restore
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import Action, RestorePlan, RestoreRequest, VolumeAction
from becalm.actions.restore_trust import DEEPEST, MOST_BYTES, bounded, parse, unfit
from becalm.errors import AccessDenied, BecalmError, Damaged, RestoreRefused
from becalm.model import Manifest, ResourceRef
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

SHOP = (a_namespace(), a_map(level="1"), a_secret(key="YQ=="), a_claim(), a_deployment())
FILES = {"shop/data": {"db/a": b"1234"}}
WRITING = {"create", "update", "merge", "apply", "force-apply", "delete"}
FOLDER = "resources/core/configmaps/shop"


@dataclass
class Scene:
    """A recovery point in a bucket, and a cluster to restore into."""

    objects: tuple[Manifest, ...] = SHOP
    volumes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    there: tuple[Manifest, ...] = ()
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(kinds=list(DEFAULT_KINDS))
        self.cluster.put(a_storage_class(), *self.there)
        self.point = save_point(self.store, self.objects, kinds=DEFAULT_KINDS, volumes=self.volumes, raw=self.raw)

    @property
    def ports(self) -> Ports:
        """The outer world."""
        settings = Settings(cluster_name="test", store_environment={"AWS_ACCESS_KEY_ID": "k"})
        movers = FakeMover(self.store)
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=FakeClock(), settings=settings, movers=movers)

    def prepare(self, **request: object) -> RestorePlan:
        """Make a plan."""
        return restore.prepare(RestoreRequest(policy="shop", **request), self.ports)

    def execute(self, **request: object) -> RestorePlan:
        """Make a plan and carry it out; demand that it succeeds."""
        asked = RestoreRequest(policy="shop", **request)
        plan = restore.prepare(asked, self.ports)
        assert restore.execute(plan, asked, self.ports).failures == ()
        return plan

    def live(self, resource: str, name: str) -> Manifest:
        """One object of the cluster."""
        return next(item for item in self.cluster.all(resource) if item["metadata"]["name"] == name)

    def written(self) -> list[str]:
        """What was changed in the cluster."""
        return [f"{call.verb} {call.kind} {call.name}" for call in self.cluster.calls if call.verb in WRITING]


def packs(store: MemoryStore) -> list[str]:
    return [item.key for item in store.list("data/")]


def test_a_point_with_a_missing_pack_is_damaged_and_nothing_is_written() -> None:
    """Whichever pack it is, the error says where, and what to do."""
    for number in range(len(packs(Scene().store))):
        scene = Scene()
        scene.store.delete(packs(scene.store)[number])
        with pytest.raises(BecalmError) as raised:
            scene.prepare()

        assert raised.value.where
        assert scene.written() == []


def test_a_point_with_a_flipped_byte_is_damaged_and_nothing_is_written() -> None:
    """No byte that fails its authentication reaches a cluster."""
    for number in range(len(packs(Scene().store))):
        scene = Scene()
        key = packs(scene.store)[number]
        body = bytearray(scene.store.get(key))
        body[len(body) // 3] ^= 1
        scene.store.delete(key)
        scene.store.put(key, bytes(body))
        with pytest.raises(Damaged):
            scene.prepare()

        assert scene.written() == []


class LockedAway:
    """A bucket that shows what there is, and gives out no pack."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, key: str, *arguments: object, **more: object) -> bytes:
        """Refuse packs."""
        if key.startswith("data/"):
            raise AccessDenied("the bucket says no", where=key, hint="grant s3:GetObject")
        return self._store.get(key, *arguments, **more)


def test_a_point_that_is_locked_away_is_an_access_denied_with_its_place() -> None:
    """The remedy is the store's."""
    scene = Scene()
    with pytest.raises(AccessDenied, match="grant s3:GetObject") as raised:
        restore.prepare(RestoreRequest(policy="shop"), replace(scene.ports, store=LockedAway(scene.store)))

    assert raised.value.where.startswith("data/")
    assert scene.written() == []


def test_a_selection_that_matches_nothing_is_refused() -> None:
    """Never an empty success."""
    with pytest.raises(RestoreRefused, match="becalm show --objects"):
        Scene().prepare(namespaces=("nobody",))


def test_a_mapping_onto_an_existing_namespace_overwrites_nothing_in_it() -> None:
    """What is there stays as it is, and stands in the plan with its differences."""
    theirs = a_map(namespace="bank", level="theirs")
    scene = Scene(objects=SHOP[:3], there=(a_namespace("bank"), theirs))
    plan = scene.execute(namespace_mapping={"shop": "bank"})

    assert {str(step.target): step.action for step in plan.steps} == {
        "namespaces/bank": Action.KEEP,
        "configmaps/bank/settings": Action.KEEP,
        "secrets/bank/tls": Action.CREATE,
    }
    assert scene.live("configmaps", "settings")["data"] == {"level": "theirs"}


def test_a_point_of_another_cluster_brings_no_identity_along() -> None:
    """The same command; but uids, addresses and owners are of the other cluster, and none of them is written."""
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "name": "live", "uid": "of-the-other-cluster", "controller": True}
    owned = a_map("owned")
    owned["metadata"]["ownerReferences"] = [stranger]
    scene = Scene(objects=(a_namespace(), owned))
    plan = scene.execute()
    made = scene.live("configmaps", "owned")

    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["uid"] != owned["metadata"]["uid"]
    assert any("the reference is dropped" in str(finding) for finding in plan.findings)


def evil(name: str = "evil", *, kind: str = "ConfigMap", api_version: str = "v1", namespace: str = "shop", **more: object) -> bytes:
    return orjson.dumps({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **more})


DEEP = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"evil","namespace":"shop"},"data":' + b"[" * 900 + b"]" * 900 + b"}"
LIES = {
    "names another namespace": (f"{FOLDER}/evil.json", evil(namespace="kube-system"), "its namespace is 'kube-system'"),
    "names another object": (f"{FOLDER}/evil.json", evil("good"), "its name is 'good'"),
    "is of another group": (f"{FOLDER}/evil.json", evil(api_version="apps/v1"), "of the API 'apps/v1'"),
    "is of another kind": (f"{FOLDER}/evil.json", evil(kind="Secret"), "says that it is a Secret"),
    "stands outside of its namespace": (
        "resources/core/configmaps/_cluster/evil.json",
        orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "evil"}}),
        "stands in no namespace",
    ),
    "leads upwards by its name": (f"{FOLDER}/...json", evil(".."), "no API object can have"),
    "has an escape in its name": (f"{FOLDER}/a%2fb.json", evil("a%2fb"), "no API object can have"),
    "is nested without end": (f"{FOLDER}/evil.json", DEEP, "nested deeper"),
    "is larger than any object": (f"{FOLDER}/evil.json", evil(data={"a": "x" * (MOST_BYTES + 1)}), "larger than any API object"),
    "is no JSON": (f"{FOLDER}/evil.json", b"\xff\x00", "is not JSON"),
    "is no object": (f"{FOLDER}/evil.json", b"[]", "is not an API object"),
}


@pytest.mark.parametrize(("path", "document", "words"), LIES.values(), ids=LIES)
def test_an_object_that_lies_forbids_the_restore(path: str, document: bytes, words: str) -> None:
    """It is named with its path, and not one object is written, not even an honest one."""
    scene = Scene(objects=SHOP[:2], raw={path: document})
    plan = scene.prepare()
    with pytest.raises(RestoreRefused, match="restore from another recovery point"):
        restore.execute(plan, RestoreRequest(policy="shop"), scene.ports)

    assert any(words in finding.message for finding in plan.blocking)
    assert scene.written() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..%2f", "a\x1b[2J", "x" * 254])
def test_no_name_leads_out_of_its_place(name: str) -> None:
    """Neither as a name nor as a namespace: both stand in the addresses of requests."""
    assert unfit(ResourceRef(group="", resource="configmaps", namespace="shop", name=name))
    assert unfit(ResourceRef(group="", resource="configmaps", namespace=name, name="settings"))


@pytest.mark.parametrize("name", ["settings", "system:controller:node", "web.example.org", "kube-root-ca.crt", "_a"])
def test_names_that_exist_are_not_refused(name: str) -> None:
    """RBAC's colons and dots among them."""
    assert unfit(ResourceRef(group="", resource="x", namespace=None, name=name)) == ""


def test_an_object_without_end_is_not_read_to_its_end() -> None:
    """A declared size is not believed: reading stops at the limit."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in itertools.count():
            read += 1 << 20
            yield b"x" * (1 << 20)

    assert "larger than any API object" in parse(endless())[1]
    assert read <= MOST_BYTES + (2 << 20)


@pytest.mark.parametrize(("levels", "believed"), [(DEEPEST - 1, True), (DEEPEST + 1, False)])
def test_depth_has_a_limit(levels: int, believed: bool) -> None:
    """What is less deep passes as it is."""
    value, wrong = parse([b"[" * levels, b"]" * levels])

    assert (value is not None, wrong == "") == (believed, believed)


def test_a_million_objects_are_refused_before_they_are_in_memory() -> None:
    """The walk ends at the limit, with the remedy."""
    walked = 0

    def places() -> Iterator[tuple[int, int]]:
        nonlocal walked
        for number in range(1_000_000):
            walked += 1
            yield number, number

    with pytest.raises(RestoreRefused, match="--namespace"):
        dict(bounded(places(), "tree abc", most=1000))
    assert walked == 1001


def test_sizes_that_a_point_claims_cost_nothing() -> None:
    """A volume of a yottabyte is a number in the plan; what is not a number is none."""
    claims = [{"volume": {"namespace": "shop", "claim": "data"}, "bytes_total": 10**18}]
    huge = Scene(volumes=FILES, raw={"recovery-point.json": orjson.dumps({"volumes": claims})}).prepare()
    absurd = Scene(volumes=FILES, raw={"recovery-point.json": b'{"volumes": [{"volume": 7, "bytes_total": "many"}]}'}).prepare()

    assert [volume.size_bytes for volume in huge.volumes] == [10**18]
    assert [volume.size_bytes for volume in absurd.volumes] == [0]


def test_the_token_of_a_service_account_is_never_restored() -> None:
    """A hand-made one comes without its token, which the new cluster fills in; an automatic one does not come at all."""
    marks = {"kubernetes.io/service-account.name": "web", "kubernetes.io/service-account.uid": "old"}
    data = {"token": "b2xk", "ca.crt": "b2xk", "namespace": "b2xk", "extra": "bWluZQ=="}

    def token(name: str) -> Manifest:
        return an_object("v1", "Secret", name, metadata={"annotations": marks}, type="kubernetes.io/service-account-token", data=data)

    account = an_object("v1", "ServiceAccount", "web")
    scene = Scene(objects=(a_namespace(), account, token("ci"), token("web-token-abcde")))
    scene.execute()
    made = list(scene.cluster.all("secrets"))

    assert [item["metadata"]["name"] for item in made] == ["ci"]
    assert made[0]["data"] == {"extra": "bWluZQ=="}
    assert "kubernetes.io/service-account.uid" not in made[0]["metadata"]["annotations"]


def test_a_claim_that_says_it_is_filled_is_filled_all_the_same() -> None:
    """The marks of a restore are written by this restore, and never believed from a point."""
    scene = Scene(volumes=FILES)
    claim = a_claim()
    claim["metadata"]["annotations"] |= {"becalm.dev/restored-from": scene.point.id, "becalm.dev/filled": scene.point.volumes["shop/data"]}
    scene = Scene(objects=(a_namespace(), claim), volumes=FILES)
    plan = scene.execute()

    assert [volume.action for volume in plan.volumes] == [VolumeAction.FILL]
    assert scene.live("persistentvolumeclaims", "data")["metadata"]["annotations"]["becalm.dev/restored-from"] == scene.point.id


def test_what_pretends_to_be_a_temporary_object_of_becalm_is_left_out() -> None:
    """Else the reaper of the target would take what the restore made."""
    pretender = a_map("pretender")
    pretender["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "becalm", "becalm.dev/run": "abc"}
    plan = Scene(objects=(a_namespace(), pretender)).prepare()

    assert {str(step.target): step.action for step in plan.steps}["configmaps/shop/pretender"] is Action.SKIP
