"""The sandbox keeps the one contract that a real cluster keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from becalm.kube import connect
from becalm.testing.contracts.cluster import ClusterContract, Subject
from becalm.testing.sandbox import running_sandbox


@pytest.fixture(scope="module")
def sandbox_subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """One sandbox for all of these tests; each makes a namespace of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:

        def gone_revision() -> str:
            return str(sandbox.compact() - 1)

        def ask_for_trouble(faults: Mapping[str, Any]) -> None:
            sandbox.faults(**faults)

        yield Subject(cluster=connect(kubeconfig=str(sandbox.kubeconfig)), gone_revision=gone_revision, storage_faults=ask_for_trouble)


class TestSandbox(ClusterContract):
    """A sandbox of its own."""

    @pytest.fixture
    def subject(self, sandbox_subject: Subject) -> Subject:
        """Return the cluster under test."""
        return sandbox_subject
