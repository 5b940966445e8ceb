"""From Airflow's connections to ports: the cluster, the bucket, and the repository's password.

A `kubernetes` connection is read as its provider defines it, an `aws` connection with the fields that the Amazon provider
documents; neither provider is imported. A field that would change what is read, and that Becalm does not carry out, is an
error and never passed over. No secret is ever in an error, and every secret is masked in the logs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from becalm.actions.handover import Ports, Settings, silent
from becalm.actions.password import read_reference
from becalm.clock import SystemClock
from becalm.errors import NotFound, UsageError

if TYPE_CHECKING:
    from becalm.actions.handover import Progress
    from becalm.clock import Clock
    from becalm.git.access import GitAccess
    from becalm.kube.base import Cluster
    from becalm.policy.spec import ProtectionPolicy

NOT_CARRIED_OUT = (
    "role_arn",
    "assume_role_method",
    "assume_role_kwargs",
    "profile_name",
    "aws_account_id",
    "session_kwargs",
    "s3_config_file",
)
"""Fields of an `aws` connection that choose other credentials than those it holds."""

SHORTEST_MASKED = 16
"""Keys of a store have so many characters; masking a shorter one, as test servers have, would take common words out of the logs."""

PREFIX = "extra__kubernetes__"
"""How old connections of the Kubernetes provider spell their fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How to reach a cluster, as a connection says it."""

    kubeconfig: str | None = None
    kubeconfig_text: str | None = field(default=None, repr=False)
    context: str | None = None
    in_cluster: bool = False
    namespace: str = ""
    mover_image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAccess:
    """The store's variables, for us and for a mover. They are secrets and stay out of what is printed."""

    ours: dict[str, str] = field(repr=False)
    movers: dict[str, str] = field(repr=False)


def variable(name: str) -> str:
    """Return a variable of the environment; one that is not set is empty."""
    return os.environ.get(name, "")  # noqa: TID251  (the edge)


def get_connection(name: str, *, kind: str, for_what: str) -> Connection:
    """Return a connection of a type. Raises NotFound and UsageError, each with the connection's name and what to do."""
    where = f"connection {name}"
    try:
        found: Connection = Connection.get(name)
    except AirflowNotFoundException:
        hint = f"add it under Admin, Connections, or as AIRFLOW_CONN_{name.upper()}"
        raise NotFound(f"{for_what} names an Airflow connection that does not exist", where=where, hint=hint) from None
    if kind and found.conn_type != kind:
        raise UsageError(f"{for_what} needs a connection of type {kind!r}, this one is {found.conn_type!r}", where=where)
    return found


def cluster_access(name: str) -> ClusterAccess:
    """Read a `kubernetes` connection. Raises NotFound, UsageError."""
    connection = get_connection(name, kind="kubernetes", for_what="spec.cluster")
    extra: dict[str, Any] = connection.extra_dejson

    def said(key: str) -> Any:
        return extra.get(key) if key in extra else extra.get(PREFIX + key)

    in_cluster = str(said("in_cluster") or "").lower() in ("true", "1", "yes")
    chosen = [key for key in ("kube_config_path", "kube_config") if said(key)] + (["in_cluster"] if in_cluster else [])
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other", where=f"connection {name}", hint="keep one of them")
    if str(said("disable_verify_ssl") or "").lower() in ("true", "1", "yes"):
        raise UsageError("disable_verify_ssl is set", where=f"connection {name}", hint="put the cluster's authority into the kubeconfig")
    text = said("kube_config")
    return ClusterAccess(
        kubeconfig=str(said("kube_config_path")) if said("kube_config_path") else None,
        kubeconfig_text=_as_text(text) if text else None,
        context=said("cluster_context") or None,
        in_cluster=in_cluster or (not chosen and bool(variable("KUBERNETES_SERVICE_HOST"))),
        namespace=said("becalm_namespace") or said("namespace") or variable("BECALM_NAMESPACE") or "becalm",
        mover_image=said("becalm_mover_image") or variable("BECALM_MOVER_IMAGE") or "becalm/mover",
    )


def _as_text(kubeconfig: object) -> str:
    import json  # noqa: PLC0415  (only an inline kubeconfig needs it)

    return kubeconfig if isinstance(kubeconfig, str) else json.dumps(kubeconfig)


def git_access(name: str) -> GitAccess:
    """Read the connection of a repository of code: login and password, or `private_key` and `known_hosts` in its extra. Raises NotFound."""
    from becalm.git.access import GitAccess  # noqa: PLC0415  (a parse reaches no repository)

    if not name:
        return GitAccess()
    connection = get_connection(name, kind="", for_what="spec.infrastructure")
    extra: dict[str, Any] = connection.extra_dejson
    key = str(extra.get("private_key") or "")
    for secret in filter(None, (connection.password, key)):
        mask_secret(secret)
    return GitAccess(
        username=connection.login or "", password=connection.password or "", key=key, known_hosts=str(extra.get("known_hosts") or "")
    )


