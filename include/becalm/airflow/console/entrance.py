"""The console of an Airflow: its policies' folder, its connections, its users. The only place where the console meets all three."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.configuration import conf

from becalm.actions.observe import observe
from becalm.airflow.connections import ports_for, read_password, store_access
from becalm.airflow.console.airflow_rights import identify
from becalm.airflow.console.app import create_app
from becalm.airflow.console.library import Library, Place
from becalm.airflow.loader import policies_folder
from becalm.clock import SystemClock
from becalm.policy.load import load_folder
from becalm.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

    from becalm.actions.handover import Ports
    from becalm.actions.objectives import PolicyStatus
    from becalm.clock import Clock
    from becalm.errors import BecalmError
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore


class AirflowSource:
    """The policies of a folder, and their buckets by Airflow's connections."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    def policies(self) -> Mapping[str, ProtectionPolicy | BecalmError]:
        """Read the folder; a broken policy goes by its file's name."""
        found: dict[str, ProtectionPolicy | BecalmError] = {}
        for path, policy in load_folder(self._folder).items():
            found[policy.name if not isinstance(policy, Exception) else path.stem] = policy
        return found

    def place(self, policy: ProtectionPolicy) -> Place:
        """Open the bucket of a policy."""
        target = policy.spec.target
        credentials = {} if target.url.startswith("file:") else store_access(target.connection).ours
        store = open_store(
            target.repository_url(policy.name), credentials, lock=target.lock.mode.value if target.lock else "", clock=self._clock
        )
        return Place(store=store, password=read_password(target.password))

    def ports(self, policy: ProtectionPolicy) -> Ports:
        """Open the cluster too."""
        return ports_for(policy)

    def status(self, policy: ProtectionPolicy) -> PolicyStatus:
        """Read how a policy stands."""

        def reach() -> tuple[ObjectStore, str]:
            place = self.place(policy)
            return place.store, place.password

        return observe(policy, reach, clock=self._clock, count_bytes=policy.spec.target.url.startswith("file:"))


def console_of_airflow() -> FastAPI:
    """Return the console of this Airflow."""
    clock = SystemClock()
    folder = policies_folder(Path(conf.get("core", "dags_folder")) / "becalm_policies.py")
    secret = conf.get_mandatory_value("api", "secret_key")
    return create_app(Library(AirflowSource(folder, clock), clock=clock), secret=secret, clock=clock, identify=identify)
