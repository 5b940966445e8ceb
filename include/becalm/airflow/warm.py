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
    "becalm.airflow.movers",
    "becalm.airflow.operators",
    "becalm.kube.client",
    "becalm.storage.s3",
    "boto3",
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
    return tuple(done)
