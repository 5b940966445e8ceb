"""What the end-to-end tests stand on: the cluster by its own client, Becalm by its command line, files by their digests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.errors import AlreadyExists, NotFound
from becalm.kube import connect
from becalm.kube.base import Kind, Verb
from becalm.repository.format import NodeType
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.kube.base import Cluster
    from becalm.storage.base import ObjectStore

Manifest = dict[str, Any]

LIST_FILES = (
    "cd %s && find . ! -name lost+found \\( -type d -printf '%%P d %%m %%U:%%G %%T@\\n'"
    " -o -printf '%%P %%y %%m %%U:%%G %%T@ %%s %%n %%l\\n' \\) | sort"
)
"""Name, type, mode, owner, time; for all but directories, whose size is the file system's own business, also size, links and target."""
HASH_FILES = "cd %s && find . -type f -print0 | sort -z | xargs -0 sha256sum"


@dataclass(slots=True)
class World:
    """A cluster, spoken to directly: the tests' own eyes."""

    cluster: Cluster
    kinds: dict[str, Kind] = field(default_factory=dict)

    @classmethod
    def connect(cls, kubeconfig: str) -> World:
        """Open the cluster and learn what it serves."""
        world = cls(connect(kubeconfig=kubeconfig))
        world.learn()
        return world

    def learn(self) -> None:
        """Ask again what is served: a definition was added."""
        self.kinds = {f"{kind.api_version}/{kind.kind}": kind for kind in self.cluster.discover().kinds}

    def kind(self, manifest: Manifest) -> Kind:
        """Return the kind of an object."""
        return self.kinds[f"{manifest['apiVersion']}/{manifest['kind']}"]

    def create(self, manifest: Manifest, namespace: str | None = None) -> Manifest:
        """Create an object, or leave the one that is there."""
        metadata = {**manifest["metadata"], **({"namespace": namespace} if namespace else {})}
        try:
            return self.cluster.apply(self.kind(manifest), {**manifest, "metadata": metadata}, verb=Verb.CREATE)
        except AlreadyExists:
            return self.cluster.get(self.kind(manifest), metadata["name"], namespace=namespace)

    def list(self, what: str, namespace: str | None = None) -> list[Manifest]:
        """List all objects of `apiVersion/Kind`."""
        return list(self.cluster.list(self.kinds[what], namespace=namespace))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace and wait until it is gone."""
        kind = self.kinds["v1/Namespace"]
        self.cluster.delete(kind, name)
        eventually(lambda: gone(lambda: self.cluster.get(kind, name)), f"namespace {name} is gone", seconds=180)

    def ready(self, namespace: str, labels: str, *, seconds: float = 240) -> str:
        """Wait for the one ready pod with these labels; return its name."""

        def look() -> str:
            for pod in self.cluster.list(self.kinds["v1/Pod"], namespace=namespace, labels=labels):
                conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
                if conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
                    return str(pod["metadata"]["name"])
            return ""

        return eventually(look, f"a pod {labels} in {namespace} is ready", seconds=seconds)

    def shell(self, namespace: str, pod: str, script: str, *, container: str, seconds: float = 120) -> str:
        """Run a script in a container; demand that it succeeds; return what it printed."""
        printed: list[bytes] = []  # all of it, however much: an answer that is kept has a bound
        command = ["sh", "-c", script]
        done = self.cluster.exec(namespace, pod, container=container, command=command, timeout_seconds=seconds, out=printed.append)
        assert done.exit_code == 0, f"{script}: exit {done.exit_code}: {done.stderr.decode()}"
        return b"".join(printed).decode()

    def files(self, namespace: str, pod: str, folder: str, *, container: str) -> tuple[list[str], list[str]]:
        """Return every file with its metadata, and every regular file's SHA-256."""
        listed = self.shell(namespace, pod, LIST_FILES % folder, container=container).splitlines()
        hashed = self.shell(namespace, pod, HASH_FILES % folder, container=container, seconds=300).splitlines()
        return listed, hashed


def saved_objects(store: ObjectStore, password: str, tree: str) -> dict[str, Manifest]:
    """Return every object of a recovery point by its path."""
    repository = open_repository(store, password)
    resources = lookup(repository, tree, "resources").subtree
    files = ((path, node) for path, node in walk(repository, resources) if node.type is NodeType.FILE)
    return {path: json.loads(b"".join(repository.read_file(node))) for path, node in files}


def gone(look: Callable[[], object]) -> bool:
    """Say whether looking something up finds nothing."""
    try:
        look()
    except NotFound:
        return True
    return False


def eventually(look: Callable[[], Any], what: str, *, seconds: float) -> Any:
    """Look until there is something; fail with `what` when time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def becalm(*arguments: str, environment: dict[str, str], code: int = 0) -> Any:
    """Run the command line with --json; demand its exit code; return its document."""
    command = [sys.executable, "-m", "becalm.cli", *arguments, "--json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"becalm {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else None


def restic(*arguments: str, repository: str, environment: dict[str, str]) -> str:
    """Run restic on a repository; demand success; return what it printed."""
    command = ["restic", "--repo", repository, "--no-cache", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"restic {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def write_policy(path: Path, lines: Sequence[str]) -> Path:
    """Write a policy's file whole, as a deployment would: never half of it is seen."""
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n")
    part.rename(path)
    return path
