"""A hundred kinds on a real cluster: applied, backed up, deleted, restored, and `becalm diff` says equal; once more under another name.

Which test covers which case of a restore (E is its number among the end-to-end cases):

| case | what | where |
|---|---|---|
| E1 E7 E8 E20 E21 | versions, annotations and RBAC, node ports, namespaces | here |
| E32 E42 E47 E49 E52 | mapping, one Secret, the second run, owners, the loss of a copy | here |
| E2 E16 to E19 E22 to E25 E31 E40 | versions no longer served, selections, patches, another cluster | unit/test_restore_plan and its neighbours; not on a real cluster |
| E46 E48 | conflict modes; killed at any call | unit/test_restore_modes, unit/test_restore_object_kills |
| E5 E6 E33 to E36 E41 E43 to E45 | data | test_protect_lose_restore, test_blueprint_restore; in place: unit/test_restore_inplace and the sandbox |
| E50 E51 | a webhook and an operator that are restored with what they serve | no end-to-end test |
| E9 E11 E39 E55 E56 | storage classes, 2,500 namespaces, side by side, another installation | no end-to-end test |
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from becalm.errors import NotFound
from becalm.kube.base import Verb
from tests.e2e import kinds_of_all_sorts as sorts
from tests.e2e.harness import becalm, eventually, gone, write_policy

if TYPE_CHECKING:
    from tests.e2e.harness import World

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

MAKERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A namespace of a hundred kinds, and its recovery point."""

    world: World
    policy: Path
    name: str
    environment: dict[str, str]

    @property
    def copy(self) -> str:
        """The namespace for what is restored beside it."""
        return f"{self.name}-copy"

    @property
    def group(self) -> str:
        """The group of its custom kinds."""
        return f"{self.name}.example.org"

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """Its custom kinds."""
        return [sorts.definition(self.group, number) for number in range(sorts.CUSTOM)]

    def becalm(self, verb: str, *arguments: str, code: int = 0) -> Any:
        """Run a verb with this policy."""
        return becalm(verb, str(self.policy), *arguments, environment=self.environment, code=code)

    def get(self, what: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return a live object of `apiVersion/Kind`."""
        return self.world.cluster.get(self.world.kinds[what], name, namespace=namespace)

    def make(self) -> None:
        """Make all of it; what names a service account is in its namespace."""
        made = {"annotations": {"example.org/owner": "the shop"}, "labels": {"team": "shop"}}
        self.world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, **made}})
        everything = [*self.definitions, *sorts.outside(self.name)]
        with ThreadPoolExecutor(MAKERS) as pool:
            list(pool.map(self.world.create, everything))
            eventually(self._is_served, "the custom kinds are served", seconds=120)
            customs = [sorts.custom(self.group, number) for number in range(sorts.CUSTOM)]
            inside = [self._placed(one) for one in (*sorts.within(self.name), *customs)]
            for pods in (False, True):  # a pod that was made before its LimitRange differs from one that comes after it
                list(pool.map(lambda one: self.world.create(one, self.name), [one for one in inside if (one["kind"] == "Pod") == pods]))
        owner = self.get("v1/ConfigMap", "settings", self.name)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": owner["metadata"]["uid"]}
        self.world.create(sorts.an_object("v1", "ConfigMap", "owned", metadata={"ownerReferences": [reference]}, data={}), self.name)
        self.world.ready(self.name, "app=alone")

    def _placed(self, manifest: dict[str, Any]) -> dict[str, Any]:
        subjects = [{**one, "namespace": self.name} for one in manifest.get("subjects", ())]
        return {**manifest, "subjects": subjects} if subjects else manifest

    def _is_served(self) -> bool:
        self.world.learn()
        return all(f"{self.group}/v1/Sort{number:02d}" in self.world.kinds for number in range(sorts.CUSTOM))

    def lose(self) -> None:
        """Delete all of it, and wait until it is gone."""
        self.world.cluster.delete(self.world.kinds["v1/Namespace"], self.copy)
        self.world.delete_namespace(self.name)
        everything = [*self.definitions, *sorts.outside(self.name)]
        with ThreadPoolExecutor(MAKERS) as pool:
            list(pool.map(lambda one: self.world.cluster.delete(self.world.kind(one), one["metadata"]["name"]), everything))
        for one in everything:
            kind, name = self.world.kind(one), one["metadata"]["name"]
            eventually(lambda kind=kind, name=name: gone(lambda: self.world.cluster.get(kind, name)), f"{name} is gone", seconds=180)


@pytest.fixture(scope="module")
def captured(world: World, environment: dict[str, str], bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """Make the namespace and capture it, once for all tests."""
    name = f"becalm-trip-{uuid4().hex[:6]}"
    lines = [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: trip}",
        "spec:",
        "  cluster: kubernetes_default",
        f"  select: {{namespaces: [{name}]}}",
        f"  target: {{url: 's3://{bucket}/trip', connection: becalm_s3, password: becalm_repository}}",
        "  retention: {last: 3}",
    ]
    policy = write_policy(tmp_path_factory.mktemp("trip") / "trip.yaml", lines)
    made = Captured(world=world, policy=policy, name=name, environment=environment)
    try:
        made.make()
        made.becalm("init")
        made.becalm("run")
        yield made
    finally:
        made.lose()


def test_a_point_beside_what_it_was_captured_from_is_equal(captured: Captured) -> None:
    """Of a hundred kinds and more; and what was ignored is told."""
    found = captured.becalm("diff")
    kinds = {tuple(path.split("/")[:2]) for path in captured.becalm("show", "--objects")["objects"]}

    assert (found["differences"], found["equal"]) == ([], True)
    assert found["compared"] > sorts.CUSTOM + len(sorts.within("x"))
    assert len(kinds) >= 100


def test_a_change_is_found_and_named_by_its_field(captured: Captured) -> None:
    """Exit code 1; a Secret's value is not told."""
    cluster, kinds = captured.world.cluster, captured.world.kinds

    def write(what: str, name: str, **more: Any) -> None:
        cluster.apply(kinds[what], {"metadata": {"name": name, "namespace": captured.name}, **more}, verb=Verb.MERGE)

    write("v1/ConfigMap", "settings", data={"level": "2"})
    write("v1/Secret", "tls", data={"key": "Yg=="})
    found = captured.becalm("diff", code=1)
    write("v1/ConfigMap", "settings", data={"level": "1"})
    write("v1/Secret", "tls", data={"key": "YQ=="})

    assert {one["kind"]: [field["path"] for field in one["fields"]] for one in found["differences"]} == {
        "ConfigMap": ["data.level"],
        "Secret": ["data.key"],
    }
    assert "Yg==" not in str(found)


def test_a_copy_under_another_name_is_equal_and_its_loss_harms_nobody(captured: Captured) -> None:
    """Every reference to the namespace follows; afterwards the origin is as it was, and so is the point."""
    captured.becalm("restore", "--yes", "--map", f"{captured.name}={captured.copy}", "--namespace", captured.name)
    found = captured.becalm("diff", "--map", f"{captured.name}={captured.copy}", "--namespace", captured.name)
    subjects = captured.get("rbac.authorization.k8s.io/v1/RoleBinding", "web", captured.copy)["subjects"]
    captured.world.delete_namespace(captured.copy)

    assert (found["differences"], found["equal"]) == ([], True)
    assert [one["namespace"] for one in subjects] == [captured.copy]
    assert captured.becalm("diff")["equal"]


def test_one_secret_comes_back_alone(captured: Captured) -> None:
    """`v1/Secret/NAMESPACE/tls`, and nothing beside it is written."""
    captured.world.cluster.delete(captured.world.kinds["v1/Secret"], "tls", namespace=captured.name)
    done = captured.becalm("restore", "--yes", "--object", f"v1/Secret/{captured.name}/tls")

    assert done["report"]["created"] == 1
    assert captured.becalm("diff")["equal"]


def test_all_that_was_lost_comes_back_equal_and_a_second_restore_changes_nothing(captured: Captured) -> None:
    """With its definitions, classes and roles; owners have their new uids."""
    before = captured.get("v1/ConfigMap", "settings", captured.name)["metadata"]["uid"]
    captured.lose()
    with pytest.raises(NotFound):
        captured.get("v1/Namespace", captured.name)
    done = captured.becalm("restore", "--yes")
    captured.world.learn()
    found = captured.becalm("diff")
    again = captured.becalm("restore", "--yes")
    owner = captured.get("v1/ConfigMap", "settings", captured.name)["metadata"]["uid"]
    owned = captured.get("v1/ConfigMap", "owned", captured.name)["metadata"]["ownerReferences"]

    assert done["ok"]
    assert (found["differences"], found["equal"]) == ([], True)
    assert (again["report"]["created"], again["report"]["linked"]) == (0, 0)
    assert [one["uid"] for one in owned] == [owner]
    assert owner != before
