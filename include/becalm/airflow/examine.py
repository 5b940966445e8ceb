"""Airflow as this process finds it, held against what Becalm needs: pools, settings, versions, and the connections of every policy.

Nothing is written here but missing pools, and those only where it is asked for. No cluster and no bucket is asked: a connection is read,
not tried.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.airflow import advice, connections, notices
from becalm.airflow.advice import Found, Row, State
from becalm.airflow.loader import policies_folder
from becalm.errors import BecalmError, PolicyError, UsageError
from becalm.policy.load import load_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from becalm.policy.spec import ProtectionPolicy

HIDDEN = frozenset({"core.fernet_key", "api_auth.jwt_secret", "api.secret_key"})
"""Of these only whether they are set is read."""


def examine(folder: Path | None) -> tuple[Row, ...]:
    """Look at everything but the pools. Without a folder the policies are where the DAGs look for them."""
    from airflow.configuration import conf  # noqa: PLC0415  (only who examines reads the whole configuration)

    sources = conf.as_dict(display_source=True, display_sensitive=False)

    def read(name: str) -> Found:
        section, _, key = name.partition(".")
        source = str((sources.get(section, {}).get(key) or ("", advice.DEFAULT))[1])
        text = "set" if name in HIDDEN else str(conf.get(section, key, fallback="") or "")
        return Found(text=text, source=source)

    beside = Path(read("core.dags_folder").text) / "becalm_policies.py"
    required = importlib.metadata.requires("becalm") or []
    return (
        *advice.settings(read),
        *advice.versions(required, {name: _version(name) for name in map(_name, required)}),
        *policies(folder or policies_folder(beside)),
    )


def policies(folder: Path) -> tuple[Row, ...]:
    """Look at the policies of a folder, and at each connection and password that they name."""
    try:
        found = load_folder(folder)
    except PolicyError as error:
        return (Row(what="policy", name=str(folder), state=State.CHANGE, why=_one_line(error)),)
    if not found:
        return (Row(what="policy", name=str(folder), state=State.ADVICE, value="no policy", why="nothing is protected"),)
    sound = [policy for policy in found.values() if not isinstance(policy, PolicyError)]
    broken = [
        Row(what="policy", name=path.name, state=State.CHANGE, value="cannot be followed", why=_one_line(error))
        for path, error in found.items()
        if isinstance(error, PolicyError)
    ]
    return (*broken, *_named(sound))


def _named(sound: Iterable[ProtectionPolicy]) -> Iterator[Row]:
    """Look at each thing that policies name, once, and say whose it is."""
    users: dict[tuple[str, str, str], list[str]] = {}
    for policy in sound:
        for named in _names(policy):
            users.setdefault(named, []).append(policy.name)
    for (what, field, name), of in sorted(users.items()):
        value = f"{field} of {', '.join(of[:3])}" + (f" and {len(of) - 3} more" if len(of) > 3 else "")
        try:
            LOOKS[field](name)
        except BecalmError as error:
            why = error.message + (f"; {error.hint}" if error.hint else "")
            yield Row(what=what, name=name, state=State.CHANGE, value=value, why=why)
        else:
            yield Row(what=what, name=name, state=State.FINE, value=value)


def _names(policy: ProtectionPolicy) -> Iterator[tuple[str, str, str]]:
    """Yield what a policy names: a connection or a password, its field, its name."""
    target = policy.spec.target
    yield "connection", "spec.cluster", policy.spec.cluster
    if not target.url.startswith("file:") and target.connection:
        yield "connection", "spec.target.connection", target.connection
    yield "password", "spec.target.password", target.password
    for name in notices.recipients(policy):
        yield "connection", "spec.alerts.notify", name


def _tells(name: str) -> None:
    """Read the connection of an alert. Raises NotFound, UsageError."""
    kind = notices.read_connection(name).conn_type
    if kind not in notices.TYPES:
        raise UsageError(f"a connection of type {kind!r} tells nobody", hint=f"use one of type {', '.join(notices.TYPES)}")


LOOKS: Mapping[str, Callable[[str], Any]] = {
    "spec.cluster": connections.cluster_access,
    "spec.target.connection": connections.store_access,
    "spec.target.password": connections.read_password,
    "spec.alerts.notify": _tells,
}


def _name(requirement: str) -> str:
    return requirement.partition("==")[0].strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


def _one_line(error: PolicyError) -> str:
    """Return the first thing that is wrong, and how many more there are."""
    if not error.findings:
        return error.message
    more = len(error.findings) - 1
    return str(error.findings[0]) + (f" (and {more} more: `becalm policy check` lists them)" if more else "")
