"""Stores for the contract suites: real servers where there is one, buckets made and removed, users with fewer rights."""

# ruff: noqa: TID253, PLC0415  (a test prepares buckets beside the adapter; moto is heavy and loads only where it is used)

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.config import Config

from becalm.storage.s3 import S3Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An S3 server and the keys of its owner."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self) -> Any:
        """Return a client of boto3's own, to prepare and to clean up beside the adapter under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def credentials(self, **changes: str) -> dict[str, str]:
        """Return what `open_store` takes."""
        keys = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return keys | changes

    def store(self, bucket: str, prefix: str = "", **changes: Any) -> S3Store:
        """Return the adapter under test over a bucket."""
        options = {"endpoint": self.endpoint, "access_key": self.access_key, "secret_key": self.secret_key, "addressing": "path"}
        return S3Store(bucket, prefix, **(options | changes))

    def make_user(self, name: str, secret: str) -> None:
        """Make a user without any right of its own (VersityGW's administration; other servers skip the test)."""
        body = f"<Account><Access>{name}</Access><Secret>{secret}</Secret><Role>user</Role></Account>".encode()
        self._administer("create-user", body)

    def remove_user(self, name: str) -> None:
        """Remove a user."""
        self._administer(f"delete-user?access={name}", b"")

    def _administer(self, path: str, body: bytes) -> None:
        request = botocore.awsrequest.AWSRequest("PATCH", f"{self.endpoint}/{path}", data=body)
        keys = botocore.credentials.Credentials(self.access_key, self.secret_key)
        botocore.auth.S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
        prepared = request.prepare()
        sent = urllib.request.Request(prepared.url, data=body, headers=dict(prepared.headers), method="PATCH")
        try:
            urllib.request.urlopen(sent, timeout=10).close()
        except urllib.error.HTTPError as error:
            with error:
                pytest.skip(f"this server makes no users: {error.code}")


@contextlib.contextmanager
def a_bucket(server: Server, *, object_lock: bool = False) -> Iterator[str]:
    """Make a bucket, and remove it with all its versions, once their locks have ended."""
    client = server.client()
    name = f"becalm-contract-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if object_lock else {}))
    try:
        yield name
    finally:
        empty(client, name)
        client.delete_bucket(Bucket=name)
        client.close()


def empty(client: Any, bucket: str) -> None:
    """Remove every version of every object, waiting for locks of a few seconds."""
    deadline = time.monotonic() + 15
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
            while True:
                try:
                    client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
                    break
                except client.exceptions.ClientError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)


@pytest.fixture(scope="session")
def s3_server() -> Server:
    """The real server that the environment names; without one the test is skipped."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        pytest.skip("no S3 server: set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return Server(endpoint=endpoint, access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"])


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """A server in this process, for what it is faithful in."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield Server(endpoint=f"http://127.0.0.1:{port}", access_key="key", secret_key="secret")
    server.stop()


@pytest.fixture(scope="session")
def s3_bucket(s3_server: Server) -> Iterator[str]:
    """A bucket without versions on the real server; each test takes a prefix of its own."""
    with a_bucket(s3_server) as name:
        yield name


@pytest.fixture(scope="session")
def s3_locking_bucket(s3_server: Server) -> Iterator[str]:
    """A bucket with object lock, and so with versions, on the real server."""
    with a_bucket(s3_server, object_lock=True) as name:
        yield name


@pytest.fixture(scope="session")
def moto_bucket(moto_server: Server) -> Iterator[str]:
    """A bucket of moto."""
    with a_bucket(moto_server) as name:
        yield name


def a_prefix() -> str:
    """Return a prefix that nobody used."""
    return f"tests/{uuid.uuid4().hex[:12]}"
