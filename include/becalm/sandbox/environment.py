"""What a container's process finds around it: its variables, its words with real paths, its folder."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.fields import field_value
from becalm.sandbox.mounts import NotYet, config_data, secret_data
from becalm.sandbox.paths import PathTable, expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.model import Manifest
    from becalm.sandbox.store import Store

ROOT_VARIABLE = "BECALM_SANDBOX_ROOT"
CONTAINER_VARIABLE = "BECALM_SANDBOX_CONTAINER"

SHARED = "/tmp"
"""Left alone in every word, since paths of this machine begin with it too: a volume mounted there becomes TMPDIR."""

_DEFAULT_COMMANDS = {"becalm.dev/busybox": ["sh"]}
"""What an image runs when a container names no command."""


class StartError(Exception):
    """A command that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every process of one container gets, the first one and those that `exec` adds."""

    variables: dict[str, str]
    """The whole environment, with real paths."""
    declared: dict[str, str]
    """What the author declared, as it was written: `$(NAME)` in a command means these."""
    paths: PathTable
    folder: Path
    termination_log: Path

    def words(self, command: Sequence[str]) -> list[str]:
        """Return a command with real paths and a real program. Raises: StartError."""
        words = self.paths.all(command)
        program = words[0]
        if program in ("python", "python3"):
            return [sys.executable, *words[1:]]
        found = shutil.which(program, path=self.variables["PATH"])
        if found is None:
            where = "no such file or directory" if "/" in program else "executable file not found in $PATH"
            raise StartError(f'exec: "{program}": {where}')
        return [found, *words[1:]]


def surroundings(store: Store, pod: Manifest, container: Manifest, *, home: Path, volumes: dict[str, Path], mark: str) -> Surroundings:
    """Prepare what a container's processes get. Raises: NotYet."""
    own = home / "containers" / container["name"]
    folder, temporary = own / "root", own / "tmp"
    for path in (folder, temporary):
        path.mkdir(parents=True, exist_ok=True)
    termination_log = own / "termination-log"
    termination_log.write_bytes(b"")
    table = {container.get("terminationMessagePath", "/dev/termination-log"): str(termination_log)}
    for mount in container.get("volumeMounts") or ():
        place = volumes[mount["name"]]
        if mount.get("subPath"):
            place = place / mount["subPath"]
            if not place.exists():
                place.mkdir(parents=True)
        if mount["mountPath"].rstrip("/") == SHARED:
            temporary = place
        else:
            table[mount["mountPath"]] = str(place)
    for device in container.get("volumeDevices") or ():
        table[device["devicePath"]] = str(volumes[device["name"]])
    paths = PathTable(table)
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "HOME": str(folder),
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
    }
    declared = _declared(store, pod, container)
    variables |= {name: paths.real(value) for name, value in declared.items()}
    variables |= {ROOT_VARIABLE: str(home), CONTAINER_VARIABLE: mark}
    working = container.get("workingDir")
    if working:
        real = Path(paths.real(working))
        folder = real if str(real) != working else folder / working.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
    return Surroundings(variables=variables, declared=declared, paths=paths, folder=folder, termination_log=termination_log)


def first_command(container: Manifest, variables: dict[str, str]) -> list[str]:
    """Return what a container runs. Raises: StartError."""
    command = container.get("command") or _DEFAULT_COMMANDS.get(str(container["image"]).partition(":")[0])
    if not command:
        raise StartError("the sandbox runs commands, not images, and the container names none")
    return [expanded(word, variables) for word in [*command, *(container.get("args") or ())]]


def _declared(store: Store, pod: Manifest, container: Manifest) -> dict[str, str]:
    found: dict[str, str] = {}
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or ():
        for kind, resource in (("secretRef", kinds.SECRETS), ("configMapRef", kinds.CONFIG_MAPS)):
            if kind in source:
                data = _data(store, resource, namespace, source[kind])
                found |= {source.get("prefix", "") + name: content.decode() for name, content in data.items()}
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            value = _from(store, pod, container, variable["valueFrom"])
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expanded(str(variable.get("value") or ""), found)
    return found


def _data(store: Store, resource: kinds.Resource, namespace: str, reference: Manifest) -> dict[str, bytes]:
    manifest = store.get(resource.bucket, (namespace, reference["name"]))
    if manifest is None:
        if reference.get("optional"):
            return {}
        raise NotYet(f'{resource.singular} "{reference["name"]}" not found')
    return secret_data(manifest) if resource is kinds.SECRETS else config_data(manifest)


def _from(store: Store, pod: Manifest, container: Manifest, source: Manifest) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        group, _, name = source["resourceFieldRef"]["resource"].partition(".")
        return str(((container.get("resources") or {}).get(group) or {}).get(name, "0"))
    for kind, resource in (("secretKeyRef", kinds.SECRETS), ("configMapKeyRef", kinds.CONFIG_MAPS)):
        if kind in source:
            reference = source[kind]
            data = _data(store, resource, pod["metadata"]["namespace"], reference)
            if reference["key"] in data:
                return data[reference["key"]].decode()
            if reference.get("optional"):
                return None
            raise NotYet(f"couldn't find key {reference['key']} in {resource.kind} {pod['metadata']['namespace']}/{reference['name']}")
    raise NotYet("a variable's source is of a kind that the sandbox does not know")
