"""docs/restore_without_becalm.md does what it says: its commands are run word for word, in order, on a recovery point of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from tests.contract.restics import the_restic
from tests.contract.stores import Server, s3_bucket, s3_server  # noqa: F401  (fixtures are imported by their names)

from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point

PAGE = Path(__file__).parents[2] / "docs" / "restore_without_becalm.md"
BLOCK = re.compile(r"(?:<!-- (?P<only>\w+) -->\n)?```sh\n(?P<code>.*?)```", re.DOTALL)
PLACEHOLDER = re.compile(r"<[a-z]+(?:-[a-z]+)*>")
IMAGE = Random(8).randbytes(700_000) + bytes(5 << 20) + b"end"
ORDERS = Random(9).randbytes(100_000)


def commands(kind: str) -> list[str]:
    """Return the page's blocks in order: of those for one kind of target only, the ones for this kind."""
    return [found["code"] for found in BLOCK.finditer(PAGE.read_text()) if found["only"] in {None, kind}]


def filled(code: str, values: dict[str, str]) -> str:
    """Put values where the page has placeholders. One that has no value fails the test."""
    return PLACEHOLDER.sub(lambda found: values[found.group()[1:-1]], code)


def an_object(kind: str, name: str, *, version: str = "v1", namespace: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an object as a server gives it: with all that another server refuses."""
    metadata = {
        "name": name,
        "uid": str(uuid.uuid4()),
        "resourceVersion": "4711",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "someone", "operation": "Update", "apiVersion": version}],
    }
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def documents(namespace: str) -> dict[str, dict[str, Any]]:
    """Return what the point holds of the API, by its path."""
    secret = an_object("Secret", "tls", namespace=namespace, type="Opaque", data={"key": "c2VjcmV0"})
    claim_spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "volumeName": "pv-of-old"}
    service_spec = {
        "clusterIP": "10.96.1.2",
        "clusterIPs": ["10.96.1.2"],
        "ports": [{"port": 80, "protocol": "TCP"}],
        "selector": {"app": "web"},
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]}}
    web = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {
        f"resources/core/namespaces/_cluster/{namespace}.json": an_object(
            "Namespace", namespace, spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"}
        ),
        f"resources/core/secrets/{namespace}/tls.json": secret,
        f"resources/core/configmaps/{namespace}/settings.json": an_object("ConfigMap", "settings", namespace=namespace, data={"a": "1"}),
        f"resources/core/persistentvolumeclaims/{namespace}/data.json": an_object(
            "PersistentVolumeClaim", "data", namespace=namespace, spec=claim_spec, status={"phase": "Bound"}
        ),
        f"resources/core/services/{namespace}/web.json": an_object("Service", "web", namespace=namespace, spec=service_spec),
        f"resources/apps/deployments/{namespace}/web.json": an_object(
            "Deployment", "web", version="apps/v1", namespace=namespace, spec=web
        ),
    }


def write_point(store: ObjectStore, namespace: str) -> None:
    """Write an older point, a complete one, and a newer one that is partial and must not be taken."""
    said = {"format": 1, "complete": True, "missing": [], "excluded": [], "consistency": {"label": "crash-consistent", "reasons": []}}
    raw = {path: orjson.dumps(document) for path, document in documents(namespace).items()}
    raw["recovery-point.json"] = orjson.dumps(said)
    volumes = {f"{namespace}/data": {"orders.db": ORDERS, "sub/a b": b"x"}, f"{namespace}/raw": {"disk.img": IMAGE}}
    save_point(store, [], kinds=[], raw={"recovery-point.json": b"{}"}, cut=CUT - timedelta(days=1))
    save_point(store, [], kinds=[], raw=raw, volumes=volumes, cut=CUT)
    save_point(store, [], kinds=[], raw={"recovery-point.json": b"{}"}, complete=False, cut=CUT + timedelta(days=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Somebody who follows the page, in an empty folder."""

    home: Path
    values: dict[str, str]
    environment: dict[str, str]

    def follow(self, kind: str) -> list[str]:
        """Run every block; return what each printed. The first that fails ends it."""
        printed = []
        exports = ""
        for code in commands(kind):
            script = filled(code, self.values)
            if script.startswith("export "):
                exports += script
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", exports + script],
                cwd=self.home,
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (script, done.stdout, done.stderr)
            printed.append(done.stdout)
        return printed


def a_reader(tmp_path: Path, namespace: str, **values: str) -> Reader:
    """Return a reader who has restic, jq and the password, and nothing of Becalm."""
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    (tools / "restic").symlink_to(the_restic())
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (home / "device").write_bytes(b"\xff" * (len(IMAGE) + 100))
    return Reader(
        home=home,
        values={
            "policy": "shop",
            "password-file": str(tmp_path / "password"),
            "namespace": namespace,
            "claim": "data",
            "block-claim": "raw",
            "file": "orders.db",
            "secret": "tls",
            **values,
        },
        environment={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home)},
    )


RECORDER = """#!/bin/sh
# A stand-in for kubectl: it keeps what it is told to apply.
[ "$*" = "apply -f -" ] || exit 64
cat >> "{log}"
echo >> "{log}"
"""


