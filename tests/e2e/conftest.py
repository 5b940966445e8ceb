"""The real parts: a cluster, a bucket, an Airflow on PostgreSQL. Without KUBECONFIG and AWS_ENDPOINT_URL nothing here runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from becalm.kube.base import Kind
from becalm.sandbox.conductor import Conductor
from tests.e2e.airflow import running_airflow
from tests.e2e.harness import World

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
NEEDED = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSWORD = "correct horse battery staple"
POD_ENDPOINT = os.environ.get("BECALM_MOVER_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL", "")


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The variables by which the command line finds everything."""
    absent = [name for name in NEEDED if not os.environ.get(name)]
    if absent:
        pytest.skip(f"no real cluster and bucket here: {', '.join(absent)} not set")
    image = os.environ.get("BECALM_MOVER_IMAGE", "becalm/mover")
    return {
        **{name: os.environ[name] for name in NEEDED},
        "BECALM_PASSWORD": PASSWORD,
        "BECALM_MOVER_ENDPOINT_URL": POD_ENDPOINT,
        "BECALM_MOVER_IMAGE": image,
    }


@pytest.fixture(scope="session")
def postgres_image() -> str:
    """An image with Debian's postgresql-15 and util-linux."""
    return os.environ.get("BECALM_POSTGRES_IMAGE", "becalm.dev/postgres:15")


@pytest.fixture(scope="session")
def world(environment: dict[str, str]) -> World:
    """The cluster."""
    return World.connect(environment["KUBECONFIG"])


@pytest.fixture(scope="session")
def bucket(environment: dict[str, str]) -> Iterator[str]:
    """A bucket of this test run, removed with everything in it."""
    import boto3

    client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="us-east-1")
    name = f"becalm-e2e-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    yield name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for Airflow, policies and restored files."""
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def airflow(environment: dict[str, str], bucket: str, folder: Path) -> Iterator[Conductor]:
    """An Airflow on PostgreSQL, with connections as an operator of it would make them."""
    policies = folder / "policies"
    policies.mkdir()
    try:
        with running_airflow(folder / "airflow", policies, environment, password=PASSWORD) as conductor:
            yield conductor
    finally:
        if kept := os.environ.get("BECALM_E2E_LOGS"):
            shutil.copytree(folder / "airflow", kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    """A fresh namespace, removed afterwards."""
    name = f"becalm-e2e-{uuid4().hex[:6]}"
    world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"test": "e2e"}}})
    yield name
    world.cluster.delete(Kind(group="", version="v1", resource="namespaces", kind="Namespace", namespaced=False), name)
