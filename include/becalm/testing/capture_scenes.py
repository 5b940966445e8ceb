"""Scenes for the verbs of a capture: a cluster in memory whose hooks run as real processes, a snapshot controller, and a repository."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from becalm.actions import discover
from becalm.actions.handover import Begun, Ports, Settings, Trigger
from becalm.clock import SystemClock
from becalm.kube.base import ExecResult
from becalm.model import run_key
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository
from becalm.testing.builders import a_policy
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.fake_container import FakeContainer
from becalm.testing.fake_storage import FakeStorage
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_claim, a_namespace, a_pod, a_snapshot_class, a_storage_class, a_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from becalm.actions.handover import Application
    from becalm.policy.spec import ProtectionPolicy

PASSWORD = "correct horse"


class HastyClock(SystemClock):
    """The machine's clock, without patience: it sleeps a hundredth of what it is asked."""

    def sleep(self, seconds: float) -> None:
        """Wait a little."""
        super().sleep(seconds / 100)


@dataclass(slots=True)
class Stage:
    """A namespace `shop` with pods `db-0`, `db-1` …, each with a claim of its name and a hook that runs for real."""

    folder: Path
    pods: int = 1
    shell: str = "dash"
    timeout: str = "5m"
    """Minutes: a machine may be slow, and a switch that fires is what few tests are about."""
    on_failure: str = "crash-consistent"
    freeze: tuple[str, ...] = ()
    """Another freeze than the container's own."""
    codes: dict[str, int] = field(default_factory=dict)
    """Pods whose freeze freezes, and then fails with this code."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Further sections of the policy."""
    lose: str = ""
    """Lose the answer of commands that contain this word: they run, and nobody hears of it."""
    clock: SystemClock = field(default_factory=HastyClock)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    store: MemoryStore = field(default_factory=MemoryStore)
    boxes: dict[str, FakeContainer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set the stage."""
        self.cluster.run_command = self._exec
        self.cluster.put(a_namespace("shop"), a_namespace("becalm"), a_storage_class(), a_snapshot_class())
        for number in range(self.pods):
            name = f"db-{number}"
            box = self.boxes[name] = FakeContainer(folder=self.folder / name, shell=self.shell)
            keys = {
                f"quiesce.becalm.dev/{key}": _array(command)
                for key, command in (("freeze", self.freeze or box.freeze(code=self.codes.get(name, 0))), ("thaw", box.thaw()))
            }
            claim = a_claim(name)
            self.cluster.put(a_pod(name, mounts={"main": name}, annotations=keys), claim, a_volume(claim))
        self.storage = FakeStorage(self.cluster, self.clock)

    storage: FakeStorage = field(init=False)

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy that freezes all of it."""
        quiesce = {"annotations": ["shop"], "timeout": self.timeout, "onFailure": self.on_failure}
        return a_policy(**{"quiesce": quiesce, **self.spec})

    @property
    def ports(self) -> Ports:
        """The ports."""
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=Settings(cluster_name="test"))

    def application(self) -> Application:
        """Discover it."""
        return discover.execute(self.policy, self.ports).applications[0]

    def begun(self) -> Begun:
        """Begin a run: a repository is made if there is none, and the lease is held."""
        run = run_key("shop", "a run", repository=self.store.url)
        if not any(True for _ in self.store.list("config")):
            init_repository(self.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
        held = lease.take(self.store, policy="shop", run=run, seconds=600, clock=self.clock)
        return Begun(
            policy="shop", policy_digest="0", run_id="a run", run=run, trigger=Trigger.MANUAL, started=self.clock.now(), epoch=held.epoch
        )

    def frozen(self) -> list[str]:
        """Return the pods that stand still."""
        return [name for name, box in self.boxes.items() if box.frozen_now()]

    def _exec(
        self, namespace: str, pod: str, *, container: str, command: Sequence[str], stdin: bytes = b"", timeout_seconds: float = 30
    ) -> ExecResult:
        result = self.boxes[pod].exec(namespace, pod, container=container, command=command, stdin=stdin, timeout_seconds=timeout_seconds)
        return ExecResult(stdout=b"", stderr=b"", exit_code=None) if self.lose and self.lose in command else result


def _array(command: Sequence[str]) -> str:
    import json  # noqa: PLC0415  (only here)

    return json.dumps(list(command))
