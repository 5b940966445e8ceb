"""Hooks: those of the policy, and those that pods bring in their annotations where the policy lets them. Pure.

Who can label a pod must not thereby command the operator, so annotations count only in the namespaces that the policy names. What
is mistyped is a finding, never a hook that silently does nothing.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from becalm.actions.handover import HookOrigin, HookPlan
from becalm.clock import seconds
from becalm.kube.base import HOOK_ANNOTATION
from becalm.model import Excluded, Finding
from becalm.policy import globs
from becalm.policy.blueprints import BlueprintName
from becalm.policy.hooks import Hook
from becalm.policy.select import parse_labels
from becalm.quiesce.blueprint import Recipe, recipe_of, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

    from becalm.actions.inventory import PodFacts
    from becalm.policy.spec import Quiesce

PRE, POST = "pre.hook.backup.velero.io/", "post.hook.backup.velero.io/"
OWN_KEYS = ("freeze", "thaw", "use", "container", "timeout")
WITH = "with."
"""What a blueprint's parameter begins with, among the annotations."""
VELERO_KEYS = ("command", "container", "timeout", "on-error")
VELERO_SECONDS = 30.0
"""The time that such a hook has if it names none."""
_DURATION = re.compile(r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m(?!s))?(?:(?P<seconds>\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The hooks of pods, and what is wrong with them."""

    hooks: tuple[HookPlan, ...] = ()
    findings: tuple[Finding, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    """Pods whose annotations count for nothing, since the policy does not let their namespace bring hooks."""


def recipe(hook: HookPlan) -> Recipe:
    """Return how a hook freezes and thaws: by its own commands, or by its blueprint's. Pure."""
    if not hook.use:
        return Recipe(freeze=hook.freeze, thaw=hook.thaw)
    return recipe_of(hook.use, hook.given, timeout_seconds=hook.timeout_seconds)


def policy_hooks(quiesce: Quiesce, namespaces: Sequence[str], pods: Sequence[PodFacts]) -> tuple[HookPlan, ...]:
    """Resolve the policy's hooks to the namespaces where they have pods; one without any stays in all it means, where it is missed."""
    found: list[HookPlan] = []
    for number, hook in enumerate(quiesce.hooks):
        meant = [name for name in namespaces if _means(hook, name)]
        with_pods = [name for name in meant if any(pod.namespace == name and _selects(hook, pod) for pod in pods)]
        found.extend(_plan(hook, number, name, seconds(quiesce.timeout)) for name in with_pods or meant)
    return tuple(found)


def brought_hooks(quiesce: Quiesce, pods: Sequence[PodFacts]) -> Brought:
    """Read the hooks that pods bring, in the namespaces that may."""
    hooks: list[HookPlan] = []
    findings: list[Finding] = []
    excluded: list[Excluded] = []
    limit = seconds(quiesce.timeout)
    for pod in pods:
        where = f"pods/{pod.namespace}/{pod.name}"
        if not pod.annotations:
            continue
        if not any(globs.matches(pattern, pod.namespace) for pattern in quiesce.annotations):
            excluded.append(
                Excluded(what=f"the hook of {where}", by="quiesce.annotations", because="the policy does not name its namespace there")
            )
            continue
        problems: list[str] = []
        own = _own(pod, limit, problems)
        velero = None if own else _velero(pod, limit, problems)
        hooks += [hook for hook in (own, velero) if hook]
        findings += [Finding(where=where, message=problem, remedy="mend the pod's annotation") for problem in problems]
    return Brought(hooks=tuple(hooks), findings=tuple(findings), excluded=tuple(excluded))


def _means(hook: Hook, namespace: str) -> bool:
    asked = hook.select.namespaces
    return asked is None or any(globs.matches(pattern, namespace) for pattern in asked)


def _selects(hook: Hook, pod: PodFacts) -> bool:
    if hook.select.pod is not None:
        return pod.name == hook.select.pod
    return parse_labels(hook.select.labels or "").matches(pod.labels)


def _plan(hook: Hook, number: int, namespace: str, limit: float) -> HookPlan:
    command, parameters = hook.command, hook.parameters
    runs_in = command or parameters
    return HookPlan(
        name=f"spec.quiesce.hooks.{number}",
        origin=HookOrigin.POLICY,
        namespace=namespace,
        labels=hook.select.labels or "",
        pod=hook.select.pod or "",
        container=(runs_in.container if runs_in else None) or "",
        user=(runs_in.user if runs_in else None) or "",
        freeze=tuple(command.freeze) if command else (),
        thaw=tuple(command.thaw) if command else (),
        use=str(hook.use or ""),
        given=said(parameters) if parameters else "",
        timeout_seconds=seconds(hook.timeout) if hook.timeout else limit,
    )


def _own(pod: PodFacts, limit: float, problems: list[str]) -> HookPlan | None:
    """Read `quiesce.becalm.dev/…`."""
    found = {key.removeprefix(HOOK_ANNOTATION): value for key, value in pod.annotations.items() if key.startswith(HOOK_ANNOTATION)}
    given = {key.removeprefix(WITH): found.pop(key) for key in list(found) if key.startswith(WITH)}
    _unknown(HOOK_ANNOTATION, found, OWN_KEYS, problems)
    if "use" in found:
        return _own_blueprint(pod, found, given, limit, problems)
    if given:
        problems.append(f"{HOOK_ANNOTATION}{WITH}{min(given)} is a parameter, and {HOOK_ANNOTATION}use is missing")
    if not {"freeze", "thaw"} & set(found):
        if found:
            problems.append(f"{HOOK_ANNOTATION}freeze and {HOOK_ANNOTATION}thaw are missing")
        return None
    if len({"freeze", "thaw"} & set(found)) == 1:
        problems.append(f"a hook needs both {HOOK_ANNOTATION}freeze and {HOOK_ANNOTATION}thaw")
        return None
    commands = [_command(HOOK_ANNOTATION + key, found[key], problems) for key in ("freeze", "thaw")]
    time = _time(HOOK_ANNOTATION + "timeout", found.get("timeout"), limit, limit, problems)
    return _hook(pod, HookOrigin.ANNOTATION, commands, container=found.get("container", ""), timeout_seconds=time, problems=problems)


def _own_blueprint(pod: PodFacts, found: Mapping[str, str], given: Mapping[str, str], limit: float, problems: list[str]) -> HookPlan | None:
    """Read `quiesce.becalm.dev/use`, with the parameters of the blueprint beside it. A text that begins with `[` is a JSON list."""
    if {"freeze", "thaw"} & set(found):
        problems.append(f"{HOOK_ANNOTATION}use and {HOOK_ANNOTATION}freeze or thaw are both there; write one of them")
    time = _time(HOOK_ANNOTATION + "timeout", found.get("timeout"), limit, limit, problems)
    try:
        hook = Hook.model_validate(
            {"select": {"pod": pod.name}, "use": found["use"], "with": {key: _listed(text) for key, text in given.items()}}
        )
    except ValidationError as error:
        problems += [_said_wrong(problem) for problem in error.errors(include_url=False, include_input=False)]
        return None
    if problems or not hook.parameters:
        return None
    return HookPlan(
        name=f"pods/{pod.namespace}/{pod.name}",
        origin=HookOrigin.ANNOTATION,
        namespace=pod.namespace,
        pod=pod.name,
        container=found.get("container") or hook.parameters.container or "",
        user=hook.parameters.user or "",
        use=str(hook.use or ""),
        given=said(hook.parameters),
        timeout_seconds=time,
    )


def _listed(text: str) -> object:
    try:
        return json.loads(text) if text.lstrip().startswith("[") else text
    except ValueError:
        return text


def _said_wrong(problem: ErrorDetails) -> str:
    """Say what is wrong with a blueprint's annotation, as a policy would."""
    place = ".".join(str(part) for part in problem["loc"])
    context = problem.get("ctx", {})
    what, remedy = context.get("problem", "this is not what is expected here"), context.get("remedy", "")
    if place == "use":
        what, remedy = "this is not the name of a blueprint", "write one of: " + ", ".join(BlueprintName)
    return f"{HOOK_ANNOTATION}{place}: {what}" + (f"; {remedy}" if remedy else "")


def _velero(pod: PodFacts, limit: float, problems: list[str]) -> HookPlan | None:
    """Read `pre.` and `post.hook.backup.velero.io/…`. What follows when a hook fails is the policy's `onFailure`, not `on-error`."""
    parts: dict[str, dict[str, str]] = {
        prefix: {key.removeprefix(prefix): value for key, value in pod.annotations.items() if key.startswith(prefix)}
        for prefix in (PRE, POST)
    }
    for prefix, found in parts.items():
        _unknown(prefix, found, VELERO_KEYS, problems)
        if found.get("on-error", "Fail") not in {"Fail", "Continue"}:
            problems.append(f"{prefix}on-error is neither Fail nor Continue")
    pre, post = parts[PRE], parts[POST]
    if not pre and not post:
        return None
    if "command" not in pre or "command" not in post:
        problems.append(f"a hook needs both {PRE}command and {POST}command")
        return None
    if pre.get("container", "") != post.get("container", ""):
        problems.append("the hooks before and after name different containers")
        return None
    commands = [_command(prefix + "command", parts[prefix]["command"], problems) for prefix in (PRE, POST)]
    time = _time(PRE + "timeout", pre.get("timeout"), min(VELERO_SECONDS, limit), limit, problems)
    container = pre.get("container") or (pod.containers[0] if pod.containers else "")
    return _hook(pod, HookOrigin.VELERO, commands, container=container, timeout_seconds=time, problems=problems)


def _hook(
    pod: PodFacts,
    origin: HookOrigin,
    commands: Sequence[tuple[str, ...]],
    *,
    container: str,
    timeout_seconds: float,
    problems: Sequence[str],
) -> HookPlan | None:
    """Make the hook, unless something is wrong with it: half a hook could freeze and not thaw."""
    if problems:
        return None
    freeze, thaw = commands
    return HookPlan(
        name=f"pods/{pod.namespace}/{pod.name}",
        origin=origin,
        namespace=pod.namespace,
        pod=pod.name,
        container=container,
        freeze=freeze,
        thaw=thaw,
        timeout_seconds=timeout_seconds,
    )


def _unknown(prefix: str, found: Mapping[str, str], known: Sequence[str], problems: list[str]) -> None:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            problems.append(
                f"{prefix}{key} is not known" + (f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(known)}")
            )


def _command(key: str, text: str, problems: list[str]) -> tuple[str, ...]:
    """Read a JSON array of strings, or one string that is the program itself. No shell is added."""
    if not text.lstrip().startswith("["):
        if not text.strip():
            problems.append(f"{key} is empty")
        return (text,)
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words) or not words[0]:
        problems.append(f"{key} is not a JSON array of strings")
        return ()
    return tuple(words)


def _time(key: str, text: str | None, default: float, limit: float, problems: list[str]) -> float:
    """Read `30s` or `1m30s`; never more than the policy's own limit."""
    if text is None:
        return default
    found = _DURATION.fullmatch(text.strip())
    total = sum(float(found[unit] or 0) * size for unit, size in (("hours", 3600), ("minutes", 60), ("seconds", 1))) if found else 0.0
    if total < 1:
        problems.append(f"{key} is not a time of at least one second, such as 30s")
    return min(total, limit)
