"""Every cluster keeps the one contract: the sandbox and a real one. Where they differ, the sandbox is wrong."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import pytest
from tests.contract.clusters import real_subject, sandbox_subject

from becalm.testing.contracts.cluster import ClusterContract, Subject


class TestSandbox(ClusterContract):
    """The small API server that Becalm brings along."""

    @pytest.fixture
    def subject(self, sandbox_subject: Subject) -> Subject:
        """Return the cluster under test."""
        return sandbox_subject


@pytest.mark.cluster
class TestRealCluster(ClusterContract):
    """A cluster that KUBECONFIG names."""

    @pytest.fixture
    def subject(self, real_subject: Subject) -> Subject:
        """Return the cluster under test."""
        return real_subject