def with_a_recorder(reader: Reader, tmp_path: Path) -> Path:
    """Put a stand-in for kubectl before the real one; return where it keeps what it was given."""
    log = tmp_path / "applied"
    program = tmp_path / "tools" / "kubectl"
    program.write_text(RECORDER.format(log=log))
    program.chmod(0o755)
    return log


def read_all(text: str) -> list[dict[str, Any]]:
    """Read JSON documents that stand one after the other."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


def assert_everything_came_back(reader: Reader, printed: list[str]) -> None:
    """Check the folder that the reader worked in."""
    home, namespace = reader.home, reader.values["namespace"]
    whole = home / "everything"
    assert any("no errors were found" in text for text in printed)
    assert any("/resources/core/secrets/" in text for text in printed)
    assert json.loads((home / "recovery-point.json").read_text())["complete"] is True
    assert (home / "one-file").read_bytes() == ORDERS
    assert (home / "one-volume" / "volumes" / namespace / "data" / "orders.db").read_bytes() == ORDERS
    assert (home / "one-volume" / "volumes" / namespace / "data" / "sub" / "a b").read_bytes() == b"x"
    assert not (home / "one-volume" / "volumes" / namespace / "raw").exists()
    assert (home / "straight" / "orders.db").read_bytes() == ORDERS
    assert (home / "device").read_bytes() == IMAGE + b"\xff" * 100
    assert (whole / "volumes" / namespace / "raw" / "disk.img").read_bytes() == IMAGE
    for path, document in documents(namespace).items():
        assert json.loads((whole / path).read_text())["kind"] == document["kind"]


def assert_applied(applied: list[dict[str, Any]]) -> None:
    """Check what a server would have got: the Secret first and alone, then everything in order, and nothing of the old server's."""
    assert [document["kind"] for document in applied] == [
        "Secret",
        "Namespace",
        "Secret",
        "ConfigMap",
        "PersistentVolumeClaim",
        "Service",
        "Deployment",
    ]
    assert all(set(document["metadata"]) <= {"name", "namespace", "annotations"} for document in applied)
    assert "volumeName" not in applied[4]["spec"]
    assert "clusterIP" not in applied[5]["spec"]


def test_the_page_restores_from_a_folder(tmp_path: Path) -> None:
    """With a directory as target."""
    reader = a_reader(tmp_path, "shop", folder=str(tmp_path / "target"))
    write_point(open_store(f"file://{tmp_path}/target/shop", {}, create=True), "shop")
    log = with_a_recorder(reader, tmp_path)
    printed = reader.follow("folder")

    assert_everything_came_back(reader, printed)
    assert_applied(read_all(log.read_text()))


@pytest.mark.s3
def test_the_page_restores_from_a_bucket(s3_server: Server, s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811  (fixtures, by name)
    """With a bucket as target."""
    prefix = f"{s3_bucket}/{uuid.uuid4().hex[:8]}"
    keys = {"access-key": s3_server.access_key, "secret-key": s3_server.secret_key}
    reader = a_reader(tmp_path, "shop", endpoint=s3_server.endpoint, target=prefix, **keys)
    write_point(open_store(f"s3://{prefix}/shop", s3_server.credentials()), "shop")
    log = with_a_recorder(reader, tmp_path)
    printed = reader.follow("bucket")

    assert_everything_came_back(reader, printed)
    assert_applied(read_all(log.read_text()))


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace of its own on the real cluster, removed after."""
    if not os.environ.get("KUBECONFIG") or not shutil.which("kubectl"):
        pytest.skip("no cluster: set KUBECONFIG")
    name = f"compat-{uuid.uuid4().hex[:8]}"
    subprocess.run(["kubectl", "create", "namespace", name], check=True, capture_output=True)
    yield name
    subprocess.run(["kubectl", "delete", "namespace", name, "--wait=false"], check=True, capture_output=True)


@pytest.mark.cluster
def test_the_page_restores_into_a_real_cluster(namespace: str, tmp_path: Path) -> None:
    """What the page applies, a real API server takes; the Secret has its content."""
    reader = a_reader(tmp_path, namespace, folder=str(tmp_path / "target"))
    reader.environment["KUBECONFIG"] = os.environ["KUBECONFIG"]
    write_point(open_store(f"file://{tmp_path}/target/shop", {}, create=True), namespace)
    printed = reader.follow("folder")
    command = [
        "kubectl",
        "get",
        "-n",
        namespace,
        "secret/tls",
        "configmap/settings",
        "pvc/data",
        "service/web",
        "deployment/web",
        "-o",
        "json",
    ]
    found = {item["kind"]: item for item in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["items"]}

    assert_everything_came_back(reader, printed)
    assert found.keys() == {"Secret", "ConfigMap", "PersistentVolumeClaim", "Service", "Deployment"}
    assert found["Secret"]["data"] == {"key": "c2VjcmV0"}
    assert found["Service"]["spec"]["clusterIP"] != "10.96.1.2"


def test_every_placeholder_of_the_page_is_explained() -> None:
    """What a reader has to replace stands in the page's table."""
    text = PAGE.read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    used = {found for code in (*commands("bucket"), *commands("folder")) for found in PLACEHOLDER.findall(code)}

    assert used - set(PLACEHOLDER.findall(table)) == set()
