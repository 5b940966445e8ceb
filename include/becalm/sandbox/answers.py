"""The refusals of the API, each as the Status object that a real API server sends. Knows the wording, never the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One field that is wrong."""

    field: str
    reason: str
    message: str

    def document(self) -> Manifest:
        """Return it as it stands in `details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """A request that is refused; it becomes the reply's Status object."""

    def __init__(
        self, code: int, reason: str, message: str, *, details: Manifest | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Keep what the Status needs."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def status(self) -> Manifest:
        """Return the Status object."""
        status: Manifest = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def details(resource: Resource, name: str) -> Manifest:
    """Return the details that name an object by its resource."""
    found: Manifest = {"name": name, "kind": resource.plural} if name else {"kind": resource.plural}
    return {**found, "group": resource.group} if resource.group else found


def not_found(resource: Resource, name: str) -> ApiError:
    """404: the object is not there."""
    return ApiError(404, "NotFound", f'{resource.group_resource} "{name}" not found', details=details(resource, name))


def not_served() -> ApiError:
    """404: the group is known, the resource is not."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(409, "AlreadyExists", f'{resource.group_resource} "{name}" already exists', details=details(resource, name))


def modified(resource: Resource, name: str) -> ApiError:
    """409: the resourceVersion sent is not the current one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}', details=details(resource, name)
    )


def other_uid(resource: Resource, name: str, *, asked: str, found: str) -> ApiError:
    """409: a precondition names another uid."""
    why = (
        f"the UID in the precondition ({asked}) does not match the UID in record ({found}). "
        "The object might have been deleted and then recreated"
    )
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {resource.kind} "{name}": {why}', details={"name": name, "kind": resource.kind}
    )


def manager_conflict(conflicts: Sequence[tuple[str, str]]) -> ApiError:
    """409: fields of a server-side apply belong to other managers; each conflict is a manager, as it is named, and a field."""
    causes = [{"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": field} for manager, field in conflicts]
    if len(conflicts) == 1:
        message = f"Apply failed with 1 conflict: conflict with {conflicts[0][0]}: {conflicts[0][1]}"
    else:
        message = f"Apply failed with {len(conflicts)} conflicts: " + "; ".join(f"conflict with {m}: {f}" for m, f in conflicts)
    return ApiError(409, "Conflict", message, details={"causes": causes})


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object says something that cannot be."""
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    about: Manifest = {"name": name} if name else {}
    if group:
        about["group"] = group
    about |= {"kind": kind, "causes": [cause.document() for cause in causes]}
    shown = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f'{shown} "{name}" is invalid: {text}', details=about)


def bad_request(message: str) -> ApiError:
    """400: the request makes no sense."""
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str, *, causes: Sequence[Cause] = ()) -> ApiError:
    """403: the request is understood and not allowed."""
    about = details(resource, name)
    if causes:
        about["causes"] = [cause.document() for cause in causes]
    return ApiError(403, "Forbidden", f'{resource.group_resource} "{name}" is forbidden: {why}', details=about)


def expired(message: str) -> ApiError:
    """410: the revision asked for has been compacted away."""
    return ApiError(410, "Expired", message)


def too_new(asked: int, current: int) -> ApiError:
    """504: the revision asked for has not happened yet."""
    about = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, details=about, headers={"Retry-After": "1"})


def unauthorized() -> ApiError:
    """401: no token, or another one."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def required(field: str, message: str = "") -> Cause:
    """Say that a field is missing."""
    return Cause(field=field, reason="FieldValueRequired", message=f"Required value{': ' if message else ''}{message}")


def wrong(field: str, value: object, message: str) -> Cause:
    """Say that a field's value cannot be."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause(field=field, reason="FieldValueInvalid", message=f"Invalid value: {shown}: {message}")


def may_not(field: str, message: str) -> Cause:
    """Say that a field may not be set or changed."""
    return Cause(field=field, reason="FieldValueForbidden", message=f"Forbidden: {message}")
