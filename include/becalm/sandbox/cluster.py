"""The sandbox as a whole: store, controllers, node and server, started in order and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from aiohttp import web

from becalm.sandbox import bootstrap, kinds
from becalm.sandbox.api import Api
from becalm.sandbox.claims import NODE, ClaimController
from becalm.sandbox.crds import CrdController
from becalm.sandbox.disks import Disks
from becalm.sandbox.faults import Faults
from becalm.sandbox.garbage import GarbageCollector
from becalm.sandbox.jobs import JobController
from becalm.sandbox.kubelet import Kubelet
from becalm.sandbox.namespaces import NamespaceController
from becalm.sandbox.persistence import Journal
from becalm.sandbox.registry import Registry
from becalm.sandbox.scheduler import Scheduler
from becalm.sandbox.server import Server
from becalm.sandbox.snapshots import SnapshotController
from becalm.sandbox.store import Change, Store
from becalm.sandbox.workloads import WorkloadController

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class Sandbox:
    """One cluster, in one folder."""

    def __init__(self, root: Path, *, token: str, compact_after_seconds: float = 300) -> None:
        """Read what the folder holds; begin with `start`."""
        self.token = token
        self.faults = Faults()
        self.registry = Registry()
        self._journal = Journal(root / "objects.db")
        self.store = Store(revision=self._journal.revision())
        self.api = Api(self.store, self.registry)
        self._compact_after_seconds = compact_after_seconds
        disks = Disks(root)
        self.kubelet = Kubelet(self.api, disks, root)
        self._namespaces = NamespaceController(self.api)
        self._crds = CrdController(self.api)
        self._claims = ClaimController(self.api, disks, self.faults)
        self._snapshots = SnapshotController(self.api, disks, self.faults, self.kubelet.still)
        self._others = (GarbageCollector(self.api), WorkloadController(self.api), JobController(self.api), Scheduler(self.api))
        self._runner: web.AppRunner | None = None
        self._compacting: asyncio.Task[None] | None = None

    async def start(self, ports: tuple[int, int], tls: ssl.SSLContext) -> tuple[int, int]:
        """Start everything; return the ports of HTTP and of HTTPS. Raises: OSError where one is taken."""
        self._journal.load(self.store)
        for crd in self.store.all(kinds.CRDS.bucket):
            self._crds.look(crd["metadata"]["name"])
        controllers = (self._namespaces, self._crds, self._claims, self._snapshots, *self._others)
        for resource in self.registry.buckets():
            for manifest in self.store.all(resource.bucket):
                place = (manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
                change = Change(
                    revision=self.store.revision, bucket=resource.bucket, place=place, before=None, after=manifest, last=manifest
                )
                for controller in controllers:
                    controller.see(change)
        self.store.listen(self._journal.keep)
        for controller in controllers:
            self.store.listen(controller.see)
        self.store.listen(self.kubelet.see)
        if self.store.revision == 0:
            self._furnish()
        for controller in controllers:
            controller.worker.start()
        self.kubelet.start()
        self._compacting = asyncio.get_running_loop().create_task(self._compact_now_and_then())
        self._runner = web.AppRunner(Server(self).application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        for port, context in zip(ports, (None, tls), strict=True):
            await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context, reuse_address=True).start()
        plain, secure = self._runner.addresses
        return int(plain[1]), int(secure[1])

    async def stop(self) -> None:
        """End everything; the objects stay."""
        if self._compacting:
            self._compacting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._compacting
        if self._runner:
            await self._runner.cleanup()
        for controller in (self._namespaces, self._crds, *self._others):
            await controller.worker.stop()
        await self._snapshots.stop()
        await self._claims.stop()
        await self.kubelet.stop()
        self._journal.close()

    def _furnish(self) -> None:
        """Make what a new cluster holds, before anybody can ask."""
        for resource, manifest in bootstrap.objects():
            self.api.create(resource, "", manifest)
            if resource is kinds.CRDS:
                self._crds.look(manifest["metadata"]["name"])
        for name in bootstrap.NAMESPACES:
            self._namespaces.furnish(name)
        classes = self.registry.of_bucket(kinds.SNAPSHOT_CLASSES)
        if classes is not None:
            self.api.create(classes, "", bootstrap.snapshot_class())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        status = bootstrap.node_status(memory_bytes=memory, processors=os.cpu_count() or 1)
        self.api.modify(kinds.NODES.bucket, ("", NODE), lambda node: node.update(status=status))

    async def _compact_now_and_then(self) -> None:
        """Forget revisions as the real API server does: at each turn those that were old at the turn before."""
        while True:
            before = self.store.revision
            await asyncio.sleep(self._compact_after_seconds)
            self.store.compact(before)
