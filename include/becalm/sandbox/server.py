"""HTTP in front of the verbs: routes, query parameters, bodies, replies. Decides nothing about objects."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from aiohttp import web

from becalm.sandbox import discovery
from becalm.sandbox.answers import ApiError, bad_request, invalid, not_served, required, unauthorized
from becalm.sandbox.api import APPLY_PATCH, Write, shown
from becalm.sandbox.lists import Query, page
from becalm.sandbox.parameters import number, truth
from becalm.sandbox.scale import scale_document, scaled
from becalm.sandbox.streams import watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from becalm.model import Manifest
    from becalm.sandbox.cluster import Sandbox
    from becalm.sandbox.faults import RequestFault
    from becalm.sandbox.kinds import Resource
    from becalm.sandbox.store import Place

LOG = logging.getLogger("becalm.sandbox")

_HEALTH = frozenset({"/healthz", "/readyz", "/livez"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a URL names."""

    resource: Resource
    namespace: str | None
    """Nothing: all namespaces, or no namespace."""
    name: str = ""
    subresource: str = ""

    @property
    def place(self) -> Place:
        """Return where the object stands."""
        return (self.namespace or "", self.name)


class Server:
    """Answers requests for one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Serve a sandbox."""
        self._sandbox = sandbox
        self._verbs: dict[str, Callable[[web.Request, Target], Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "POST": self._post,
            "PUT": self._put,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.path in _HEALTH:
                return web.Response(text="ok")
            self._check_token(request)
            if request.path.startswith("/sandbox/"):
                return await self._admin(request)
            fault = self._sandbox.faults.of_request(f"{request.method} {request.path_qs}")
            return await (self._trouble(request, fault) if fault else self._route(request))
        except ApiError as error:
            return reply(error.status(), status=error.code, headers=error.headers)
        except (web.HTTPException, asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            LOG.exception("%s %s", request.method, request.path_qs)
            return reply(ApiError(500, "InternalError", "the sandbox failed; its log says why").status(), status=500)

    async def _trouble(self, request: web.Request, fault: RequestFault) -> web.StreamResponse:
        """Answer late, wrongly, or not at all."""
        await asyncio.sleep(fault.delay_seconds)
        if fault.status:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            raise ApiError(fault.status, _reason(fault.status), "the sandbox was asked for trouble", headers=headers)
        if fault.drop != "before":
            response = await self._route(request)
            if not fault.drop:
                return response
        _hang_up(request)
        raise asyncio.CancelledError

    def _check_token(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._sandbox.token.encode()):
            raise unauthorized()

    async def _admin(self, request: web.Request) -> web.Response:
        body = await request.read()
        match request.method, request.path:
            case "POST", "/sandbox/compact":
                return reply({"revision": self._sandbox.store.compact()})
            case "POST", "/sandbox/faults":
                self._sandbox.faults.replace(_json(body or b"{}"))
                return reply(self._sandbox.faults.document())
            case "GET", "/sandbox/faults":
                return reply(self._sandbox.faults.document())
        return web.Response(status=404, text="404 page not found\n")

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        document = self._discovery(parts, request.headers.get("Accept", ""))
        if document is not None:
            content_type = discovery.AGGREGATED if document.get("kind") == "APIGroupDiscoveryList" else "application/json"
            return reply(document, content_type=content_type)
        target = self._target(parts)
        if target is None:
            return web.Response(status=404, text="404 page not found\n")
        verb = self._verbs.get(request.method)
        if verb is None or (target.subresource and target.subresource not in discovery.subresources(target.resource)):
            raise not_served()
        if request.query.get("dryRun") not in (None, "All"):
            raise invalid("meta.k8s.io", "Options", "", [required("dryRun", "the only value is All")])
        return await verb(request, target)

    def _discovery(self, parts: list[str], accept: str) -> Manifest | None:
        registry = self._sandbox.registry
        whole = any("as=APIGroupDiscoveryList" in offer and re.search(r"v=v2(;|$)", offer) for offer in accept.replace(" ", "").split(","))
        match parts:
            case ["version"]:
                return discovery.VERSION
            case ["api"]:
                return discovery.aggregated(registry, core=True) if whole else discovery.core_versions()
            case ["apis"]:
                return discovery.aggregated(registry, core=False) if whole else discovery.group_list(registry)
            case ["api", "v1"]:
                return discovery.resource_list("", "v1", registry)
            case ["apis", group]:
                members = [resource for resource in registry if resource.group == group]
                return discovery.group_document(group, members) if members else None
            case ["apis", group, version] if registry.serves(group, version):
                return discovery.resource_list(group, version, registry)
        return None

    def _target(self, parts: list[str]) -> Target | None:
        if parts[:2] == ["api", "v1"]:
            group, version, rest = "", "v1", parts[2:]
        elif len(parts) > 2 and parts[0] == "apis" and self._sandbox.registry.serves(parts[1], parts[2]):
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace: str | None = None
        if len(rest) > 2 and rest[0] == "namespaces" and not (not group and len(rest) == 3 and rest[2] in ("status", "finalize")):
            namespace, rest = rest[1], rest[2:]
        resource = self._sandbox.registry.find(group, version, rest[0]) if rest else None
        if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
            raise not_served()
        return Target(
            resource=resource, namespace=namespace, name=rest[1] if len(rest) > 1 else "", subresource=rest[2] if len(rest) > 2 else ""
        )

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        sandbox = self._sandbox
        if target.subresource == "log":
            return await sandbox.kubelet.serve_log(request, target.place)
        if target.subresource == "exec":
            return await sandbox.kubelet.serve_exec(request, target.place)
        if target.subresource == "scale":
            return reply(scale_document(sandbox.api.get(target.resource, target.place)))
        if target.name:
            if target.resource.namespaced and target.namespace is None:
                raise not_served()
            return reply(sandbox.api.get(target.resource, target.place))
        query = Query.read(target.resource, target.namespace, request.query)
        if truth(request.query, "watch"):
            return await watch(request, sandbox.store, query)
        found = page(sandbox.store, query, request.query)
        metadata: Manifest = {"resourceVersion": str(found.revision)}
        if found.token:
            metadata["continue"] = found.token
        return reply(self._collection(target.resource, found.items, metadata))

    async def _post(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.subresource == "exec":
            raise ApiError(400, "BadRequest", "the sandbox speaks WebSocket only: a client asks for it by GET with Upgrade")
        if target.name or target.subresource:
            raise not_served()
        if target.resource.namespaced and target.namespace is None:
            raise bad_request("an empty namespace may not be set during creation")
        if "protobuf" in request.content_type:
            message = "the body of the request was in an unknown format - accepted media types include: application/json"
            raise ApiError(415, "UnsupportedMediaType", message)
        body = _json(await request.read())
        made = self._sandbox.api.create(target.resource, target.namespace or "", body, _write(request, target))
        return reply(made, status=201)

    async def _put(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = _json(await request.read())
        if target.subresource == "scale":
            live = self._sandbox.api.get(target.resource, target.place)
            body, target = scaled(live, body), Target(resource=target.resource, namespace=target.namespace, name=target.name)
            return reply(scale_document(self._sandbox.api.update(target.resource, target.place, body, _write(request, target))))
        return reply(self._sandbox.api.update(target.resource, target.place, body, _write(request, target)))

    async def _patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        content_type = request.content_type
        raw = await request.read()
        body = _yaml(raw) if content_type == APPLY_PATCH else _json(raw)
        write = _write(request, target)
        if content_type == APPLY_PATCH and "fieldManager" not in request.query:
            raise invalid("meta.k8s.io", "PatchOptions", "", [required("fieldManager", "is required for apply patch")])
        if target.subresource == "scale":
            wanted = {"spec": {"replicas": (body.get("spec") or {}).get("replicas")}} if isinstance(body, dict) else body
            plain = Write(manager=write.manager, dry_run=write.dry_run)
            return reply(scale_document(self._sandbox.api.patch(target.resource, target.place, wanted, content_type, plain)[0]))
        made, created = self._sandbox.api.patch(target.resource, target.place, body, content_type, write)
        return reply(shown(target.resource, made), status=201 if created else 200)

    async def _delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        raw = await request.read()
        options = dict(_json(raw)) if raw else {}
        grace = number(request.query, "gracePeriodSeconds")
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if "propagationPolicy" in request.query:
            options["propagationPolicy"] = request.query["propagationPolicy"]
        dry_run = _write(request, target).dry_run or options.get("dryRun") == ["All"]
        if target.subresource:
            raise not_served()
        if target.name:
            manifest, gone = self._sandbox.api.delete(target.resource, target.place, options, dry_run=dry_run)
            if not gone or target.resource.bucket == "/pods":
                return reply(shown(target.resource, manifest))
            about: Manifest = {"name": target.name, "kind": target.resource.plural, "uid": manifest["metadata"]["uid"]}
            if target.resource.group:
                about["group"] = target.resource.group
            return reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": about})
        query = Query.read(target.resource, target.namespace, request.query)
        items = page(self._sandbox.store, query, {}).items
        for manifest in items:
            place = (manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
            self._sandbox.api.delete(target.resource, place, {**options, "preconditions": {}}, dry_run=dry_run)
        return reply(self._collection(target.resource, items, {"resourceVersion": str(self._sandbox.store.revision)}))

    def _collection(self, resource: Resource, items: list[Manifest], metadata: Manifest) -> Manifest:
        if resource.custom:
            shown_items = [shown(resource, item) for item in items]
        else:
            shown_items = [{key: value for key, value in item.items() if key not in ("apiVersion", "kind")} for item in items]
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": shown_items}


def reply(
    document: Manifest, *, status: int = 200, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(document), status=status, headers={**(headers or {}), "Content-Type": content_type})


def _write(request: web.Request, target: Target) -> Write:
    agent = request.headers.get("User-Agent", "").partition("/")[0]
    return Write(
        manager=request.query.get("fieldManager") or agent or "unknown",
        dry_run=request.query.get("dryRun") == "All",
        force=truth(request.query, "force"),
        subresource=target.subresource,
    )


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"couldn't read the body as JSON: {exc}") from exc


def _yaml(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            return yaml.safe_load(raw)
        except yaml.YAMLError as exc:
            raise bad_request(f"error decoding YAML: {exc}") from exc


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _reason(status: int) -> str:
    return {401: "Unauthorized", 403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 503: "ServiceUnavailable"}.get(
        status, "InternalError"
    )
