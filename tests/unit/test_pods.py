"""In which container a hook runs: the ready one that holds the data; what is left out, and what is missed, each with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from becalm.actions.handover import HookOrigin, HookPlan
from becalm.actions.pods import MOST_NAMED, Resolved, resolve, switch_folders
from becalm.model import Manifest, VolumeRef
from becalm.quiesce.deadman import FOLDERS
from becalm.testing.objects import a_pod

HOOK = HookPlan(name="spec.quiesce.hooks.0", origin=HookOrigin.POLICY, namespace="shop", labels="app=db")
CLAIMS = frozenset({VolumeRef(namespace="shop", claim="data")})
DATA = {"name": "data", "mountPath": "/data"}
RUNS: dict[str, Any] = {"running": {}}


def a_database(name: str = "db-0", **changes: Any) -> Manifest:
    return a_pod(name, mounts={"main": "data"}, **changes)


def chosen(*pods: Manifest, hook: HookPlan = HOOK) -> Resolved:
    return resolve(hook, CLAIMS, pods)


def test_a_side_car_counts_as_a_container() -> None:
    """An init container that stays is chosen by its name, and where it alone mounts the data."""
    pod = a_pod("db-0", containers=("app",), mounts={})
    pod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod["spec"]["initContainers"] = [{"name": "keeper", "restartPolicy": "Always", "volumeMounts": [DATA]}]
    pod["status"]["initContainerStatuses"] = [{"name": "keeper", "ready": True, "state": RUNS}]

    assert [place.container for place in chosen(pod).places] == ["keeper"]
    assert [place.container for place in chosen(pod, hook=replace(HOOK, container="keeper")).places] == ["keeper"]
    assert [place.container for place in chosen(pod, hook=replace(HOOK, container="app")).places] == ["app"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("prepare", "is an init container, which has ended"),
        ("debugger", "is an ephemeral one"),
        ("gone", "the pod has no container 'gone'"),
    ],
)
def test_a_container_that_cannot_be_meant_is_named_with_the_reason(name: str, problem: str) -> None:
    """An init container, an ephemeral one, and one that is not there: each is an error of its own."""
    pod = a_database(initContainers=[{"name": "prepare"}], ephemeralContainers=[{"name": "debugger"}])
    found = chosen(pod, hook=replace(HOOK, container=name))

    assert found.places == ()
    assert problem in str(found.missing[0])
    assert HOOK.name in found.missing[0].hint


def test_pods_that_have_ended_are_left_out_with_the_reason() -> None:
    """A completed job beside the database is no missing hook."""
    found = chosen(a_database(), a_database("load-1", phase="Succeeded"), a_database("load-2", phase="Failed"))

    assert [place.pod for place in found.places] == ["db-0"]
    assert found.missing == ()
    assert [(item.what, item.because) for item in found.left_out] == [
        ("pods/shop/load-1", "the pod has ended (Succeeded)"),
        ("pods/shop/load-2", "the pod has ended (Failed)"),
    ]


def test_init_and_ephemeral_containers_that_mount_the_data_are_left_out_with_the_reason() -> None:
    """They are no part of what is stilled, and the record says so."""
    pod = a_database(
        initContainers=[{"name": "prepare", "volumeMounts": [DATA]}, {"name": "other"}],
        ephemeralContainers=[{"name": "debugger", "volumeMounts": [DATA]}],
    )
    found = chosen(pod)

    assert [item.what for item in found.left_out] == ["pods/shop/db-0 (prepare)", "pods/shop/db-0 (debugger)"]
    assert [place.container for place in found.places] == ["main"]


def test_a_pod_that_is_going_and_still_runs_is_missed() -> None:
    """It may write until its end, and nobody stills it; once its container has ended it is left out."""
    going = a_database("db-old")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = chosen(going, a_database())
    assert [place.pod for place in found.places] == ["db-0"]
    assert "is being deleted and still runs" in str(found.missing[0])
    going["status"]["containerStatuses"][0]["state"] = {"terminated": {}}
    found = chosen(going, a_database())

    assert found.missing == ()
    assert [item.because for item in found.left_out] == ["the pod is being deleted, and its container has ended"]


def test_every_replica_is_frozen_and_one_that_is_not_ready_is_missed() -> None:
    """Two of three stand ready: the third lowers the label, with its name."""
    found = chosen(a_database("db-0"), a_database("db-1", ready=False), a_database("db-2"))

    assert [place.pod for place in found.places] == ["db-0", "db-2"]
    assert ["shop/db-1" in str(miss) for miss in found.missing] == [True]


def test_nobody_at_all_is_one_missing_hook() -> None:
    """It says what was looked for, and what to do."""
    (miss,) = chosen().missing
    (by_name,) = chosen(hook=replace(HOOK, labels="", pod="db-7")).missing

    assert "there is no running pod with app=db" in str(miss)
    assert "there is no running pod db-7" in str(by_name)
    assert "onFailure: crash-consistent" in miss.hint


def test_of_very_many_that_are_left_out_some_are_named() -> None:
    """A thousand completed jobs must not fill the record."""
    found = chosen(a_database(), *(a_database(f"job-{number}", phase="Succeeded") for number in range(100)))

    assert len(found.left_out) == MOST_NAMED + 1
    assert found.left_out[-1].what == f"{100 - MOST_NAMED} pods more"


def with_mounts(*mounts: tuple[str, str], tmpdir: str = "") -> tuple[str, ...]:
    """Return the folders for a switch in a container with these mounts of volumes: `data` is a claim, others are in memory."""
    pod = a_database()
    container = pod["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": name, "mountPath": path} for path, name in mounts]
    container["env"] = [{"name": "TMPDIR", "value": tmpdir}] if tmpdir else []
    return switch_folders(pod, "main")


def test_the_switch_never_stands_on_a_claim() -> None:
    """What is frozen takes no write: folders on a claim are not tried, those on memory inside of it are."""
    assert with_mounts(("/data", "data")) == FOLDERS
    assert with_mounts(("/tmp", "data")) == ("/dev/shm", "/run", "/var/tmp")
    assert with_mounts(("/var/", "data")) == ("/dev/shm", "TMPDIR", "/run")
    assert with_mounts(("/var", "data"), ("/var/tmp", "memory")) == FOLDERS
    assert with_mounts(("/data", "data"), tmpdir="/data/tmp") == ("/dev/shm", "/run", "/var/tmp")
    assert with_mounts(("/dev/shm", "data"), ("/tmp", "data"), ("/run", "data"), ("/var/tmp", "data")) == ()
