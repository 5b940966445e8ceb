"""WATCH as a stream of JSON lines: what is there, what changes, and bookmarks, until the time is over or the client leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from becalm.sandbox.answers import ApiError
from becalm.sandbox.api import shown
from becalm.sandbox.lists import Query, events, gone_event, revision_of
from becalm.sandbox.parameters import number, truth

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.store import Change, Store

_DEFAULT_SECONDS = 1800.0
_BOOKMARK_SECONDS = 60.0
_BEFORE_THE_END_SECONDS = 2.0


async def watch(request: web.Request, store: Store, query: Query) -> web.StreamResponse:
    """Answer one WATCH."""
    revision = revision_of(request.query.get("resourceVersion", ""))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    stream = _Stream(response, store, query)
    try:
        await stream.begin(revision, initial=truth(request.query, "sendInitialEvents"))
        given = number(request.query, "timeoutSeconds")
        await stream.follow(float(given) if given else _DEFAULT_SECONDS, bookmarks=truth(request.query, "allowWatchBookmarks"))
    except ApiError as error:
        await stream.send(*gone_event(error))
    except ConnectionError:
        pass  # the client has left
    finally:
        stream.end()
    return response


class _Stream:
    """One watcher: the changes that wait for it, and how far it has seen."""

    def __init__(self, response: web.StreamResponse, store: Store, query: Query) -> None:
        self._response = response
        self._store = store
        self._query = query
        self._pending: list[Change] = []
        self._wake = asyncio.Event()
        self.end = store.listen(self._note)

    def _note(self, change: Change) -> None:
        if change.bucket == self._query.resource.bucket:
            self._pending.append(change)
            self._wake.set()

    async def begin(self, revision: int, *, initial: bool) -> None:
        """Send what is there already, or what happened since a revision. Raises: ApiError (410)."""
        if revision and not initial:
            # What happens from here on is pending already; only what was before is missing.
            self._pending = [*self._store.changes(self._query.resource.bucket, after=revision), *self._pending]
            return
        now = self._store.revision
        for manifest in list(self._store.walk(self._query.resource.bucket, namespace=self._query.namespace, revision=now)):
            if self._query.takes(manifest):
                await self.send("ADDED", shown(self._query.resource, manifest))
        if initial:
            await self._bookmark(now, first=True)

    async def follow(self, seconds: float, *, bookmarks: bool) -> None:
        """Send what happens, until the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        last_mark = max(end - _BEFORE_THE_END_SECONDS, loop.time() + min(0.1, seconds / 2))
        mark = min(loop.time() + _BOOKMARK_SECONDS, last_mark)
        while loop.time() < end:
            seen = self._store.revision
            changes, self._pending = self._pending, []
            self._wake.clear()
            for kind, manifest in events(self._query, changes):
                await self.send(kind, shown(self._query.resource, manifest))
            if bookmarks and loop.time() >= mark:
                await self._bookmark(seen)
                mark = end + 1 if mark >= last_mark else min(mark + _BOOKMARK_SECONDS, last_mark)
            try:
                async with asyncio.timeout(max(min(end, mark) - loop.time(), 0)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def send(self, kind: str, document: Manifest) -> None:
        """Send one event."""
        await self._response.write(orjson.dumps({"type": kind, "object": document}) + b"\n")

    async def _bookmark(self, revision: int, *, first: bool = False) -> None:
        metadata: Manifest = {"resourceVersion": str(revision), "creationTimestamp": None}
        if first:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        resource = self._query.resource
        await self.send("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
