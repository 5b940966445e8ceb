"""The Secret that a mover mounts: whole, labelled, of one run, and gone afterwards."""

from base64 import b64decode

import pytest

from becalm.actions import credentials
from becalm.actions.handover import Ports, Settings
from becalm.errors import AlreadyExists
from becalm.kube.base import owned_by
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.manifests import a_namespace, a_secret
from becalm.testing.memory_store import MemoryStore


@pytest.fixture
def ports() -> Ports:
    """A cluster with two namespaces, and a store with credentials."""
    cluster = FakeCluster()
    cluster.put(a_namespace(), a_namespace("bank"))
    settings = Settings(cluster_name="test", store_environment={"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "grüezi"})
    return Ports(cluster=cluster, store=MemoryStore(), password="pass\nword", clock=FakeClock(), settings=settings)


def test_it_holds_what_a_mover_needs_and_carries_its_owner(ports: Ports) -> None:
    """One item per variable, and the password; the labels name policy, run and repository."""
    secret = credentials.mover_secret("shop", "abc", "bank", ports)

    assert {name: b64decode(value).decode() for name, value in secret["data"].items()} == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "grüezi",
        "password": "pass\nword",
    }
    assert secret["metadata"] == {
        "name": "becalm-abc",
        "namespace": "bank",
        "labels": owned_by("shop", "abc", "mover", repository=ports.store.url),
    }


def test_making_it_twice_writes_it_once(ports: Ports) -> None:
    """The second call finds it right and leaves it."""
    assert credentials.ensure("shop", "abc", "shop", ports) == credentials.ensure("shop", "abc", "shop", ports) == "becalm-abc"
    assert [call.verb for call in ports.cluster.calls if call.verb != "get"] == ["create", "create"]
    assert len(ports.cluster.all("secrets")) == 1


def test_one_that_is_out_of_date_is_brought_up_to_date(ports: Ports) -> None:
    """A password that was changed between two tries reaches the mover."""
    credentials.ensure("shop", "abc", "shop", ports)
    stale = ports.cluster.all("secrets")[0]
    ports.cluster.put({**stale, "data": {"password": "b2xk"}})
    credentials.ensure("shop", "abc", "shop", ports)

    assert ports.cluster.all("secrets")[0]["data"] == credentials.mover_secret("shop", "abc", "shop", ports)["data"]


def test_a_secret_of_somebody_else_is_neither_taken_nor_removed(ports: Ports) -> None:
    """The name alone proves nothing."""
    ports.cluster.put(a_secret("becalm-abc", key="YQ=="))

    with pytest.raises(AlreadyExists, match="not of this run"):
        credentials.ensure("shop", "abc", "shop", ports)
    assert credentials.remove("shop", "abc", ports) == 0
    assert len(ports.cluster.all("secrets")) == 1


def test_it_is_removed_wherever_it_is_and_absence_is_fine(ports: Ports) -> None:
    """One run's Secrets go from every namespace; another run's stay, and those of a restore too."""
    for namespace in ("shop", "bank"):
        credentials.ensure("shop", "abc", namespace, ports)
    credentials.ensure("shop", "def", "shop", ports)
    credentials.ensure("shop", "restore-1", "shop", ports, role=credentials.RESTORE_ROLE)

    assert credentials.remove("shop", "abc", ports) == 2
    assert credentials.remove("shop", "abc", ports) == 0
    assert credentials.remove("shop", "restore-1", ports) == 0
    assert sorted(item["metadata"]["name"] for item in ports.cluster.all("secrets")) == ["becalm-def", "becalm-restore-1"]
