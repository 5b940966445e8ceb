"""The form of a restore: every field of the restore request, with what it means, in sections. Nothing is said here that the request does not say.

A field that the request gains is in the form at once, in the last section until it has a place and a title of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from becalm.actions.restore_request import RestoreRequest
from becalm.errors import UsageError
from becalm.policy.restoring import Approval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.policy.spec import ProtectionPolicy

ACTS = "dry_run"
APPROVAL = "approval"
BY_POLICY, ASK, DO_NOT_ASK = "policy", "ask", "skip"

WHAT, EXISTING, ELSEWHERE, DATA, SAFETY, MORE = (
    "What is restored",
    "Where something exists",
    "Under other names",
    "Data and readiness",
    "Safety",
    "More",
)

PLACES: dict[str, tuple[str, str]] = {
    "policy": (WHAT, "Policy"),
    "point": (WHAT, "Recovery point"),
    "namespaces": (WHAT, "Namespaces"),
    "exclude_namespaces": (WHAT, "Namespaces left out"),
    "kinds": (WHAT, "Kinds"),
    "exclude_kinds": (WHAT, "Kinds left out"),
    "labels": (WHAT, "Labels"),
    "objects": (WHAT, "Objects"),
    "volumes": (WHAT, "Volumes"),
    "objects_only": (WHAT, "Objects only"),
    "volumes_only": (WHAT, "Volumes only"),
    "include_cluster_scoped": (WHAT, "What belongs to no namespace"),
    "cluster_kinds": (WHAT, "Kinds outside of namespaces"),
    "conflict": (EXISTING, "Where something differs"),
    "conflict_by_kind": (EXISTING, "Where a kind differs"),
    "in_place": (EXISTING, "Write into existing claims"),
    "without_safety_copy": (EXISTING, "Keep no copy of the old data"),
    "namespace_mapping": (ELSEWHERE, "Namespaces"),
    "storage_class_mapping": (ELSEWHERE, "Storage classes"),
    "registry_mapping": (ELSEWHERE, "Image registries"),
    "host_mapping": (ELSEWHERE, "Host names"),
    "patches": (ELSEWHERE, "JSON patches"),
    "replicas": (ELSEWHERE, "Replicas"),
    "drop_secrets": (ELSEWHERE, "No Secrets"),
    "suspend_cronjobs": (ELSEWHERE, "CronJobs suspended"),
    "keep_node_ports": (ELSEWHERE, "Node ports"),
    "status_kinds": (ELSEWHERE, "Status"),
    "parallel": (DATA, "Volumes side by side"),
    "verify_data": (DATA, "Read the data again"),
    "wait_seconds": (DATA, "Seconds until ready"),
    "hooks": (DATA, "Hooks"),
    "hook_namespaces": (DATA, "Namespaces with hooks of their own"),
    "allow_protected": (SAFETY, "Protected namespaces"),
    "dry_run_objects": (SAFETY, "Try each object on the server"),
}
"""Where each field stands, and its title."""
NOT_OFFERED = frozenset({"isolated", "isolated_custom"})
"""Fields of drills, which have a DAG of their own."""
EXAMPLES = {"point": ["latest", "2 weeks ago", "2026-01-31T14:00:00Z"]}


def params(policies: Sequence[str]) -> dict[str, Param]:
    """Return the form. A field is called as the restore request calls it. Pure."""
    schema = RestoreRequest.model_json_schema()
    fields = {name: field for name, field in schema["properties"].items() if name not in NOT_OFFERED}
    ordered = sorted(fields, key=lambda name: list(PLACES).index(name) if name in PLACES else len(PLACES))
    made = {name: _param(name, _resolved(fields[name], schema.get("$defs", {}))) for name in ordered}
    made["policy"] = _policy(policies, str(fields["policy"].get("description", "")))
    return made | _own()


def _own() -> dict[str, Param]:
    """Return what only Airflow's restore knows."""
    return {
        APPROVAL: Param(
            BY_POLICY,
            type="string",
            enum=[BY_POLICY, ASK, DO_NOT_ASK],
            values_display={BY_POLICY: "as the policy says", ASK: "ask a person", DO_NOT_ASK: "do not ask"},
            title="Approval",
            section=SAFETY,
            description="Whether a person approves the plan before it is carried out. A policy may require it.",
        ),
        ACTS: Param(
            default=True, type="boolean", title="Only plan", section=SAFETY, description="Show what would happen, and change nothing."
        ),
    }


def _policy(policies: Sequence[str], description: str) -> Param:
    section, title = PLACES["policy"]
    if not policies:
        return Param(None, type=["null", "string"], minLength=1, title=title, section=section, description=description)
    return Param(policies[0], type="string", enum=list(policies), title=title, section=section, description=description)


def _param(name: str, field: dict[str, Any]) -> Param:
    """Return one field. Lists and mappings may be left empty, which Airflow's form sends as nothing."""
    section, title = PLACES.get(name, (MORE, name.replace("_", " ").capitalize()))
    said: dict[str, Any] = {"title": title, "section": section, "description": str(field.get("description", ""))}
    if name in EXAMPLES:
        said |= {"examples": EXAMPLES[name]}
    kind, default = field.get("type", "string"), field.get("default")
    bounds = {key: field[key] for key in ("minimum", "maximum", "minLength", "enum") if key in field}
    match kind:
        case "array":
            return Param(default or [], type=["array", "null"], items=_items(field.get("items", {})), **said)
        case "object":
            return Param(default or {}, type=["object", "null"], **said)
        case _:
            return Param(default, type=kind, **bounds, **said)


def _items(field: dict[str, Any]) -> dict[str, Any]:
    """Return what may stand in a list: texts, or documents that the request itself checks."""
    return {"type": "string", "minLength": 1} if field.get("type") == "string" else {"type": "object"}


def _resolved(field: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field with what it refers to written out, one level deep."""
    if "$ref" in field:
        return {**definitions[field["$ref"].rpartition("/")[2]], **{key: value for key, value in field.items() if key != "$ref"}}
    return field


def request_of(given: Mapping[str, Any], conf: Mapping[str, Any], *, point: str = "") -> RestoreRequest:
    """Read the form. `point` pins what the plan chose. Raises UsageError: Airflow itself accepts unknown keys."""
    known = set(RestoreRequest.model_fields) - NOT_OFFERED | {ACTS, APPROVAL}
    unknown = sorted(set(conf) - known)
    if unknown:
        raise UsageError(f"a restore does not know {', '.join(unknown)}", where="the run's configuration")
    asked = {key: value for key, value in given.items() if key in known - {ACTS, APPROVAL} and value not in (None, "", [], {})}
    return RestoreRequest.read({**asked, **({"point": point} if point else {})})


def asks(policy: ProtectionPolicy, said: str) -> bool:
    """Say whether a person approves the plan. Pure. Raises UsageError: the policy requires it, and the form says that nobody is asked."""
    demanded = policy.spec.restore.approval or (Approval.NEVER if policy.spec.environment == "test" else Approval.REQUIRED)
    if said == DO_NOT_ASK and demanded is Approval.REQUIRED:
        hint = "ask, or let the policy say restore.approval: optional"
        raise UsageError(f"policy {policy.name} ({policy.spec.environment}) requires an approval", where=APPROVAL, hint=hint)
    return said == ASK or (said != DO_NOT_ASK and demanded is not Approval.NEVER)
