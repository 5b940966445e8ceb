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

    Its first revision stands for a forgotten one: an API server that is some minutes old no longer knows it.
    """
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: set KUBECONFIG")
    return Subject(cluster=connect(), gone_revision=lambda: "1", forgets_watches=False, storage_faults=ask_for_trouble)


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
