"""From what a person types to ports: a policy file or a target, a kubeconfig, and credentials from the environment.

The command line knows no Airflow connections. The environment takes their place:

    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE,
    BECALM_S3_ADDRESSING              the store
    BECALM_MOVER_ENDPOINT_URL         the store's address as pods see it, where it is another one
    BECALM_PASSWORD                   the repository's password, where the policy names a connection
    KUBECONFIG                        the cluster
    BECALM_NAMESPACE, BECALM_MOVER_IMAGE
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions.password import read_reference
from becalm.catalog.adoption import POLICY as ADOPTED
from becalm.clock import SystemClock
from becalm.errors import UsageError
from becalm.storage import CREDENTIALS, open_store

if TYPE_CHECKING:
    from becalm.actions.handover import Ports, Progress
    from becalm.git.access import GitAccess
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

PASSWORD = "BECALM_PASSWORD"  # noqa: S105  (the name of a variable)
"""The variable that stands for a connection's password."""

PolicyFile = Annotated[
    Path | None, typer.Argument(metavar="[POLICY]", help="The policy's file. Without it, say --target, --policy and --password.")
]
TargetOption = Annotated[str, typer.Option("--target", help="The target's URL, as in a policy: s3://bucket/prefix or file:///folder.")]
NameOption = Annotated[str, typer.Option("--policy", help="The policy's name, with --target.")]
PasswordOption = Annotated[str, typer.Option("--password", help="Where the repository's password is: env:NAME or file:/path.")]
KubeconfigOption = Annotated[str, typer.Option("--kubeconfig", help="The kubeconfig; default: KUBECONFIG, then ~/.kube/config.")]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context", help="The kubeconfig's context; default: the policy's cluster if there is one of that name, else the current one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where recovery points are, and how they open."""

    policy: str
    url: str
    """The repository's URL: the target's, with the policy's name."""
    store: ObjectStore
    password: str


def environment() -> dict[str, str]:
    """Return the variables that this command line reads."""
    return dict(os.environ)  # noqa: TID251  (the edge)


def store_credentials() -> dict[str, str]:
    """Return the store's credentials from the environment."""
    given = environment()
    return {name: given[name] for name in CREDENTIALS if given.get(name)}


def read_password(reference: str) -> str:
    """Read a repository's password: `env:NAME`, `file:/path`, or, for a connection's name, BECALM_PASSWORD. Raises UsageError."""
    given = environment()
    return read_reference(reference, variable=lambda name: given.get(name, ""), named=lambda name: _instead_of(name, given))


def _instead_of(connection: str, given: dict[str, str]) -> str:
    """Return the password that stands for a connection's, which this command line does not know. Raises UsageError."""
    found = given.get(PASSWORD)
    if not found:
        raise UsageError(
            "the policy names a connection for the repository's password, and the command line knows none",
            where=f"spec.target.password ({connection})",
            hint=f"export {PASSWORD}=…",
        )
    return found


def find_place(
    path: Path | None, *, target: str = "", name: str = "", password: str = "", create: bool = False, whole: bool = False
) -> tuple[Place, ProtectionPolicy | None]:
    """Open the store of a policy, by its file or by target and name. With `whole`, a target without a name is the repository itself.

    Raises PolicyError, UsageError, and what the store raises.
    """
    policy = _policy(path) if path else None
    if policy is not None:
        url, name, password = policy.spec.target.repository_url(policy.name), policy.name, policy.spec.target.password
    elif target and whole and not name:
        url, name = target.rstrip("/"), ADOPTED
    elif not (target and name):
        raise UsageError(
            "there is neither a policy's file nor a target", hint="give the file, or --target URL --policy NAME --password env:NAME"
        )
    else:
        url = f"{target.rstrip('/')}/{name}"
    lock = policy.spec.target.lock if policy else None
    store = open_store(url, store_credentials(), create=create, lock=lock.mode.value if lock else "")
    return Place(policy=name, url=url, store=store, password=read_password(password or f"env:{PASSWORD}")), policy


def _policy(path: Path) -> ProtectionPolicy:
    from becalm.policy.load import load_file  # noqa: PLC0415  (whoever names a target has no policy to read)

    return load_file(path)


def git_access(name: str) -> GitAccess:  # noqa: ARG001  (a terminal has no connections: all repositories are reached alike)
    """Return how repositories of code are reached from here, by the environment. Raises UsageError (a file cannot be read)."""
    from becalm.git.access import GitAccess  # noqa: PLC0415  (only the verbs that touch a cluster pay for all this)

    given = environment()
    texts = {}
    for variable in ("BECALM_GIT_KEY", "BECALM_GIT_KNOWN_HOSTS"):
        try:
            texts[variable] = Path(given[variable]).read_text() if given.get(variable) else ""
        except (OSError, UnicodeError) as error:
            raise UsageError(f"the file cannot be read: {error}", where=variable, hint="name a file that can be read") from error
    return GitAccess(
        username=given.get("BECALM_GIT_USERNAME", ""),
        password=given.get("BECALM_GIT_PASSWORD", ""),
        key=texts["BECALM_GIT_KEY"],
        known_hosts=texts["BECALM_GIT_KNOWN_HOSTS"],
    )


def build_ports(
    place: Place,
    *,
    cluster_name: str,
    kubeconfig: str = "",
    context: str = "",
    progress: Progress | None = None,
) -> Ports:
    """Connect to the cluster and put the ports together. Raises UsageError (kubeconfig), and what the cluster raises."""
    from becalm.actions.handover import Ports, Settings, silent  # noqa: PLC0415  (only the verbs that touch a cluster pay for all this)
    from becalm.kube import connect  # noqa: PLC0415
    from becalm.kube.pods import PodMover  # noqa: PLC0415
    from becalm.kube.wrappers import RetryingCluster  # noqa: PLC0415

    given, credentials = environment(), store_credentials()
    if given.get("BECALM_MOVER_ENDPOINT_URL"):
        credentials["AWS_ENDPOINT_URL"] = given["BECALM_MOVER_ENDPOINT_URL"]
    settings = Settings(
        cluster_name=cluster_name,
        namespace=given.get("BECALM_NAMESPACE") or "becalm",
        mover_image=given.get("BECALM_MOVER_IMAGE") or "becalm/mover",
        store_environment=credentials,
        git_access=git_access,
    )
    clock = SystemClock()
    reached = connect(kubeconfig=kubeconfig or given.get("KUBECONFIG") or None, context=context or None, prefer_context=cluster_name)
    cluster = RetryingCluster(reached, clock)
    movers = PodMover(cluster, clock, image=settings.mover_image, policy=place.policy)
    return Ports(
        cluster=cluster,
        store=place.store,
        password=place.password,
        clock=clock,
        settings=settings,
        movers=movers,
        progress=progress or silent,
    )
