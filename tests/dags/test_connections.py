"""From Airflow's connections to ports: which fields count, and what a person reads where one is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from becalm.airflow.connections import cluster_access, connect_cluster, ports_for, read_password, store_access
from becalm.clock import SystemClock
from becalm.errors import BecalmError, NotFound, UsageError
from becalm.policy.load import load

KEY = "AKIA-not-a-real-key"
SECRET = "not-a-real-secret"

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "here",
}


class Connections:
    """Connections as an administrator gives them: by the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = monkeypatch

    def set(self, name: str, **fields: Any) -> None:
        """Add a connection."""
        self._environment.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))

    def environment(self, name: str, value: str) -> None:
        """Set a variable."""
        self._environment.setenv(name, value)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    for name in ("KUBERNETES_SERVICE_HOST", "BECALM_NAMESPACE", "BECALM_MOVER_IMAGE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    return Connections(monkeypatch)


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
def test_a_cluster_is_read_as_its_provider_defines_it(connections: Connections, prefix: str) -> None:
    """Path, context and namespace count, in today's spelling and in the old one."""
    extra = {"kube_config_path": "/etc/kube/config", "cluster_context": "prod", "namespace": "backup"}
    connections.set("k8s", conn_type="kubernetes", extra={prefix + key: value for key, value in extra.items()})
    access = cluster_access("k8s")

    assert (access.kubeconfig, access.context, access.namespace, access.in_cluster) == ("/etc/kube/config", "prod", "backup", False)


def test_a_connection_as_a_url_counts_too(connections: Connections) -> None:
    """`kubernetes://?…` is the provider's other form."""
    connections.environment("AIRFLOW_CONN_K8S", "kubernetes://?kube_config_path=%2Fetc%2Fconfig&becalm_mover_image=example%2Fmover%3A1")

    assert cluster_access("k8s").kubeconfig == "/etc/config"
    assert cluster_access("k8s").mover_image == "example/mover:1"


def test_a_whole_kubeconfig_may_stand_in_the_connection(connections: Connections) -> None:
    """It is a JSON string there, and never printed."""
    connections.set("k8s", conn_type="kubernetes", extra={"kube_config": json.dumps(KUBECONFIG)})
    access = cluster_access("k8s")

    assert json.loads(access.kubeconfig_text or "") == KUBECONFIG
    assert "127.0.0.1" not in repr(access)
    connect_cluster(access, SystemClock())


def test_a_connection_that_names_nothing_means_this_cluster_or_the_default_file(connections: Connections) -> None:
    """As with the provider: the pod's own account inside a cluster, else the default kubeconfig."""
    connections.set("k8s", conn_type="kubernetes")
    outside = cluster_access("k8s")
    connections.environment("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    assert (outside.in_cluster, outside.kubeconfig, outside.namespace, outside.mover_image) == (False, None, "becalm", "becalm/mover")
    assert cluster_access("k8s").in_cluster


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "aws"}, "type 'kubernetes'"),
        ({"conn_type": "kubernetes", "extra": {"kube_config_path": "/a", "in_cluster": True}}, "exclude each other"),
        ({"conn_type": "kubernetes", "extra": {"disable_verify_ssl": True}}, "disable_verify_ssl"),
    ],
)
def test_a_cluster_connection_that_cannot_be_followed_is_refused(connections: Connections, fields: dict[str, Any], words: str) -> None:
    """One sentence names the connection and what is wrong with it."""
    connections.set("k8s", **fields)

    with pytest.raises(UsageError, match=words) as refused:
        cluster_access("k8s")
    assert refused.value.where == "connection k8s"


@pytest.mark.parametrize("text", ["just words", "[1", "{]"])
def test_a_kubeconfig_that_is_none_is_refused(connections: Connections, text: str) -> None:
    """Nonsense in the field is an error of the field."""
    connections.set("k8s", conn_type="kubernetes", extra={"kube_config": text})

    with pytest.raises(UsageError, match="no kubeconfig"):
        connect_cluster(cluster_access("k8s"), SystemClock())


def test_a_connection_that_does_not_exist_is_named(connections: Connections) -> None:
    """The error says which field of the policy names it, and how to add it."""
    with pytest.raises(NotFound) as missing:
        cluster_access("nowhere")

    assert missing.value.where == "connection nowhere"
    assert "AIRFLOW_CONN_NOWHERE" in missing.value.hint


