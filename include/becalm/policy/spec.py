"""What a policy can say: frozen models, one per section of the file. docs/policy-reference.md is made from them.

The models know the rules that a policy keeps by itself. They read no file (that is `load`), ask no cluster, and decide nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import Field, ValidationInfo, field_validator, model_validator

from becalm.model import VolumeUse
from becalm.policy.alerting import Alerts
from becalm.policy.drifting import Drift
from becalm.policy.fields import (
    ConnectionName,
    Count,
    Days,
    Duration,
    FolderName,
    LabelTexts,
    NamePattern,
    NamespacePattern,
    PasswordSource,
    PolicyName,
    Quantity,
    RefName,
    RepositoryUrl,
    ResourcePattern,
    Schedule,
    Sentence,
    StoreConnection,
    TargetUrl,
    Timezone,
    refuse,
)
from becalm.policy.hooks import LONGEST_FREEZE, Hook, HookCommand, HookSelect, OnFailure, Quiesce, QuiesceScope
from becalm.policy.proving import Drill, DrillCheck, Keep
from becalm.policy.restoring import Approval, Restore
from becalm.policy.section import Section
from becalm.policy.spread import spread, spreads

__all__ = [
    "LONGEST_FREEZE",
    "Alerts",
    "Approval",
    "ClusterScope",
    "Drift",
    "Drill",
    "DrillCheck",
    "Environment",
    "Hook",
    "HookCommand",
    "HookSelect",
    "Infrastructure",
    "InfrastructureRepository",
    "Keep",
    "Lock",
    "LockMode",
    "Metadata",
    "Missed",
    "Objectives",
    "OnFailure",
    "PolicySpec",
    "ProtectionPolicy",
    "Quiesce",
    "QuiesceScope",
    "Resources",
    "Restore",
    "Retention",
    "Section",
    "Selection",
    "Target",
    "VolumeMatch",
    "VolumeRule",
    "Volumes",
    "WhenAnomalous",
]


class Environment(StrEnum):
    """Which claims and limits apply."""

    PRODUCTION = "production"
    STAGING = "staging"
    TEST = "test"


class ClusterScope(StrEnum):
    """Which objects that belong to no namespace come along."""

    AUTO = "auto"
    ALL = "all"
    NONE = "none"


class Missed(StrEnum):
    """What a backfill of missed slots makes up for."""

    LATEST = "latest"
    ALL = "all"


class LockMode(StrEnum):
    """How firmly the bucket holds what is locked."""

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"


class WhenAnomalous(StrEnum):
    """What follows when a volume that held files holds almost none any more."""

    MARK = "mark"
    IGNORE = "ignore"


class Metadata(Section):
    """Whose policy this is."""

    name: PolicyName = Field(
        description="The policy's name: at most 40 lower-case letters, digits and `-`. It names the DAG and the repository below the target, so it stays for good."
    )


class Objectives(Section):
    """What the policy is measured by."""

    rpo: Duration | None = Field(default=None, description="The greatest age that the last good recovery point may reach.")
    rto: Duration | None = Field(default=None, description="The longest that a restore may take.")


class Resources(Section):
    """Which kinds of objects are captured. What is excluded wins."""

    include: Annotated[tuple[ResourcePattern, ...], Field(min_length=1)] = Field(
        default=("*",),
        description="Patterns for kinds: `secrets`, `leases.coordination.k8s.io`, `*.cert-manager.io`. Without a dot, the group does not matter.",
    )
    exclude: tuple[ResourcePattern, ...] = Field(
        default=("events", "leases.coordination.k8s.io"),
        description="Patterns for kinds that stay out. What is written here replaces the default.",
    )


class Selection(Section):
    """What the policy protects."""

    namespaces: Annotated[tuple[NamespacePattern, ...], Field(min_length=1)] = Field(
        description="Names of namespaces, or patterns with `*` and `?`. A name without a pattern must exist when the policy runs."
    )
    labels: LabelTexts | None = Field(
        default=None,
        description="A label selector that objects and claims must answer; within it a comma means AND, and a list of selectors means OR. "
        "What carries `becalm.dev/protect=no` stays out in any case.",
    )
    resources: Resources = Field(default=Resources(), description="Which kinds of objects are captured.")
    cluster_scoped: ClusterScope = Field(
        default=ClusterScope.AUTO,
        description="Objects that belong to no namespace: `auto` (those that the selection refers to), `all` or `none`.",
    )


class VolumeMatch(Section):
    """Which volumes a rule means: those that answer every key."""

    storage_class: NamePattern | None = Field(default=None, description="The name of the storage class, or a pattern.")
    driver: NamePattern | None = Field(default=None, description="The name of the storage driver, or a pattern.")
    namespace: NamespacePattern | None = Field(default=None, description="The namespace, or a pattern.")
    claim: NamePattern | None = Field(default=None, description="The name of the claim, or a pattern.")
    labels: LabelTexts | None = Field(default=None, description="A label selector that the claim answers; a list means OR.")
    size_over: Quantity | None = Field(default=None, description="Volumes larger than this.")
    size_under: Quantity | None = Field(default=None, description="Volumes smaller than this.")

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if not self.set_keys():
            raise refuse("the rule matches every volume", "write what it matches, or change volumes.default")
        return self

    @field_validator("size_under")
    @classmethod
    def _leaves_room(cls, size_under: int | None, info: ValidationInfo) -> int | None:
        size_over = info.data.get("size_over")
        if size_over is not None and size_under is not None and size_over >= size_under:
            raise refuse("no volume is larger than sizeOver and smaller than sizeUnder", "let sizeOver be less than sizeUnder")
        return size_under


class VolumeRule(Section):
    """How some volumes are captured, differing from the default."""

    match: VolumeMatch = Field(description="Which volumes the rule means.")
    use: VolumeUse = Field(description="`snapshot`, `live` (read while it changes) or `skip`.")
    snapshot_class: NamePattern | None = Field(
        default=None,
        description="The VolumeSnapshotClass to cut by, with `use: snapshot`. Without it, the default class of the volume's driver, or its first by name.",
    )
    because: Sentence | None = Field(
        default=None, validate_default=True, description="Why; required for `skip`, and shown in every recovery point."
    )

    @field_validator("snapshot_class")
    @classmethod
    def _is_cut(cls, snapshot_class: str | None, info: ValidationInfo) -> str | None:
        if snapshot_class is not None and info.data.get("use") is not VolumeUse.SNAPSHOT:
            raise refuse("a volume that is not cut needs no snapshot class", "remove snapshotClass, or write use: snapshot")
        if snapshot_class is not None and set("*?") & set(snapshot_class):
            raise refuse("a snapshot class is named, not matched", "write the name of one VolumeSnapshotClass")
        return snapshot_class

    @field_validator("because")
    @classmethod
    def _gives_its_reason(cls, because: str | None, info: ValidationInfo) -> str | None:
        if because is None and info.data.get("use") is VolumeUse.SKIP:
            raise refuse("a volume is skipped without a reason", 'add because: "…", a sentence that a reader will understand in a year')
        return because


class Volumes(Section):
    """How volumes are captured."""

    default: VolumeUse = Field(
        default=VolumeUse.SNAPSHOT, description="How a volume is captured that no rule means: `snapshot`, `live` or `skip`."
    )
    rules: tuple[VolumeRule, ...] = Field(default=(), description="Exceptions. The first rule that matches decides.")
    anomalies: WhenAnomalous = Field(
        default=WhenAnomalous.MARK,
        description="A volume that is empty and was not in the last good recovery point, or that lost more than 99 in 100 of over 100 files: "
        "`mark` (the recovery point is kept, does not count as good, and the run fails) or `ignore`.",
    )


class InfrastructureRepository(Section):
    """A repository of infrastructure code."""

    url: RepositoryUrl = Field(description="Where it is: `https://…` or `ssh://…`, without credentials.")
    ref: RefName = Field(default="main", description="The branch or tag that is declared to run.")
    name: FolderName | None = Field(default=None, description="Its name in recovery points. The last part of the URL, if left out.")
    connection: StoreConnection | None = Field(
        default=None, description="The connection with a user and a token (HTTPS), or a private key and known hosts (SSH)."
    )
    required: bool = Field(default=True, description="Without it a recovery point is partial. `false`: it only says so.")
    max_size: Quantity = Field(default=2 << 30, description="A repository that sends more at once is not taken.")

    @property
    def called(self) -> str:
        """Its name in recovery points."""
        return (
            self.name
            or re.sub(r"[^A-Za-z0-9._-]", "-", self.url.rstrip("/").rpartition("/")[2].removesuffix(".git")).lstrip(".-")
            or "code"
        )


class Infrastructure(Section):
    """The code that the cluster is made from."""

    repositories: Annotated[tuple[InfrastructureRepository, ...], Field(min_length=1)] = Field(
        description="Repositories that travel with every recovery point."
    )

    @field_validator("repositories")
    @classmethod
    def _each_has_a_name_of_its_own(cls, given: tuple[InfrastructureRepository, ...]) -> tuple[InfrastructureRepository, ...]:
        names = [one.called for one in given]
        for name in names:
            if names.count(name) > 1:
                raise refuse(f"two repositories are called {name}", "give one of them a name")
        return given


class Lock(Section):
    """Object lock: what nobody can delete for a time."""

    mode: LockMode = Field(
        default=LockMode.COMPLIANCE,
        description="`compliance` (nobody can end it early) or `governance` (a person with a special right can).",
    )
    days: Days = Field(
        description="For how many days every object of a recovery point is locked from its commit, and a seventh longer; again and again while retention keeps it."
    )


class Target(Section):
    """Where recovery points are kept. Keys and passwords are never in the file."""

    url: TargetUrl = Field(
        description="`s3://bucket/prefix` or `file:///absolute/path`. The repository stands below it, under the policy's name."
    )
    connection: StoreConnection | None = Field(
        default=None,
        description="The connection with the store's keys and endpoint. Without it, they are taken from where the program runs.",
    )
    password: PasswordSource = Field(
        description="Where the repository's password stands: the id of a connection, `file:/path` or `env:NAME`. Whoever loses it loses every recovery point."
    )
    lock: Lock | None = Field(
        default=None, description="Lock every object for a time; the bucket must have object lock. Not locked if left out."
    )

    @field_validator("lock")
    @classmethod
    def _can_lock(cls, lock: Lock | None, info: ValidationInfo) -> Lock | None:
        if lock is not None and info.data.get("url", "").startswith("file:"):
            raise refuse("a folder cannot lock what is in it", "remove lock, or use a bucket that has object lock")
        return lock

    def repository_url(self, name: str) -> str:
        """Return where the repository of the policy of that name stands."""
        return f"{self.url.rstrip('/')}/{name}"


class Retention(Section):
    """Which recovery points stay. A point stays as long as one rule keeps it. A number counts the periods that hold a good point."""

    last: Count | None = Field(default=None, description="Keep this many of the newest.")
    hourly: Count | None = Field(default=None, description="Keep the newest of each hour, for this many hours.")
    daily: Count | None = Field(default=None, description="Keep the newest of each day, for this many days.")
    weekly: Count | None = Field(default=None, description="Keep the newest of each week (Monday to Sunday), for this many weeks.")
    monthly: Count | None = Field(default=None, description="Keep the newest of each month, for this many months.")
    yearly: Count | None = Field(default=None, description="Keep the newest of each year, for this many years.")
    within: Duration | None = Field(default=None, description="Keep all that are not older than the newest one by more than this.")

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not self.set_keys():
            raise refuse("no rule says what to keep", "write at least one, such as daily: 14; or remove retention to keep everything")
        return self


class PolicySpec(Section):
    """What is asked for."""

    cluster: ConnectionName = Field(
        default="kubernetes_default",
        description="The cluster: an Airflow connection of type `kubernetes`; for the command line, a context of the kubeconfig.",
    )
    schedule: Schedule | None = Field(
        default=None,
        description='When a recovery point is owed: five cron fields such as `"0 * * * *"`, or `@hourly`, `@daily`, `@weekly`, `@monthly`. `H` as minute or hour (`"H * * * *"`, `"H H * * *"`, `"H/15 * * * *"`) is a number that follows from the policy\'s name, so that policies spread. By hand only, if left out.',
    )
    timezone: Timezone = Field(
        default="UTC", description="The time zone of the schedule and of the days, weeks and months of retention (an IANA name)."
    )
    environment: Environment = Field(
        default=Environment.PRODUCTION, description="`production`, `staging` or `test`: which claims and limits apply."
    )
    objectives: Objectives = Field(default=Objectives(), description="What the policy is measured by.")
    select: Selection = Field(description="What is protected.")
    volumes: Volumes = Field(default=Volumes(), description="How volumes are captured.")
    quiesce: Quiesce = Field(default=Quiesce(), description="How applications are stilled for the moment of the cut.")
    infrastructure: Infrastructure | None = Field(default=None, description="The code that the cluster is made from.")
    target: Target = Field(description="Where recovery points are kept.")
    retention: Retention | None = Field(default=None, description="Which recovery points stay. All of them, if left out.")
    missed: Missed = Field(
        default=Missed.LATEST,
        description="What a backfill of missed slots makes up for: `latest` (one recovery point answers them all) or `all` (one for each).",
    )
    restore: Restore = Field(default=Restore(), description="How Airflow restores this policy's recovery points.")
    alerts: Alerts = Field(default=Alerts(), description="Who is told when something is wrong.")
    drill: Drill | None = Field(default=None, description="Restores on a schedule, to prove that they work.")
    drift: Drift | None = Field(default=None, description="Comparisons on a schedule of what is declared, saved and running.")

    @field_validator("drift")
    @classmethod
    def _is_declared_where_code_is(cls, drift: Drift | None, info: ValidationInfo) -> Drift | None:
        code = info.data.get("infrastructure")
        names = {one.called for one in code.repositories} if code else set()
        for source in drift.declared if drift else ():
            if source.repository not in names:
                raise refuse(f"infrastructure names no repository {source.repository}", "add it there, or mend the name")
        return drift


class ProtectionPolicy(Section):
    """One policy: one file, one DAG, one repository."""

    api_version: Literal["becalm.dev/v1"] = Field(description="Always `becalm.dev/v1`.")
    kind: Literal["ProtectionPolicy"] = Field(description="Always `ProtectionPolicy`.")
    metadata: Metadata = Field(description="Whose policy this is.")
    spec: PolicySpec = Field(description="What is asked for.")

    @model_validator(mode="before")
    @classmethod
    def _spread_schedule(cls, document: Any) -> Any:
        """Put the policy's own numbers in the place of `H`, before the schedule is read."""
        if not isinstance(document, dict):
            return document
        spec, metadata = document.get("spec"), document.get("metadata")
        if not (isinstance(spec, dict) and isinstance(metadata, dict)):
            return document
        name, schedule = metadata.get("name"), spec.get("schedule")
        if not (isinstance(name, str) and isinstance(schedule, str) and spreads(schedule)):
            return document
        return {**document, "spec": {**spec, "schedule": spread(schedule, name)}}

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.metadata.name

    @property
    def digest(self) -> str:
        """The SHA-256 of what the policy says, however it is written down: comments, order and spelled-out defaults do not count."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
