"""The one node: takes pods that are placed on it, runs them, reports their status, serves their logs and `exec`."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError, bad_request, not_found
from becalm.sandbox.claims import NODE, claim_names
from becalm.sandbox.environment import ROOT_VARIABLE
from becalm.sandbox.exec import serve
from becalm.sandbox.logbook import Logbook, bare, lines_of
from becalm.sandbox.parameters import number, truth
from becalm.sandbox.pod import PodRunner
from becalm.sandbox.podstatus import restarted_away, status_of
from becalm.sandbox.processes import end_marked, held
from becalm.sandbox.times import read_stamp
from becalm.sandbox.work import Tasks, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.disks import Disks
    from becalm.sandbox.store import Change, Place

_ENDED = ("Succeeded", "Failed")


class Kubelet:
    """Runs pods as processes of this machine."""

    def __init__(self, api: Api, disks: Disks, root: Path) -> None:
        """Keep the pods' folders below a root; begin with `start`."""
        self._api = api
        self._disks = disks
        self._root = root / "pods"
        self._runners: dict[str, PodRunner] = {}
        self._tasks = Tasks()
        self._leaving = False
        self.worker = Worker("kubelet", self._look)

    def start(self) -> None:
        """End what an earlier life left running, and take up the pods that are to run."""
        end_marked(ROOT_VARIABLE, str(self._root), below=True)
        self.worker.start()
        for pod in self._api.store.all(kinds.PODS.bucket):
            self.worker.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))

    async def stop(self) -> None:
        """End every process; the pods stay as they are, and start again with the sandbox."""
        self._leaving = True
        await self.worker.stop()
        for runner in list(self._runners.values()):
            self._tasks.run(("leave", runner.uid), partial(runner.stop, 2))
        await self._tasks.finish()
        end_marked(ROOT_VARIABLE, str(self._root), below=True)

    def see(self, change: Change) -> None:
        """Note a change of a pod."""
        if change.bucket == kinds.PODS.bucket:
            self.worker.add(change.place)

    @contextlib.contextmanager
    def still(self, volume: str) -> Iterator[None]:
        """Hold the containers that write to a volume, while it is copied: a cut is one instant, frozen or not."""
        leaders = []
        for runner in self._runners.values():
            mounted = {
                (found["spec"].get("csi") or {}).get("volumeHandle")
                for name in claim_names(runner.pod)
                if (claim := self._api.store.get(kinds.CLAIMS.bucket, (runner.place[0], name)))
                and (found := self._api.store.get(kinds.VOLUMES.bucket, ("", claim["spec"].get("volumeName") or "")))
            }
            if volume in mounted:
                leaders += [container.leader for container in runner.containers if container.leader]
        with held(leaders):
            yield

    def _look(self, place: Place) -> None:
        pod = self._api.store.get(kinds.PODS.bucket, place)
        uid = pod["metadata"]["uid"] if pod else ""
        for runner in list(self._runners.values()):
            if runner.place == place and runner.uid != uid:
                self._tasks.run(("end", runner.uid), partial(self._forget, runner))
        if pod is None or pod["spec"].get("nodeName") != NODE:
            return
        running = self._runners.get(uid)
        if pod["metadata"].get("deletionTimestamp"):
            self._tasks.run(("end", uid), lambda: self._end(place, pod))
        elif running is None and pod["status"].get("phase") not in _ENDED:
            self._begin(place, pod)

    def _begin(self, place: Place, pod: Manifest) -> None:
        if pod["status"].get("containerStatuses") and pod["spec"]["restartPolicy"] == "Never":
            self._api.modify(kinds.PODS.bucket, place, restarted_away)
            return
        uid = pod["metadata"]["uid"]
        runner = PodRunner(pod, home=self._root / uid, store=self._api.store, disks=self._disks, report=self._report)
        self._runners[uid] = runner
        self._report(runner)
        runner.start()

    async def _end(self, place: Place, pod: Manifest) -> None:
        runner = self._runners.get(pod["metadata"]["uid"])
        if runner is not None:
            await runner.stop(float(pod["metadata"].get("deletionGracePeriodSeconds", 0)))
            runner.clean()  # before the object goes: who sees the pod gone finds nothing of it
        live = self._api.store.get(kinds.PODS.bucket, place)
        if live is not None and live["metadata"]["uid"] == pod["metadata"]["uid"]:
            self._api.finish(kinds.PODS.bucket, place)
        if runner is not None and self._api.store.get(kinds.PODS.bucket, place) is None:
            await self._forget(runner)

    async def _forget(self, runner: PodRunner) -> None:
        await runner.stop(0)
        self._runners.pop(runner.uid, None)
        runner.clean()

    def _report(self, runner: PodRunner) -> None:
        if self._leaving:
            return
        live = self._api.store.get(kinds.PODS.bucket, runner.place)
        if live is not None and live["metadata"]["uid"] == runner.uid:
            self._api.modify(kinds.PODS.bucket, runner.place, lambda pod: pod.update(status=status_of(runner, pod)))

    def _container_of(self, place: Place, asked: str) -> tuple[Manifest, str]:
        pod = self._api.store.get(kinds.PODS.bucket, place)
        if pod is None:
            raise not_found(kinds.PODS, place[1])
        names = [spec["name"] for spec in pod["spec"]["containers"]]
        every = names + [spec["name"] for spec in pod["spec"].get("initContainers") or ()]
        if asked and asked not in every:
            raise bad_request(f"container {asked} is not valid for pod {place[1]}")
        if not asked and len(names) > 1:
            raise bad_request(f"a container name must be specified for pod {place[1]}, choose one of: [{' '.join(names)}]")
        return pod, asked or names[0]

    async def serve_exec(self, request: web.Request, place: Place) -> web.StreamResponse:
        """Run a command in a container, over a WebSocket. Raises: ApiError before it is one."""
        pod, name = self._container_of(place, request.query.get("container", ""))
        command = request.query.getall("command", [])
        if not command:
            raise bad_request("you must specify at least one command for the container")
        runner = self._runners.get(pod["metadata"]["uid"])
        container = runner.container(name) if runner else None
        if container is None or not container.running or container.surroundings is None:
            message = f'unable to upgrade connection: container not found ("{name}")'
            raise ApiError(500, "InternalError", f"Internal error occurred: {message}")
        return await serve(request, container.surroundings, command)

    async def serve_log(self, request: web.Request, place: Place) -> web.StreamResponse:
        """Stream a container's log. Raises: ApiError."""
        pod, name = self._container_of(place, request.query.get("container", ""))
        statuses = [*(pod["status"].get("containerStatuses") or ()), *(pod["status"].get("initContainerStatuses") or ())]
        status = next((found for found in statuses if found["name"] == name), None)
        restart = int((status or {}).get("restartCount", 0))
        if truth(request.query, "previous"):
            restart -= 1
        path = self._root / pod["metadata"]["uid"] / "logs" / name / f"{restart}.log"
        if not path.exists():
            why = ((status or {}).get("state") or {}).get("waiting", {}).get("reason", "ContainerCreating")
            raise bad_request(f'container "{name}" in pod "{place[1]}" is waiting to start: {why}')
        lines, end = lines_of(path, tail=number(request.query, "tailLines"), since=_since(request))
        timestamps = truth(request.query, "timestamps")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b"".join(bare(line, timestamps=timestamps) for line in lines))
            book = self._open_book(pod, name, path)
            if truth(request.query, "follow") and book is not None:
                async for line in book.follow(end):
                    await response.write(bare(line, timestamps=timestamps))
        return response

    def _open_book(self, pod: Manifest, name: str, path: Path) -> Logbook | None:
        runner = self._runners.get(pod["metadata"]["uid"])
        container = runner.container(name) if runner else None
        book = container.logbook if container else None
        return book if book is not None and book.path == path else None


def _since(request: web.Request) -> datetime | None:
    if "sinceSeconds" in request.query:
        return datetime.now(UTC) - timedelta(seconds=float(request.query["sinceSeconds"]))
    return read_stamp(request.query["sinceTime"]) if "sinceTime" in request.query else None
