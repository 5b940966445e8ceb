"""The folder of policies becomes DAGs, each on its own: a broken policy is a DAG that says so, and never an exception.

Nothing but the policies' files is read here. While a task starts, Airflow asks for one DAG, and only its file is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import DAG, get_parsing_context
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow import broken, dag
from becalm.errors import PolicyError
from becalm.policy.load import load_file, load_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.policy.spec import ProtectionPolicy

FOLDER = "BECALM_POLICIES"
"""The variable of the environment that names the folder."""
SUFFIXES = (".yaml", ".yml")


def policies_folder(beside: Path) -> Path:
    """Return the folder: the one that the environment names, or `policies` beside the DAG's file."""
    named = os.environ.get(FOLDER)  # noqa: TID251  (the edge)
    return Path(named) if named else beside.parent / "policies"


def wanted() -> str | None:
    """Return the DAG that a starting task needs; nothing while everything is parsed."""
    only: str | None = get_parsing_context().dag_id
    return only


def policy_dags(folder: Path, only: str | None = None) -> dict[str, DAG]:
    """Return the DAGs of a folder by their ids: all of them, or the one that a starting task needs. Never raises for a policy."""
    if only is None:
        return {made.dag_id: made for path, found in _all(folder) for made in (_build(path, found),)}
    if only.startswith(broken.PREFIX):
        return {made.dag_id: made for path, found in _all(folder) for made in (_build(path, found),) if made.dag_id == only}
    return {only: _one(folder, only.removeprefix(dag.PREFIX))} if only.startswith(dag.PREFIX) else {}


def policy_names(folder: Path) -> list[str]:
    """Return the names of the policies that can be followed, in order."""
    return sorted(found.name for _, found in _all(folder) if not isinstance(found, Exception))


def _all(folder: Path) -> Iterator[tuple[Path, ProtectionPolicy | Exception]]:
    """Yield each file with its policy or its error; a folder that cannot be read is one error."""
    try:
        yield from load_folder(folder).items()
    except Exception as error:  # noqa: BLE001  (one exception here would stop every policy of the folder)
        yield folder, error


def find_policy(folder: Path, name: str) -> tuple[Path, ProtectionPolicy] | None:
    """Return a policy by its name, with its file, reading as few files as possible; nothing where no sound file holds it."""
    for path in _likely(folder, name):
        try:
            found = load_file(path)
        except PolicyError:
            continue
        if found.name == name:
            return path, found
    return None


def _one(folder: Path, name: str) -> DAG:
    """Return the DAG of one policy. One whose file is gone has the same tasks, and they say so."""
    found = find_policy(folder, name)
    return dag.policy_dag(found[1], file=found[0]) if found else dag.orphan_dag(name, file=folder / f"{name}.yaml")


def _likely(folder: Path, name: str) -> list[Path]:
    """Return the files that hold the name: the one called after it first."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
        return [path for path in sorted(files, key=lambda path: path.stem != name) if name.encode() in path.read_bytes()]
    except OSError:
        return []


def _build(path: Path, found: ProtectionPolicy | Exception) -> DAG:
    """Return the DAG of one file. That it can be stored is tried here: one that cannot would stop every DAG of the file."""
    if isinstance(found, Exception):
        return broken.policy_error_dag(path.stem, found)
    try:
        made = dag.policy_dag(found, file=path)
        DagSerialization.to_dict(made)
    except Exception as error:  # noqa: BLE001  (one exception here would stop every policy of the folder)
        return broken.policy_error_dag(path.stem, error)
    return made
