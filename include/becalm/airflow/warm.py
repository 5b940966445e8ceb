"""Import what tasks need before tasks start: in the process that they are forked from.

A task imports the cluster's client in one to two seconds, and the provider's pod operator in two more; in `snapshot` the
application is frozen meanwhile. Airflow's local and Celery workers fork each task from a process that lives on, and what
that one has imported costs a task nothing. `airflow_local_settings.py` calls this; without it everything works, only slower.
"""

from __future__ import annotations

import importlib
import sys

COMPONENTS = frozenset({"scheduler", "celery"})
"""The commands of Airflow whose processes fork tasks."""

MODULES = (
    "becalm.airflow.loader",
    "becalm.airflow.movers",
    "becalm.airflow.operators",
    "becalm.kube.client",
    "becalm.kube.wrappers",
    "becalm.storage.s3",
    "becalm.storage.wrappers",
    "boto3",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.empty",
    *(f"becalm.actions.{verb}" for verb in ("run", "discover", "quiesce", "snapshot", "export", "upload", "commit", "prune", "restore")),
)


def warm(command: list[str]) -> tuple[str, ...]:
    """Import the modules if this command's process forks tasks; return what was imported. A module that fails is left to its task."""
    if not COMPONENTS.intersection(command[1:2]):
        return ()
    done = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            sys.stderr.write(f"becalm: {name} is not imported ahead: {error}\n")
        else:
            done.append(name)
    if "becalm.storage.s3" in done:
        _read_s3_model()
    return tuple(done)


def _read_s3_model() -> None:
    """Let boto3 read its description of S3, which every client needs."""
    from becalm.storage.s3_connection import read_model  # noqa: PLC0415  (only a process that forks tasks does this)

    read_model()
