"""Commands that pods ask for after a restore, in their annotations: Becalm's own, and Velero's `post.hook.restore.velero.io/…`.

They count only in the namespaces that the request names: who can label a pod must not thereby command the operator. They run once per pod,
when it is ready. What is owed stands in the bucket, so that a restore that was killed before them makes up for them. What is mistyped is a
failure, never a hook that silently does nothing.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from becalm.actions.pods import containers_of, has_ended, is_ready, is_running
from becalm.clock import Deadline
from becalm.errors import BecalmError, NotFound
from becalm.kube import exec as command_exec
from becalm.kube.kinds import POD
from becalm.kube.rules import child
from becalm.model import Finding, Severity
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

OWN = "restore.becalm.dev/"
VELERO = "post.hook.restore.velero.io/"
VELERO_INIT = "init.hook.restore.velero.io/"
KEYS = {
    OWN: ("command", "container", "timeout", "wait", "on-error"),
    VELERO: ("command", "container", "exec-timeout", "wait-timeout", "on-error", "wait-for-ready"),
}
RUN_SECONDS = 30.0
WAIT_SECONDS = 300.0
POLL_SECONDS = 1.0
SIDE_BY_SIDE = 8
NOTE = "hooks"
_DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreHook:
    """One command in one pod."""

    namespace: str
    pod: str
    container: str
    command: tuple[str, ...]
    timeout_seconds: float = RUN_SECONDS
    wait_seconds: float = WAIT_SECONDS
    ready: bool = True
    """Whether it waits until its container is ready; else until it runs."""
    must: bool = True
    """Whether its failure is one of the restore."""

    def __str__(self) -> str:
        """`pods/shop/db-0 (main)`."""
        return f"pods/{self.namespace}/{self.pod} ({self.container})"


def owe(run: str, ports: Ports) -> None:
    """Note that a restore has hooks to run when it is done."""
    ports.store.put(Layout.run_result(run, NOTE), b'{"format":1,"owed":true}')


def owed(run: str, ports: Ports) -> bool:
    """Say whether a restore has not come to its hooks."""
    try:
        ports.store.head(Layout.run_result(run, NOTE))
    except NotFound:
        return False
    return True


def run_all(namespaces: Iterable[str], run: str, ports: Ports) -> tuple[Finding, ...]:
    """Run the hooks of all pods of these namespaces, and return what went wrong. Then nothing is owed any more. Raises what the cluster raises."""
    findings: list[Finding] = []
    hooks: list[RestoreHook] = []
    for namespace in namespaces:
        for pod in ports.cluster.list(POD, namespace=namespace):
            if not has_ended(pod) and not pod["metadata"].get("deletionTimestamp"):
                read = hook_of(pod)
                hooks += [one for one in read if isinstance(one, RestoreHook)]
                findings += [one for one in read if isinstance(one, Finding)]
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="hook") as pool:
        findings += [found for found in pool.map(lambda hook: _run(hook, ports), hooks) if found]
    ports.store.delete(Layout.run_result(run, NOTE))
    return tuple(findings)


def allowed(namespaces: Iterable[tuple[str, str]], patterns: Iterable[str]) -> list[str]:
    """Return the namespaces, of pairs of their names in the point and in the cluster, whose pods may bring hooks. Pure."""
    wanted = tuple(patterns)
    return sorted({target for source, target in namespaces if any(fnmatchcase(source, pattern) for pattern in wanted)})


def hook_of(pod: Manifest) -> list[RestoreHook | Finding]:
    """Read the hook that a pod brings, and what is wrong with it. Pure."""
    metadata, annotations = pod["metadata"], child(pod, "metadata", "annotations")
    where = f"pods/{metadata['namespace']}/{metadata['name']}"
    problems = [
        f"{key} asks for an init container, which is not added: write it into the pod's template"
        for key in annotations
        if key.startswith(VELERO_INIT)
    ]
    prefix = next((one for one in (OWN, VELERO) if any(key.startswith(one) for key in annotations)), "")
    given = {key.removeprefix(prefix): str(value) for key, value in annotations.items() if prefix and key.startswith(prefix)}
    hook = _hook(pod, prefix, given, problems) if given else None
    found: list[RestoreHook | Finding] = [Finding(where=where, message=text, remedy="mend the pod's annotation") for text in problems[:5]]
    return [*found, *([hook] if hook else [])]


def _hook(pod: Manifest, prefix: str, given: dict[str, str], problems: list[str]) -> RestoreHook | None:
    before = len(problems)
    problems += [f"{prefix}{key} is not known; known are {', '.join(KEYS[prefix])}" for key in given if key not in KEYS[prefix]]
    if given.get("on-error", "Continue") not in {"Fail", "Continue"}:
        problems.append(f"{prefix}on-error is neither Fail nor Continue")
    names = [str(item["name"]) for item in containers_of(pod)]
    container = given.get("container") or names[0]
    if container not in names:
        problems.append(f"{prefix}container names {container!r}, which is none of {', '.join(names)}")
    command = _command(prefix, given.get("command", ""), problems)
    run_for = _time(prefix, given, "timeout" if prefix == OWN else "exec-timeout", RUN_SECONDS, problems)
    wait_for = _time(prefix, given, "wait" if prefix == OWN else "wait-timeout", WAIT_SECONDS, problems)
    if len(problems) > before:
        return None
    return RestoreHook(
        namespace=pod["metadata"]["namespace"],
        pod=pod["metadata"]["name"],
        container=container,
        command=command,
        timeout_seconds=run_for,
        wait_seconds=wait_for,
        ready=prefix == OWN or given.get("wait-for-ready") == "true",
        must=given.get("on-error", "Fail" if prefix == OWN else "Continue") == "Fail",
    )


def _command(prefix: str, text: str, problems: list[str]) -> tuple[str, ...]:
    """Read a JSON array of strings, or one string that is the program itself. No shell is added."""
    try:
        words = json.loads(text) if text.lstrip().startswith("[") else [text]
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words) or not words[0].strip():
        problems.append(f"{prefix}command is neither a program nor a JSON array of strings")
        return ()
    return tuple(words)


def _time(prefix: str, given: dict[str, str], key: str, usual: float, problems: list[str]) -> float:
    """Read `30s` or `1m30s`."""
    if key not in given:
        return usual
    found = _DURATION.fullmatch(given[key].strip())
    total = sum(float(found[unit] or 0) * size for unit, size in (("h", 3600), ("m", 60), ("s", 1))) if found else 0.0
    if total < 1:
        problems.append(f"{prefix}{key} is not a time of at least one second, such as 30s")
    return total


def _run(hook: RestoreHook, ports: Ports) -> Finding | None:
    """Wait for a pod, and run its command; return what went wrong."""
    severity = Severity.ERROR if hook.must else Severity.WARNING
    try:
        if not _wait(hook, ports):
            message = f"its restore hook did not run: the container was not ready within {hook.wait_seconds:g} s"
            return Finding(where=str(hook), message=message, remedy="look at the pod, and run the command by hand", severity=severity)
        ports.progress(f"hook in {hook}")
        outcome = command_exec.run(
            ports.cluster,
            ports.clock,
            namespace=hook.namespace,
            pod=hook.pod,
            container=hook.container,
            command=hook.command,
            timeout_seconds=hook.timeout_seconds,
        )
        reason = "" if outcome.done else outcome.reason
    except BecalmError as error:
        reason = error.message
    return (
        Finding(where=str(hook), message=f"its restore hook failed: {reason}", remedy="run the command by hand", severity=severity)
        if reason
        else None
    )


def _wait(hook: RestoreHook, ports: Ports) -> bool:
    """Wait until the container of a hook is ready, or runs. Raises: NotFound (the pod is gone)."""
    deadline = Deadline(ports.clock, hook.wait_seconds)
    while True:
        pod = ports.cluster.get(POD, hook.pod, namespace=hook.namespace)
        if (is_ready if hook.ready else is_running)(pod, hook.container):
            return True
        if deadline.passed():
            return False
        ports.clock.sleep(POLL_SECONDS)
