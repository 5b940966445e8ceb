"""Storage that is slow, hangs or fails, on a real cluster: it prolongs no freeze, and what it does not do is named.

The faults are the test cluster's (`cluster faults`, BECALM_CLUSTER_TOOL or ../shared/cluster/cluster) and hit everybody on it: each test ends them.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.clusters import real_subject
from tests.integration.test_capture_cluster import FREEZE, THAW, Shop, capture, shop, wait_until

from becalm.actions import export, quiesce, snapshot
from becalm.clock import SystemClock
from becalm.errors import CutFailed
from becalm.kube.base import MoverState
from becalm.kube.pods import PodMover
from becalm.model import Consistency, Direction, MoverSpec
from becalm.testing.builders import a_policy

pytestmark = pytest.mark.cluster

TOOL = Path(os.environ.get("BECALM_CLUSTER_TOOL") or Path(__file__).parents[3] / "shared" / "cluster" / "cluster")
READY_SECONDS = 60

Trouble = Callable[..., None]


@pytest.fixture
def trouble(shop: Shop) -> Iterator[Trouble]:
    """Ask the storage for trouble; it ends with the test."""
    if not TOOL.exists() or not (Path(os.environ["KUBECONFIG"]).parent / "volumes").is_dir():
        pytest.skip("this cluster's storage cannot be asked for trouble: set BECALM_CLUSTER_TOOL")

    def ask(**faults: Any) -> None:
        subprocess.run([str(TOOL), "faults", json.dumps(faults)], check=True)

    try:
        yield ask
    finally:
        ask()


def test_nobody_stands_still_until_a_cut_is_readable(shop: Shop, trouble: Trouble) -> None:
    """The storage needs a minute until a snapshot can be read: the application goes on as soon as it is cut, and no switch had to fire."""
    trouble(ready_seconds=READY_SECONDS)
    _, cut = capture(shop)

    assert cut.thawed is not None
    assert (cut.thawed.consistency, cut.thawed.switch_fired) == (Consistency.APPLICATION, False)
    assert shop.longest_freeze() < READY_SECONDS / 2


def test_a_slow_cut_is_waited_for_within_the_freeze(shop: Shop, trouble: Trouble) -> None:
    """Two seconds are what this storage takes: the freeze holds for them, and the label is earned."""
    trouble(cut_seconds=2)
    _, cut = capture(shop)

    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.APPLICATION
    assert (cut.ended - cut.began).total_seconds() >= 2
    assert shop.longest_freeze() >= 2


def test_a_storage_that_hangs_keeps_nobody_frozen(shop: Shop, trouble: Trouble) -> None:
    """The window ends by its time; a policy that accepts no less says which volume was not cut, and what to change."""
    trouble(hang_snapshots=True)
    hook = {"select": {"labels": "app=counter"}, "command": {"freeze": FREEZE, "thaw": THAW}}
    strict = a_policy(select={"namespaces": [shop.namespace]}, quiesce={"hooks": [hook], "timeout": "5m", "onFailure": "fail"})
    application, begun = shop.application(), shop.begun()
    record = quiesce.execute(application, begun, strict, shop.ports)
    passed = (SystemClock().now() - min(item.asked for item in record.frozen)).total_seconds()
    with pytest.raises(CutFailed, match="did not cut within the freeze"):
        snapshot.execute(application, replace(record, timeout_seconds=passed + 5), begun, strict, shop.ports)

    assert not shop.frozen()


def test_a_volume_that_cannot_be_made_is_named(shop: Shop, trouble: Trouble) -> None:
    """Its mover waits for it, and says in the end what the storage said; nobody is frozen meanwhile."""
    _, cut = capture(shop)
    (exported,) = export.execute([cut], shop.begun(), shop.policy, shop.ports)
    trouble(fail_volumes=1000)
    movers = PodMover(shop.subject.cluster, SystemClock(), image=shop.subject.image, policy="shop", start_timeout_seconds=10)
    spec = MoverSpec(
        name="mover",
        run=shop.begun().run,
        direction=Direction.BACK_UP,
        volume=exported.volume,
        namespace=exported.namespace,
        claim=exported.claim,
        repository=shop.store.url,
        secret="none",
    )
    movers.start(spec)
    wait_until(lambda: movers.poll("mover", namespace=exported.namespace).state is MoverState.FAILED)
    reason = movers.poll("mover", namespace=exported.namespace).reason

    assert "fault asked for: CreateVolume" in reason
    assert not shop.frozen()