def connect_cluster(access: ClusterAccess, clock: Clock) -> Cluster:
    """Open the cluster that a connection describes. Raises UsageError (kubeconfig)."""
    import yaml  # noqa: PLC0415  (a parse needs no cluster)

    from becalm.kube import connect  # noqa: PLC0415  (a parse must not import kubernetes)
    from becalm.kube.wrappers import RetryingCluster  # noqa: PLC0415  (only a task talks to a cluster)

    if access.kubeconfig_text is None:
        file = access.kubeconfig or variable("KUBECONFIG") or None
        return RetryingCluster(connect(kubeconfig=file, context=access.context, in_cluster=access.in_cluster), clock)
    try:
        document = yaml.safe_load(access.kubeconfig_text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        raise UsageError(
            "kube_config is no kubeconfig", where="the cluster's connection", hint="paste the whole kubeconfig, as JSON or YAML"
        )
    return RetryingCluster(connect(kubeconfig_dict=document, context=access.context), clock)


def store_access(name: str | None) -> StoreAccess:
    """Read an `aws` connection; without one, the environment. Raises NotFound, UsageError."""
    from becalm.storage import CREDENTIALS  # noqa: PLC0415  (a parse imports no engine)

    if name is None:
        given = {key: variable(key) for key in CREDENTIALS if variable(key)}
        return _for_movers(given, variable("BECALM_MOVER_ENDPOINT_URL"))
    connection = get_connection(name, kind="aws", for_what="spec.target.connection")
    extra: dict[str, Any] = connection.extra_dejson
    refused = sorted(key for key in NOT_CARRIED_OUT if extra.get(key))
    if refused:
        hint = "give the connection an access key of its own"
        raise UsageError(f"Becalm does not carry out {', '.join(refused)}", where=f"connection {name}", hint=hint)
    service = (extra.get("service_config") or {}).get("s3") or {}
    config = (extra.get("config_kwargs") or {}).get("s3") or {}
    found = (
        connection.login or extra.get("aws_access_key_id"),
        connection.password or extra.get("aws_secret_access_key"),
        extra.get("aws_session_token"),
        service.get("endpoint_url") or extra.get("endpoint_url"),
        extra.get("region_name"),
        _authority(extra.get("verify"), name),
        config.get("addressing_style"),
    )
    if not (found[0] and found[1]):
        raise UsageError("there is no access key", where=f"connection {name}", hint="login is the key's id, password the secret key")
    return _for_movers({key: str(value) for key, value in zip(CREDENTIALS, found, strict=True) if value}, extra.get("mover_endpoint_url"))


def _for_movers(ours: dict[str, str], endpoint: object) -> StoreAccess:
    """Give movers the same, but for an address of the store that only pods use."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if len(ours.get(key, "")) >= SHORTEST_MASKED:
            mask_secret(ours[key])
    return StoreAccess(ours=ours, movers={**ours, **({"AWS_ENDPOINT_URL": str(endpoint)} if endpoint else {})})


def _authority(verify: object, name: str) -> str:
    if verify is False or str(verify).lower() == "false":
        raise UsageError("verify is off", where=f"connection {name}", hint="give the path of the store's authority instead")
    return verify if isinstance(verify, str) and verify.lower() != "true" else ""


def read_password(reference: str) -> str:
    """Read the repository's password: `file:/path`, `env:NAME`, or the password of a connection. Raises NotFound, UsageError."""
    found = read_reference(
        reference, variable=variable, named=lambda name: get_connection(name, kind="", for_what="spec.target.password").password or ""
    )
    mask_secret(found)
    return found


def ports_for(policy: ProtectionPolicy, *, progress: Progress = silent, with_movers: bool = False) -> Ports:
    """Open everything a task of this policy needs. Raises NotFound, UsageError, and what the adapters raise.

    `with_movers` adds movers that are waited for in the task itself: a restore's. A backup's are run by Airflow.
    """
    from becalm.storage import open_store  # noqa: PLC0415  (a parse must not import boto3)

    target, clock = policy.spec.target, SystemClock()
    access = cluster_access(policy.spec.cluster)
    local = target.url.startswith("file:")
    store = StoreAccess(ours={}, movers={}) if local else store_access(target.connection)
    cluster = connect_cluster(access, clock)
    settings = Settings(
        cluster_name=policy.spec.cluster,
        namespace=access.namespace,
        mover_image=access.mover_image,
        store_environment=store.movers,
        git_access=git_access,
    )
    movers = None
    if with_movers:
        from becalm.kube.pods import PodMover  # noqa: PLC0415  (only a restore needs it)

        movers = PodMover(cluster, clock, image=settings.mover_image, policy=policy.name)
    return Ports(
        cluster=cluster,
        store=open_store(target.repository_url(policy.name), store.ours, lock=target.lock.mode.value if target.lock else "", clock=clock),
        password=read_password(target.password),
        clock=clock,
        settings=settings,
        movers=movers,
        progress=progress,
    )
