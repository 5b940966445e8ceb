"""What the environments of an installation demand of a policy: one file, `environments.yaml` beside the policies, and defaults without it.

Pure but for reading that file. A limit is a finding for whoever writes policies: no run is refused, for a recovery point that keeps to no
limit is better than none.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from becalm.errors import PolicyError, PolicyFinding
from becalm.policy import document, findings
from becalm.policy.cron import Cron
from becalm.policy.fields import Duration  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section
from becalm.policy.spec import Environment
from becalm.policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from becalm.policy.spec import ProtectionPolicy

FILE = "environments.yaml"
"""The file's name, beside the policies. It is no policy."""
IN_CLUSTER = (".svc", ".cluster.local")
"""How the names of a cluster's own Services end."""


class Demand(StrEnum):
    """Whether an environment insists."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class Limits(Section):
    """What one environment demands. A key that is left out keeps the environment's own default."""

    lock: Demand | None = Field(default=None, description="Whether every policy has a `target.lock`.")
    off_site: Demand | None = Field(
        default=None, description="Whether the target lies outside this machine and outside the cluster that is protected."
    )
    schedule: Demand | None = Field(default=None, description="Whether every policy has a `schedule`.")
    rpo: Duration | None = Field(
        default=None, description="The greatest `objectives.rpo` that a policy may state; each must then state one. Without it, none must."
    )


DEFAULTS = {
    Environment.PRODUCTION: Limits.model_validate({"lock": "required", "offSite": "required", "schedule": "required", "rpo": "24h"}),
    Environment.STAGING: Limits.model_validate({"schedule": "required"}),
    Environment.TEST: Limits(),
}
"""What holds where the file says nothing."""


class Environments(Section):
    """The limits of an installation."""

    api_version: Literal["becalm.dev/v1"] = Field(description="Always `becalm.dev/v1`.")
    kind: Literal["Environments"] = Field(description="Always `Environments`.")
    production: Limits = Field(default=Limits(), description="What is demanded of policies for production.")
    staging: Limits = Field(default=Limits(), description="What is demanded of policies for staging.")
    test: Limits = Field(default=Limits(), description="What is demanded of policies for tests.")

    def limits(self, environment: Environment) -> Limits:
        """Return what holds in an environment: what the file says, and the defaults for what it leaves out."""
        said: Limits = getattr(self, environment.value)
        written = {name: getattr(said, name) for name in said.model_fields_set}
        return DEFAULTS[environment].model_copy(update={name: value for name, value in written.items() if value is not None})


BUILT_IN = Environments.model_validate({"apiVersion": "becalm.dev/v1", "kind": "Environments"})


def load(text: str | bytes, *, source: str) -> Environments:
    """Read the limits of an installation. Raises PolicyError with every finding."""
    try:
        read = document.read(text)
    except document.Unreadable as unreadable:
        raise _refused(source, [unreadable.finding]) from None
    found = list(read.findings)
    try:
        said = Environments.model_validate(read.value)
    except ValidationError as error:
        raise _refused(source, [*found, *findings.findings(error.errors(include_url=False), read, Environments)]) from None
    if found:
        raise _refused(source, found)
    return said


def load_beside(policy: Path, *, named: Path | None = None) -> Environments:
    """Read the file that is named, or the one beside a policy; without either, the defaults hold. Raises PolicyError."""
    folder = policy if policy.is_dir() else policy.parent
    path = named or folder / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if named is None:
            return BUILT_IN
        raise _refused(
            str(path), [PolicyFinding(path="file", problem="there is no such file", remedy="mend BECALM_ENVIRONMENTS, or unset it")]
        ) from None
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise _refused(str(path), [PolicyFinding(path="file", problem=problem, remedy="look at its rights")]) from error
    return load(text, source=str(path))


def judge(policy: ProtectionPolicy, limits: Limits, *, endpoint: str = "", hosts: Collection[str] = ()) -> tuple[PolicyFinding, ...]:
    """Say what a policy lacks in its environment. Pure. `endpoint` and `hosts` (the cluster's own addresses) are known when it is planned."""
    spec, environment = policy.spec, policy.spec.environment
    found: list[PolicyFinding] = []

    def demand(path: str, problem: str, remedy: str) -> None:
        found.append(PolicyFinding(path=path, problem=f"{environment} demands more: {problem}", remedy=remedy))

    if limits.lock is Demand.REQUIRED and spec.target.lock is None:
        demand("spec.target.lock", "nothing is locked, so whoever has the keys can delete every recovery point", "write lock: {days: 14}")
    if limits.off_site is Demand.REQUIRED and (near := not_off_site(spec.target.url, endpoint, hosts)):
        demand("spec.target.url", f"the target is not off site, {near}", "write a bucket that stands elsewhere")
    if limits.schedule is Demand.REQUIRED and spec.schedule is None:
        demand("spec.schedule", "nothing is ever owed", 'write a schedule, such as "0 * * * *"')
    if limits.rpo is not None:
        most, stated = format_duration(limits.rpo), spec.objectives.rpo
        if stated is None:
            demand("spec.objectives.rpo", "no greatest age is stated", f"write at most {most}")
        elif stated > limits.rpo:
            demand("spec.objectives.rpo", f"{format_duration(stated)} is more than {most}", f"write at most {most}")
    return (*found, *_too_rare(policy))


def _too_rare(policy: ProtectionPolicy) -> tuple[PolicyFinding, ...]:
    """Say that the schedule cannot keep the policy's own objective, whatever the environment."""
    schedule, stated = policy.spec.schedule, policy.spec.objectives.rpo
    if schedule is None or stated is None:
        return ()
    gap = Cron.parse(schedule, policy.spec.timezone).longest_gap()
    if gap <= stated:
        return ()
    problem = f"up to {format_duration(gap)} lie between two runs, and objectives.rpo allows {format_duration(stated)}"
    return (PolicyFinding(path="spec.schedule", problem=problem, remedy="let it run more often, or state an objective that it can keep"),)


def not_off_site(url: str, endpoint: str = "", hosts: Collection[str] = ()) -> str:
    """Say why a target does not count as off site; nothing where it does. Pure."""
    if url.startswith("file:"):
        return "it is a folder of the machine that writes it"
    host = (urlsplit(endpoint).hostname or "") if endpoint else ""
    if host == "localhost" or _is_loopback(host):
        return f"{host} is the machine that writes it"
    if host and (host.endswith(IN_CLUSTER) or host in hosts):
        return f"{host} is in the cluster that is protected"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(source: str, found: list[PolicyFinding]) -> PolicyError:
    return PolicyError("the limits of the environments cannot be read", where=source, findings=findings.readable(found))