def test_a_store_is_read_as_the_amazon_provider_documents_it(connections: Connections) -> None:
    """Login and password are the key; endpoint, region, session, authority and addressing stand in the extra."""
    extra = {
        "endpoint_url": "https://s3.example.org",
        "region_name": "eu-1",
        "aws_session_token": "session",
        "verify": "/etc/ca.pem",
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    connections.set("s3", conn_type="aws", login=KEY, password=SECRET, extra=extra)

    assert store_access("s3").ours == {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "session",
        "AWS_ENDPOINT_URL": "https://s3.example.org",
        "AWS_REGION": "eu-1",
        "AWS_CA_BUNDLE": "/etc/ca.pem",
        "BECALM_S3_ADDRESSING": "path",
    }


def test_keys_may_stand_in_the_extra_and_an_endpoint_in_the_service(connections: Connections) -> None:
    """The provider's other places; the service's own endpoint wins."""
    extra = {
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "endpoint_url": "https://all.example.org",
        "service_config": {"s3": {"endpoint_url": "https://s3.example.org"}},
    }
    connections.set("s3", conn_type="aws", extra=extra)

    assert store_access("s3").ours["AWS_ACCESS_KEY_ID"] == KEY
    assert store_access("s3").ours["AWS_ENDPOINT_URL"] == "https://s3.example.org"


def test_pods_may_reach_the_store_by_another_address(connections: Connections) -> None:
    """Only the movers' endpoint differs."""
    extra = {"endpoint_url": "http://127.0.0.1:7070", "mover_endpoint_url": "http://s3.storage.svc:7070"}
    connections.set("s3", conn_type="aws", login=KEY, password=SECRET, extra=extra)
    access = store_access("s3")

    assert access.ours["AWS_ENDPOINT_URL"] == "http://127.0.0.1:7070"
    assert access.movers == {**access.ours, "AWS_ENDPOINT_URL": "http://s3.storage.svc:7070"}


def test_without_a_connection_the_environment_counts(connections: Connections) -> None:
    """As on the command line."""
    connections.environment("AWS_ACCESS_KEY_ID", KEY)
    connections.environment("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    connections.environment("BECALM_MOVER_ENDPOINT_URL", "http://s3:1")
    access = store_access(None)

    assert (access.ours["AWS_ACCESS_KEY_ID"], access.movers["AWS_ENDPOINT_URL"]) == (KEY, "http://s3:1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "kubernetes"}, "type 'aws'"),
        ({"conn_type": "aws"}, "no access key"),
        ({"conn_type": "aws", "login": KEY}, "no access key"),
        (
            {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"role_arn": "arn:aws:iam::1:role/x"}},
            "does not carry out role_arn",
        ),
        ({"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"verify": False}}, "verify is off"),
    ],
)
def test_a_store_connection_that_cannot_be_followed_is_refused(connections: Connections, fields: dict[str, Any], words: str) -> None:
    """Nothing that would change which credentials count is passed over, and no secret is in the error."""
    connections.set("s3", **fields)

    with pytest.raises(UsageError, match=words) as refused:
        store_access("s3")
    assert refused.value.where == "connection s3"
    assert SECRET not in str(refused.value)


def test_a_password_comes_from_a_file_a_variable_or_a_connection(connections: Connections, tmp_path: Path) -> None:
    """The three places that a policy can name."""
    (tmp_path / "password").write_text("from a file\n")
    connections.environment("SOME_PASSWORD", "from a variable")
    connections.set("repository", conn_type="generic", password="from a connection")
    places = (f"file:{tmp_path}/password", "env:SOME_PASSWORD", "repository")

    assert [read_password(place) for place in places] == ["from a file", "from a variable", "from a connection"]


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "file:/not/there", "nowhere", "empty"])
def test_a_password_that_is_not_there_is_an_error(connections: Connections, reference: str) -> None:
    """An empty password never opens a repository."""
    connections.set("empty", conn_type="generic")

    with pytest.raises(BecalmError) as missing:
        read_password(reference)
    assert missing.value.where
    assert missing.value.hint


def test_ports_hold_what_the_policy_names(connections: Connections, tmp_path: Path, policy_text: Any) -> None:
    """The cluster's name in recovery points is the connection's; the store is the policy's own part of the target."""
    (tmp_path / "shop").mkdir()
    connections.set("kubernetes_test", conn_type="kubernetes", extra={"kube_config": json.dumps(KUBECONFIG), "becalm_namespace": "keeper"})
    connections.environment("BECALM_TEST_PASSWORD", SECRET)
    ports = ports_for(load(policy_text(store=str(tmp_path)), source="shop.yaml"))

    assert (ports.settings.cluster_name, ports.settings.namespace, ports.password) == ("kubernetes_test", "keeper", SECRET)
    assert ports.store.url.endswith(f"{tmp_path}/shop")
    assert ports.movers is None
    assert SECRET not in repr(ports)
