"""What an API server's refusal means in Becalm's words. Pure: status code, headers and body in, a typed error out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from becalm.errors import (
    AccessDenied,
    AlreadyExists,
    BecalmError,
    ClusterUnavailable,
    Conflict,
    InvalidObject,
    NotFound,
    RevisionGone,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_MESSAGE = 2000


def error_of(code: int, body: bytes, *, headers: Mapping[str, str], subject: str, address: str) -> BecalmError:
    """Turn an HTTP reply of 400 and above into an error."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = {"message": body.decode(errors="replace").strip()}
    if not isinstance(status, dict):
        status = {}
    return error_of_status({**status, "code": code}, subject=subject, address=address, retry_after=headers.get("Retry-After", ""))


def error_of_status(status: Mapping[str, Any], *, subject: str, address: str, retry_after: str = "") -> BecalmError:
    """Turn a Status object into an error: by its code, and by its reason where one code means several things."""
    code, reason = int(status.get("code") or 500), str(status.get("reason") or "")
    message = (str(status.get("message") or "") or reason or f"the API server answered {code}")[:LONGEST_MESSAGE]
    if code == 401:
        return AccessDenied(
            f"the API server does not accept our credentials: {message}",
            where=address,
            hint="renew the token or certificate of the connection",
        )
    if code == 403:
        return _forbidden(message, status, subject=subject)
    if code == 404:
        return NotFound(message, where=subject)
    if code == 409:
        return AlreadyExists(message, where=subject) if reason == "AlreadyExists" else Conflict(message, where=subject)
    if code == 410:
        return RevisionGone(message, where=subject, hint="list again, at a newer revision")
    if code == 429:
        return Throttled(message, where=address, delay_seconds=_delay(status, retry_after))
    if code >= 500:
        return ClusterUnavailable(
            f"the API server answered {code}: {message}", where=f"{address} {subject}".strip(), delay_seconds=_delay(status, retry_after)
        )
    return InvalidObject(message, where=subject)


def _forbidden(message: str, status: Mapping[str, Any], *, subject: str) -> BecalmError:
    """Tell a refusal of rights from a namespace that is going away, which Kubernetes also answers with 403."""
    causes = (status.get("details") or {}).get("causes") or []
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Conflict(message, where=subject, hint="the namespace is being deleted: wait until it is gone")
    if "exceeded quota" in message:
        return AccessDenied(message, where=subject, hint="raise the namespace's quota, or free some of it")
    if "violates PodSecurity" in message:
        return AccessDenied(message, where=subject, hint="the namespace's pod security level does not admit this pod")
    return AccessDenied(message, where=subject, hint="grant this right to the account of the connection")


def _delay(status: Mapping[str, Any], retry_after: str) -> float | None:
    seconds = (status.get("details") or {}).get("retryAfterSeconds") or retry_after
    try:
        return float(seconds)
    except ValueError:
        return None
