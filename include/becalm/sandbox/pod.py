"""One pod on the sandbox's node: volumes, init containers, containers with their restarts, probes, and the status that follows."""

from __future__ import annotations

import asyncio
import shutil
import signal
from typing import TYPE_CHECKING

from becalm.sandbox.container import Container
from becalm.sandbox.environment import StartError, Surroundings, surroundings
from becalm.sandbox.mounts import NotYet, volume_folder
from becalm.sandbox.probes import answers
from becalm.sandbox.times import stamp
from becalm.sandbox.work import LOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from becalm.model import Manifest
    from becalm.sandbox.disks import Disks
    from becalm.sandbox.store import Place, Store

_LOOK_AGAIN_SECONDS = 0.5
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 30.0


class PodRunner:
    """Runs one pod, from its start to its end; `report` is called whenever its status is another."""

    def __init__(self, pod: Manifest, *, home: Path, store: Store, disks: Disks, report: Callable[[PodRunner], None]) -> None:
        """Prepare; begin with `start`."""
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.place: Place = (metadata["namespace"], metadata["name"])
        self.pod = pod
        self.home = home
        self.phase = "Pending"
        self.reason = ""
        self.message = ""
        self.stopping = False
        self._store = store
        self._disks = disks
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._helpers: list[asyncio.Task[None]] = []
        self.started_at = stamp()
        before = {status["name"]: status.get("restartCount", 0) + 1 for status in (pod["status"].get("containerStatuses") or ())}
        self.init_containers = [self._container(spec, {}) for spec in pod["spec"].get("initContainers") or ()]
        self.containers = [self._container(spec, before) for spec in pod["spec"]["containers"]]

    def _container(self, spec: Manifest, before: dict[str, int]) -> Container:
        return Container(
            spec,
            mark=f"{self.uid}/{spec['name']}",
            folder=self.home / "logs" / spec["name"],
            restarts=before.get(spec["name"], 0),
            changed=lambda: self._report(self),
        )

    @property
    def ended(self) -> bool:
        """Say whether nothing of it runs or will run."""
        return self._task is None or self._task.done()

    def container(self, name: str) -> Container | None:
        """Return one of its containers."""
        return next((found for found in [*self.containers, *self.init_containers] if found.name == name), None)

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, grace_seconds: float) -> None:
        """End its processes: asked first, killed when the grace is over."""
        self.stopping = True
        if self._task is None:
            return
        everyone = [*self.init_containers, *self.containers]
        if grace_seconds > 0 and any(container.leader for container in everyone):
            for container in everyone:
                container.terminate(signal.SIGTERM)
            await asyncio.wait([self._task], timeout=grace_seconds)
        for container in everyone:
            container.terminate(signal.SIGKILL)
        if any(container.leader for container in everyone):
            await asyncio.wait([self._task], timeout=2)
        for task in (self._task, *self._helpers):
            task.cancel()
        await asyncio.gather(self._task, *self._helpers, return_exceptions=True)

    def clean(self) -> None:
        """Remove its folder: empty folders, logs and Secrets go with the pod."""
        shutil.rmtree(self.home, ignore_errors=True)

    async def _run(self) -> None:
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        try:
            async with asyncio.timeout(deadline):
                await self._live()
        except TimeoutError:
            self.reason, self.message = "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
            self.phase = "Failed"
            for container in self.containers:
                container.terminate(signal.SIGKILL)
        except Exception as error:  # noqa: BLE001  (a pod that the sandbox cannot run must show it, not hang)
            LOG.exception("pod %s/%s", *self.place)
            self.phase, self.reason, self.message = "Failed", "SandboxError", str(error)
        self._report(self)

    async def _live(self) -> None:
        volumes = await self._volumes()
        for container in self.init_containers:
            while await self._once(container, volumes) != 0:
                if self.pod["spec"]["restartPolicy"] == "Never" or self.stopping:
                    self.phase = "Failed"
                    return
                container.restarts += 1
                container.wait("CrashLoopBackOff")
                await asyncio.sleep(_FIRST_BACKOFF_SECONDS)
        await asyncio.gather(*(self._keep(container, volumes) for container in self.containers))
        codes = [container.exit_code for container in self.containers]
        self.phase = "Succeeded" if all(code == 0 for code in codes) else "Failed"

    async def _volumes(self) -> dict[str, Path]:
        while True:
            try:
                return {
                    volume["name"]: volume_folder(self._store, self._disks, self.pod, volume, self.home)
                    for volume in self.pod["spec"].get("volumes") or ()
                }
            except NotYet as error:
                for container in self.containers:
                    container.wait("ContainerCreating", str(error))
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _keep(self, container: Container, volumes: dict[str, Path]) -> None:
        """Run a container as often as the pod's policy says."""
        policy = self.pod["spec"]["restartPolicy"]
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            code = await self._once(container, volumes)
            if self.stopping or policy == "Never" or (policy == "OnFailure" and code == 0):
                return
            if code or container.restarts:
                await asyncio.sleep(0.05)
                container.wait("CrashLoopBackOff", f"back-off {backoff:g}s restarting failed container={container.name}")
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
            container.restarts += 1

    async def _once(self, container: Container, volumes: dict[str, Path]) -> int:
        around = await self._around(container, volumes)
        self.phase = "Running" if container in self.containers else "Pending"
        probe = container.spec.get("readinessProbe")
        helper = asyncio.get_running_loop().create_task(self._probe(container, probe)) if probe else None
        if helper:
            self._helpers.append(helper)
        try:
            return await container.run(around)
        finally:
            if helper:
                helper.cancel()
                self._helpers.remove(helper)

    async def _around(self, container: Container, volumes: dict[str, Path]) -> Surroundings:
        while True:
            try:
                return surroundings(self._store, self.pod, container.spec, home=self.home, volumes=volumes, mark=container.mark)
            except NotYet as error:
                container.wait("CreateContainerConfigError", str(error))
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _probe(self, container: Container, probe: Manifest) -> None:
        period = float(probe.get("periodSeconds", 10))
        await asyncio.sleep(float(probe.get("initialDelaySeconds", 0)) or 0.05)
        failures = 0
        while True:
            if container.running and container.surroundings is not None:
                try:
                    good = await answers(probe, container.surroundings)
                except StartError:
                    good = False
                failures = 0 if good else failures + 1
                ready = container.running and (good or (container.ready and failures < int(probe.get("failureThreshold", 3))))
                if ready != container.ready:
                    container.ready = ready
                    self._report(self)
            await asyncio.sleep(period if container.ready else min(period, 1.0))
