"""A user of Airflow as a visitor of the console: Airflow's auth manager answers every question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, ConnectionDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from airflow.configuration import conf
from airflow.models import DagModel
from fastapi import Depends, Request

from becalm.airflow.console.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

POLICY_DAG = "becalm_policy_"
RESTORE_DAG = "becalm_restore"


@dataclass(frozen=True, slots=True)
class AirflowVisitor:
    """One user, for one request."""

    user: BaseUser
    by_token: bool

    @property
    def name(self) -> str:
        """The user's name in Airflow."""
        return str(self.user.get_name())

    @property
    def key(self) -> str:
        """The user's id in Airflow."""
        return str(self.user.get_id())

    def may(self, right: Right, policy: str) -> bool:
        """Ask the auth manager about the policy's DAG; for Secrets, about connections, which hold secrets too."""
        if right is Right.RESTORE:
            return self._dag("POST", RESTORE_DAG, DagAccessEntity.RUN)
        dag = POLICY_DAG + policy
        if right is Right.VIEW:
            return self._dag("GET", dag, None)
        if right in {Right.DOWNLOAD, Right.PIN}:
            return self._dag("PUT", dag, None)
        if right is Right.TRIGGER:
            return self._dag("POST", dag, DagAccessEntity.RUN)
        manager = get_auth_manager()
        secrets = manager.is_authorized_connection(method="PUT", details=ConnectionDetails(team_name=_team(dag)), user=self.user)
        return self._dag("PUT", dag, None) and bool(secrets)

    def visible(self, policies: Iterable[str]) -> list[str]:
        """Ask about all of them."""
        return [policy for policy in policies if self.may(Right.VIEW, policy)]

    def _dag(self, method: ResourceMethod, dag: str, entity: DagAccessEntity | None) -> bool:
        details = DagDetails(id=dag, team_name=_team(dag))
        return bool(get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=self.user))


def _team(dag: str) -> str | None:
    """Return the team that a DAG belongs to, where Airflow has teams."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return None
    found: str | None = DagModel.get_team_name(dag)
    return found


def identify(
    request: Request, user: GetUserDep, _seen: Annotated[None, Depends(requires_access_view(AccessView.PLUGINS))]
) -> AirflowVisitor:
    """Return who asks. Strangers, and users who may not see plugins, do not come so far."""
    return AirflowVisitor(user, by_token=request.headers.get("authorization", "").lower().startswith("bearer "))
