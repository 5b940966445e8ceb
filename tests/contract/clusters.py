"""Clusters for the contract suite: the sandbox, started for the session, and a real one where KUBECONFIG names one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import CONFIG_MAP
from becalm.testing.contracts.cluster_subject import Subject
from becalm.testing.sandbox import SandboxHandle, running_sandbox


def ask_for_trouble(faults: Mapping[str, Any]) -> None:
    """Make the test cluster's storage slow or faulty, by the file beside its kubeconfig that its driver reads; nothing ends it."""
    folder = Path(os.environ["KUBECONFIG"]).parent / "volumes"
    if not folder.is_dir():
        pytest.skip("this cluster's storage cannot be asked for trouble")
    (folder / "faults.json").write_text(json.dumps(dict(faults)))


@pytest.fixture(scope="session")
def real_subject() -> Subject:
    """The real cluster; without one the test is skipped.

    Its first revision stands for a forgotten one: an API server that is some minutes old, or was started after a compaction, no
    longer knows it.
    """
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: set KUBECONFIG")
    return Subject(cluster=connect(), gone_revision=first_revision, forgets_watches=False, storage_faults=ask_for_trouble)


def first_revision() -> str:
    """Return the first revision of all; a cluster that is too young to have forgotten it has no gone one. The official client is asked, not our adapter."""
    from kubernetes import client, config

    settings = client.Configuration()
    config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=settings)
    with client.ApiClient(settings) as connection:
        try:
            client.CoreV1Api(connection).list_namespace(resource_version="1", resource_version_match="Exact", limit=1)
        except client.ApiException as error:
            assert error.status == 410
            return "1"
    pytest.skip("this API server is too young to have forgotten its first revision")


@pytest.fixture(scope="session")
def sandbox_subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The sandbox, in a process and a folder of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        cluster = connect(kubeconfig=str(handle.kubeconfig))
        subject = Subject(
            cluster=cluster,
            gone_revision=lambda: forgotten(subject, handle),
            storage_faults=lambda faults: handle.faults(**faults),
        )
        yield subject


def forgotten(subject: Subject, handle: SandboxHandle) -> str:
    """Write twice, let the sandbox forget, and return the revision before."""
    name = {"metadata": {"name": "becalm-contract-tick", "namespace": "default"}}
    before = subject.cluster.list(CONFIG_MAP, namespace="default", page_size=1).revision
    for tick in ("1", "2"):
        subject.cluster.apply(CONFIG_MAP, {**name, "data": {"tick": f"{before}-{tick}"}}, verb=Verb.FORCE_APPLY)
    handle.compact()
    return before
