"""The tools that are measured: Becalm as its mover and its commands run, restic, kopia and rustic as their users run them.

Each has an empty repository in a bucket of its own, a home of its own, and the caches that it makes itself.
"""

# ruff: noqa: PLC0415, D102  (what is measured is imported only where it is used; the port's docstrings hold for all tools)

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests.bench.engine_watch import Measured, watch

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD = "bench"
POLICY = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tool works."""

    bucket: str
    work: Path
    credentials: Mapping[str, str]
    """AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""

    @property
    def environment(self) -> dict[str, str]:
        """Return a user's environment with a fresh home."""
        home = self.work / "home"
        home.mkdir(parents=True, exist_ok=True)
        return {**self.credentials, "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "AWS_REGION": "us-east-1"}


class MoverFailedError(Exception):
    """The mover ended well and says that it did not do all of its work."""


class Tool(Protocol):
    """One tool with one repository. Each work is one process, measured."""

    name: str

    def back_up(self, source: Path) -> Measured:
        """Back up a folder; the second time, beside the backup before."""

    def restore(self, target: Path) -> Measured:
        """Restore the newest backup into an empty folder, so that the source's entries stand right in it."""

    def restore_one(self, path: str, target: Path) -> Measured:
        """Restore one file of the newest backup; it then stands somewhere below the target."""

    def check(self) -> Measured:
        """Read and check all data."""


class Becalm:
    """The mover's own process for a volume in and out; the commands for the rest."""

    name = "becalm"

    def __init__(self, place: Place) -> None:
        from becalm.repository.reader import init_repository
        from becalm.storage import open_store

        self._place, self._url = place, f"s3://{place.bucket}/{POLICY}"
        self._secrets = place.work / "secrets"
        self._secrets.mkdir(parents=True)
        for name, value in {**place.credentials, "password": PASSWORD}.items():
            (self._secrets / name).write_text(value)
        self._store = open_store(self._url, dict(place.credentials))
        self.repository = init_repository(self._store, PASSWORD)
        self._tree = self._snapshot = ""

    def back_up(self, source: Path) -> Measured:
        measured, result = self._move(source, direction="back-up", parent=self._tree)
        self._tree = result.tree
        self._snapshot = self._commit(source)
        return measured

    def restore(self, target: Path) -> Measured:
        return self._move(target, direction="restore", tree=self._tree)[0]

    def restore_one(self, path: str, target: Path) -> Measured:
        return self._command("extract", "--point", self._snapshot, "--path", path, "--to", str(target))

    def check(self) -> Measured:
        return self._command("verify", "--read-data")

    def _commit(self, source: Path) -> str:
        """Write the snapshot object, as the pipeline's commit does after the movers: a few milliseconds, not measured."""
        from becalm.repository.format import Layout, SnapshotDoc

        document = SnapshotDoc(time=datetime.now(UTC), tree=self._tree, paths=(str(source),), hostname="bench", tags=(f"policy={POLICY}",))
        return self.repository.save_document(Layout.SNAPSHOTS, document.encode())

    def _command(self, verb: str, *arguments: str) -> Measured:
        where = ["--target", f"s3://{self._place.bucket}", "--policy", POLICY, "--password", "env:BECALM_PASSWORD"]
        environment = self._place.environment | {"BECALM_PASSWORD": PASSWORD}
        return watch([sys.executable, "-m", "becalm.cli", verb, *arguments, *where], environment)

    def _move(self, volume: Path, *, direction: str, **more: Any) -> tuple[Measured, Any]:
        from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef, from_payload, payload
        from becalm.repository.format import Layout

        given = MoverSpec(
            name=f"m{uuid.uuid4().hex[:8]}",
            run="bench",
            direction=Direction(direction),
            volume=VolumeRef(namespace="bench", claim="data"),
            namespace="bench",
            claim="data",
            repository=self._url,
            secret="none",
            stable_inodes=True,
            **more,
        )
        environment = self._place.environment | {
            "BECALM_MOVER_SPEC": json.dumps(payload(given)),
            "BECALM_SECRET_DIR": str(self._secrets),
            "BECALM_VOLUME": str(volume),
            "BECALM_TERMINATION": str(self._place.work / "termination"),
        }
        measured = watch([sys.executable, "-m", "becalm.mover"], environment)
        result = from_payload(MoverResult, json.loads(self._store.get(Layout.run_result("bench", given.name))))
        if result.error or result.unreadable:
            raise MoverFailedError(f"the mover says: {result.error or result.unreadable[:3]}")
        return measured, result


class Restic:
    """The restic command with its defaults."""

    name = "restic"

    def __init__(self, program: str, place: Place) -> None:
        self._source = Path()
        self._environment = place.environment | {"RESTIC_PASSWORD": PASSWORD}
        where = f"s3:{place.credentials['AWS_ENDPOINT_URL']}/{place.bucket}/{POLICY}"
        self._command = [program, "-r", where]
        self._run("init")

    def _run(self, *arguments: str) -> Measured:
        return watch([*self._command, "--quiet", *arguments], self._environment)

    def back_up(self, source: Path) -> Measured:
        self._source = source
        return self._run("backup", str(source))

    def restore(self, target: Path) -> Measured:
        return self._run("restore", f"latest:{self._source}", "--target", str(target))

    def restore_one(self, path: str, target: Path) -> Measured:
        return self._run("restore", f"latest:{self._source}", "--include", f"/{path}", "--target", str(target))

    def check(self) -> Measured:
        return self._run("check", "--read-data")


class Kopia:
    """The kopia command; with zstd, for it compresses nothing by default, and with folders marked as caches, which it would leave out."""

    name = "kopia"

    def __init__(self, program: str, place: Place) -> None:
        self._environment = place.environment | {"KOPIA_PASSWORD": PASSWORD, "KOPIA_CHECK_FOR_UPDATES": "false"}
        self._program = program
        self._root = ""
        endpoint = place.credentials["AWS_ENDPOINT_URL"]
        arguments = [
            f"--bucket={place.bucket}",
            f"--endpoint={endpoint.partition('//')[2]}",
            "--region=us-east-1",
            f"--access-key={place.credentials['AWS_ACCESS_KEY_ID']}",
            f"--secret-access-key={place.credentials['AWS_SECRET_ACCESS_KEY']}",
        ]
        self._run("repository", "create", "s3", *arguments, *(["--disable-tls"] if endpoint.startswith("http://") else []))
        self._run("policy", "set", "--global", "--compression=zstd", "--ignore-cache-dirs=false")

    def _run(self, *arguments: str) -> Measured:
        return watch([self._program, "--no-progress", *arguments], self._environment)

    def back_up(self, source: Path) -> Measured:
        measured = self._run("snapshot", "create", "--json", str(source))
        self._root = json.loads(measured.output)["rootEntry"]["obj"]
        return measured

    def restore(self, target: Path) -> Measured:
        return self._run("restore", self._root, str(target))

    def restore_one(self, path: str, target: Path) -> Measured:
        return self._run("restore", f"{self._root}/{path}", str(target / Path(path).name))

    def check(self) -> Measured:
        return self._run("snapshot", "verify", "--verify-files-percent=100")


class Rustic:
    """The rustic command with its defaults."""

    name = "rustic"

    def __init__(self, program: str, place: Place) -> None:
        self._program, self._source = program, Path()
        self._environment = place.environment | {"RUSTIC_PASSWORD": PASSWORD, "RUSTIC_NO_PROGRESS": "true", "RUSTIC_LOG_LEVEL": "error"}
        options = {
            "bucket": place.bucket,
            "root": f"/{POLICY}",
            "endpoint": place.credentials["AWS_ENDPOINT_URL"],
            "region": "us-east-1",
            "access_key_id": place.credentials["AWS_ACCESS_KEY_ID"],
            "secret_access_key": place.credentials["AWS_SECRET_ACCESS_KEY"],
        }
        folder = Path(self._environment["HOME"]) / ".config" / "rustic"
        folder.mkdir(parents=True)
        lines = [
            "[repository]",
            'repository = "opendal:s3"',
            "[repository.options]",
            *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
        ]
        (folder / "rustic.toml").write_text("\n".join(lines) + "\n")
        self._run("init")

    def _run(self, *arguments: str) -> Measured:
        return watch([self._program, *arguments], self._environment)

    def back_up(self, source: Path) -> Measured:
        self._source = source
        return self._run("backup", str(source))

    def restore(self, target: Path) -> Measured:
        return self._run("restore", f"latest:{self._source}", str(target))

    def restore_one(self, path: str, target: Path) -> Measured:
        return self._run("restore", f"latest:{self._source}/{path}", f"{target}/")

    def check(self) -> Measured:
        return self._run("check", "--read-data")


def judge(program: str, place: Place) -> None:
    """Have restic check what Becalm wrote. Raises CommandFailedError where it finds anything."""
    where = f"s3:{place.credentials['AWS_ENDPOINT_URL']}/{place.bucket}/{POLICY}"
    with_home = place.environment | {"RESTIC_PASSWORD": PASSWORD}
    watch([program, "-r", where, "--quiet", "--no-cache", "check"], with_home)


def programs() -> dict[str, str]:
    """Return the other tools that are there: by the environment (RESTIC, KOPIA, RUSTIC), else by PATH."""
    found = {name: os.environ.get(name.upper()) or shutil.which(name) for name in ("restic", "kopia", "rustic")}
    return {name: program for name, program in found.items() if program}


def versions(found: Mapping[str, str]) -> list[str]:
    """Return what the tools say of themselves."""
    said = []
    for name, program in found.items():
        done = subprocess.run([program, "--version" if name != "restic" else "version"], capture_output=True, text=True, check=False)
        words = (done.stdout + done.stderr).split()
        said.append(f"{name} {next((word for word in words if word[:1].isdigit()), '?')}")
    return said


def tool(name: str, found: Mapping[str, str], place: Place) -> Tool:
    """Make a tool with an empty repository."""
    match name:
        case "becalm":
            return Becalm(place)
        case "restic":
            return Restic(found[name], place)
        case "kopia":
            return Kopia(found[name], place)
        case _:
            return Rustic(found[name], place)


def drop(client: Any, bucket: str) -> None:
    """Remove a bucket with all that is in it."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    client.delete_bucket(Bucket=bucket)


def variables() -> dict[str, str]:
    """Return how the S3 server is reached, as the environment says it."""
    return {name: os.environ[name] for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
