"""A console over a store in memory: two policies, points with objects and files, and visitors of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
from fastapi import FastAPI, HTTPException, Request

from becalm.actions.handover import Ports
from becalm.actions.objectives import PolicyStatus
from becalm.actions.observe import observe
from becalm.airflow.console.app import create_app
from becalm.airflow.console.library import Library, Place
from becalm.airflow.console.rights import Right
from becalm.clock import SystemClock
from becalm.errors import BecalmError
from becalm.kube.base import Kind
from becalm.policy.load import load
from becalm.policy.spec import ProtectionPolicy
from becalm.storage.base import ObjectStore
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, SavedPoint, save_point

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: {name}}}
spec:
  schedule: "0 * * * *"
  select: {{namespaces: [shop]}}
  objectives: {{rpo: 1h}}
  target: {{url: "file:///somewhere", password: "env:NOT_READ_HERE"}}
  retention: {{last: 3}}
"""
KINDS = [
    Kind(group="", version="v1", resource="secrets", kind="Secret", namespaced=True),
    Kind(group="", version="v1", resource="configmaps", kind="ConfigMap", namespaced=True),
]
EVIL = "<img src=x onerror=alert(1)>\u202e.txt"
"""A name that somebody else chose."""
OBJECTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "shop"}, "data": {"key": "aHVudGVyMg=="}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "shop"}, "data": {"page": "<b>bold</b>\nline"}},
]
FILES = {"orders.db": b"rows " * 1000, EVIL: b"evil", "deep/note.txt": b"hello"}
EVERYTHING = frozenset(Right)
ROLES: dict[str, frozenset[Right]] = {
    "nobody": frozenset(),
    "viewer": frozenset({Right.VIEW}),
    "user": frozenset({Right.VIEW, Right.DOWNLOAD, Right.TRIGGER, Right.PIN, Right.RESTORE}),
    "op": EVERYTHING,
}


@dataclass(frozen=True, slots=True)
class RoleVisitor:
    """A visitor whose rights are those of a role; `policy` names the only one that counts."""

    role: str
    by_token: bool = False
    policy: str = ""

    @property
    def name(self) -> str:
        """What the ledger holds."""
        return self.role

    @property
    def key(self) -> str:
        """What a token is bound to."""
        return self.role

    def may(self, right: Right, policy: str) -> bool:
        """Look at the role."""
        return right in ROLES[self.role] and self.policy in ("", policy)

    def visible(self, policies: Iterable[str]) -> list[str]:
        """Look at each."""
        return [one for one in policies if self.may(Right.VIEW, one)]


def identify(request: Request) -> RoleVisitor:
    """Take the role from a header."""
    role = request.headers.get("x-role", "")
    if role not in ROLES:
        raise HTTPException(401, "Not authenticated")
    return RoleVisitor(role, by_token="authorization" in request.headers, policy=request.headers.get("x-policy", ""))


@dataclass
class MemorySource:
    """Policies and stores in memory."""

    stores: dict[str, ObjectStore]
    broken: dict[str, BecalmError] = field(default_factory=dict)

    def policies(self) -> Mapping[str, ProtectionPolicy | BecalmError]:
        """One for each store."""
        return {**{name: load(POLICY.format(name=name), source=f"{name}.yaml") for name in self.stores}, **self.broken}

    def place(self, policy: ProtectionPolicy) -> Place:
        """The store."""
        return Place(store=self.stores[policy.name], password=PASSWORD)

    def ports(self, policy: ProtectionPolicy) -> Ports:
        """There is no cluster."""
        raise AssertionError(policy)

    def status(self, policy: ProtectionPolicy) -> PolicyStatus:
        """As the bucket says."""
        return observe(policy, lambda: (self.stores[policy.name], PASSWORD), clock=SystemClock())


def description(cut: datetime = CUT) -> dict[str, Any]:
    """Return what a point says of itself: one application, frozen while it was cut."""
    return {
        "format": 1,
        "run": {"run_id": "manual__2026", "run": "abc"},
        "counts": {"objects": 2, "volumes": 1, "bytes": 5000, "bytes_added": 100},
        "applications": [
            {
                "application": "shop",
                "began": cut.isoformat(),
                "ended": (cut + timedelta(seconds=0.4)).isoformat(),
                "volumes": [
                    {"plan": {"volume": {"namespace": "shop", "claim": "data"}}, "created": (cut + timedelta(seconds=0.2)).isoformat()}
                ],
                "thawed": {"consistency": "application-consistent", "frozen_seconds": 1.2, "reasons": []},
            }
        ],
        "volumes": [
            {"volume": {"namespace": "shop", "claim": "data"}, "files": 3, "bytes_total": 5009, "bytes_added": 100, "seconds": 0.5}
        ],
        "missing": [{"where": "volumes/shop/<i>x</i>", "message": "not <b>cut</b>"}],
    }


def saved(store: ObjectStore, *, policy: str = "shop", cut: datetime = CUT, complete: bool = True) -> SavedPoint:
    """Write a point with objects, files and its description."""
    return save_point(
        store,
        OBJECTS,
        kinds=KINDS,
        volumes={"shop/data": FILES},
        raw={"recovery-point.json": orjson.dumps(description(cut))},
        policy=policy,
        cut=cut,
        complete=complete,
    )


class Client:
    """Asks an application in this process, as a browser would over HTTP."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._runner = asyncio.Runner()

    def get(self, path: str, headers: Mapping[str, str]) -> httpx.Response:
        """Get a page."""
        return self._runner.run(self._ask("GET", path, headers))

    def post(self, path: str, data: Mapping[str, str], headers: Mapping[str, str]) -> httpx.Response:
        """Post a form."""
        return self._runner.run(self._ask("POST", path, headers, data))

    def close(self) -> None:
        """Let the loop go."""
        self._runner.close()

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], data: Mapping[str, str] | None = None) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://console.test") as client:
            return await client.request(method, path, headers=dict(headers), data=dict(data) if data else None)


@dataclass
class Scene:
    """A console, its client, its stores, and the newest point of `shop`."""

    client: Client
    library: Library
    store: MemoryStore
    source: MemorySource
    point: SavedPoint

    def get(self, path: str, role: str = "op", **headers: str) -> Any:
        """Ask for a page as a visitor of a role."""
        return self.client.get(path, headers={"x-role": role, **headers})

    @property
    def point_path(self) -> str:
        """The address of the newest point."""
        return f"/policies/shop/points/{self.point.id}"


@contextmanager
def a_console() -> Iterator[Scene]:
    """Yield a console over two policies."""
    store, other = MemoryStore(), MemoryStore()
    saved(store, cut=CUT - timedelta(days=1), complete=False)
    point = saved(store)
    saved(other, policy="other")
    source = MemorySource({"shop": store, "other": other})
    library = Library(source, clock=SystemClock(), patience_seconds=60)
    app = create_app(library, secret="a secret of the tests", clock=SystemClock(), identify=identify)
    client = Client(app)
    yield Scene(client, library, store, source, point)
    client.close()
    library.close()
