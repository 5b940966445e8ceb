"""What Becalm needs of Airflow's settings and versions, and why. Pure: it reads nothing itself, and shows no value that may be a secret.

A setting that stops Becalm from doing what was asked must change; one that only makes it slower, or blinder, is advice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DEFAULT = "default"
"""What Airflow calls the source of a setting that nobody has set."""


class State(StrEnum):
    """How one thing stands."""

    FINE = "fine"
    MADE = "made"
    ADVICE = "advice"
    CHANGE = "must change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that was looked at."""

    what: str
    """pool, setting, version, policy, connection or password."""
    name: str
    state: State
    value: str = ""
    advised: str = ""
    why: str = ""

    def document(self) -> dict[str, str]:
        """Return it for programs."""
        fields = {"name": self.name, "value": self.value, "advised": self.advised, "why": self.why}
        return {"what": self.what, "state": self.state.value, **fields}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A setting as Airflow gives it: its text, and where it was set."""

    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One setting: what is advised, and why."""

    name: str
    advised: str
    why: str
    fine: Callable[[Found], bool]
    shown: Callable[[Found], str] = lambda found: found.text
    must: bool = False


def _at_most(most: float) -> Callable[[Found], bool]:
    def fine(found: Found) -> bool:
        try:
            return float(found.text) <= most
        except ValueError:
            return False

    return fine


def _is(text: str) -> Callable[[Found], bool]:
    return lambda found: found.text.strip().lower() == text.lower()


def _is_own(found: Found) -> bool:
    return bool(found.text) and found.source != DEFAULT


def _kind_of_database(found: Found) -> str:
    return found.text.partition(":")[0].partition("+")[0]


def _own(name: str) -> Advice:
    """Return the advice for a key: its value is never shown."""
    return Advice(
        name=name,
        advised="your own, the same in every component",
        why="else each component draws its own, and one does not understand what another wrote",
        fine=_is_own,
        shown=lambda found: f"set ({found.source})" if _is_own(found) else "drawn by Airflow",
    )


SETTINGS: tuple[Advice, ...] = (
    Advice(
        name="core.dag_run_conf_overrides_params",
        advised="True",
        why="without it a run by hand does not heed what its form says",
        fine=_is("True"),
        must=True,
    ),
    Advice(
        name="core.simple_auth_manager_all_admins",
        advised="False",
        why="with it every stranger is an administrator, and may read every backup in the console",
        fine=_is("False"),
        must=True,
    ),
    Advice(
        name="core.auth_manager",
        advised="the FAB or Keycloak provider's",
        why="Airflow's simple manager is for development, by its own word",
        fine=lambda found: bool(found.text) and not found.text.endswith("SimpleAuthManager"),
        shown=lambda found: found.text.rpartition(".")[2],
    ),
    Advice(
        name="database.sql_alchemy_conn",
        advised="postgresql",
        why="on SQLite a backfill can end the scheduler: then nothing is protected until it is started again",
        fine=lambda found: _kind_of_database(found) == "postgresql",
        shown=_kind_of_database,
    ),
    Advice(
        name="core.execution_api_server_url",
        advised="http://HOST:PORT/execution/",
        why="its default is port 8080 of localhost, wherever the API server is: tasks on another machine reach nobody",
        fine=lambda found: bool(found.text),
    ),
    _own("core.fernet_key"),
    _own("api_auth.jwt_secret"),
    _own("api.secret_key"),
    Advice(
        name="scheduler.scheduler_idle_sleep_time",
        advised="at most 0.1",
        why="the next task of a chain starts after a fifth of a second instead of one second, also while an application is frozen",
        fine=_at_most(0.1),
    ),
    Advice(
        name="workers.min_heartbeat_interval",
        advised="at most 1",
        why="a task that failed is noticed within about a second",
        fine=_at_most(1),
    ),
    Advice(
        name="scheduler.task_instance_heartbeat_timeout",
        advised="at most 60",
        why="a worker that was killed is noticed after a minute instead of five",
        fine=_at_most(60),
    ),
    Advice(
        name="core.parallelism",
        advised="at most 32",
        why="more tasks at once can stop the scheduler; heavy work is in pods anyway",
        fine=_at_most(32),
    ),
    Advice(
        name="dag_processor.refresh_interval",
        advised="at most 60",
        why="a new file of DAGs is found within that time",
        fine=_at_most(60),
    ),
    Advice(
        name="dag_processor.min_file_process_interval",
        advised="at most 60",
        why="a new policy becomes a DAG within that time",
        fine=_at_most(60),
    ),
    Advice(
        name="core.load_examples",
        advised="False",
        why="examples stand between the policies",
        fine=_is("False"),
    ),
    Advice(
        name="core.dags_are_paused_at_creation",
        advised="False",
        why="else a new policy protects nothing before somebody unpauses its DAG",
        fine=_is("False"),
    ),
)


def settings(read: Callable[[str], Found]) -> Iterator[Row]:
    """Judge every setting; `read` gives one by its name."""
    for advice in SETTINGS:
        found = read(advice.name)
        fine, shown = advice.fine(found), advice.shown(found) or "not set"
        if fine:
            yield Row(what="setting", name=advice.name, state=State.FINE, value=shown)
            continue
        state = State.CHANGE if advice.must else State.ADVICE
        yield Row(what="setting", name=advice.name, state=state, value=shown, advised=advice.advised, why=advice.why)


def versions(required: Iterable[str], installed: Mapping[str, str]) -> Iterator[Row]:
    """Compare what is installed with what Becalm was tested with: the requirements of its extra `airflow` that name one version."""
    for text in required:
        pinned = re.match(r"(apache-airflow[a-z-]*)==([^\s;,]+)", text)
        if pinned is None:
            continue
        name, wanted = pinned.groups()
        found = installed.get(name, "")
        if found == wanted:
            yield Row(what="version", name=name, state=State.FINE, value=found)
        elif found:
            why = "Becalm is tested with this version only"
            yield Row(what="version", name=name, state=State.ADVICE, value=found, advised=wanted, why=why)
        else:
            why = "without it no DAG of Becalm works"
            yield Row(what="version", name=name, state=State.CHANGE, value="not installed", advised=wanted, why=why)
