"""The contract of the cluster port, as tests, with all that Becalm rests on behind it. The sandbox and a real cluster pass the same.

A test module subclasses `ClusterContract` and defines the fixture `subject`: the cluster under test and what it offers. Each test has a
namespace of its own, whose end nobody waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from becalm.kube.kinds import NAMESPACE
from becalm.testing.contracts.cluster_lists import RevisionContract, SelectionContract, WatchContract
from becalm.testing.contracts.cluster_objects import DiscoveryContract, EndingContract, WritingContract
from becalm.testing.contracts.cluster_pods import ExecContract, PodContract
from becalm.testing.contracts.cluster_subject import Subject
from becalm.testing.contracts.cluster_volumes import CutContract, VolumeContract

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ClusterContract", "Subject"]


class ClusterContract(
    DiscoveryContract,
    WritingContract,
    EndingContract,
    SelectionContract,
    RevisionContract,
    WatchContract,
    PodContract,
    ExecContract,
    VolumeContract,
    CutContract,
):
    """What a caller may rest on."""

    @pytest.fixture
    def namespace(self, subject: Subject) -> Iterator[str]:
        """A namespace of the test's own."""
        name = subject.new_namespace()
        yield name
        subject.cluster.delete(NAMESPACE, name)
