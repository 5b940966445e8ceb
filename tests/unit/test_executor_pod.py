"""deploy/executor-pod.yaml is a pod as Kubernetes knows it, and agrees with the image, the accounts and what the code reads."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient  # noqa: TID253  (it knows the fields of a pod)

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture
def pod() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "executor-pod.yaml").read_text())
    return document


@pytest.fixture
def base(pod: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the task."""
    (only,) = pod["spec"]["containers"]
    return only


@pytest.fixture
def environment(base: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in base["env"]}


@pytest.fixture
def compose() -> dict[str, Any]:
    """The scheduler of docker-compose.yaml, which runs tasks itself."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["scheduler"]
    return document


def read_in(*folders: str) -> set[str]:
    """The variables BECALM_… that modules of these folders name."""
    found: set[str] = set()
    for path in (one for folder in folders for one in (ROOT / "include" / "becalm" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"BECALM_[A-Z0-9_]+", node.value):
                found.add(node.value)
    return found


def test_every_field_is_one_that_kubernetes_knows(pod: dict[str, Any]) -> None:
    """A misspelt field would be dropped without a word: read as a pod and written again, nothing is lost."""
    client = ApiClient()
    read = client.deserialize(SimpleNamespace(data=json.dumps(pod)), "V1Pod")

    assert client.sanitize_for_serialization(read) == pod


def test_airflow_finds_its_container_and_decides_about_tries(pod: dict[str, Any], base: dict[str, Any]) -> None:
    """The container's name is Airflow's own; Kubernetes starts nothing a second time."""
    assert (base["name"], pod["spec"]["restartPolicy"]) == ("base", "Never")


def test_the_image_and_its_user_are_those_that_are_built(pod: dict[str, Any], base: dict[str, Any], compose: dict[str, Any]) -> None:
    """The same image as every other component; its user may write where the logs go."""
    context = pod["spec"]["securityContext"]
    home = re.search(r"AIRFLOW_HOME=(\S+)", DOCKERFILE)
    mounts = {one["name"]: one["mountPath"] for one in base["volumeMounts"]}

    assert base["image"] == compose["image"]
    assert f"--uid {context['runAsUser']} " in DOCKERFILE
    assert context["fsGroup"] == context["runAsUser"]
    assert home
    assert mounts["logs"] == f"{home[1]}/logs"


def test_tasks_are_told_what_they_read_and_nothing_else(environment: dict[str, str], compose: dict[str, Any]) -> None:
    """Each variable of Becalm is one that its Airflow part reads, and what compose tells its components stands here too."""
    told = {name for name in environment if name.startswith("BECALM_")}
    of_compose = {name for name in compose["environment"] if name.startswith("BECALM_")}

    assert told <= read_in("airflow")
    assert of_compose <= told


def test_the_policies_are_mounted_where_tasks_look(pod: dict[str, Any], base: dict[str, Any], environment: dict[str, str]) -> None:
    """From a map that nobody can write through, and every mount has its volume."""
    mounts = {one["name"]: one for one in base["volumeMounts"]}

    assert mounts["policies"]["mountPath"] == environment["BECALM_POLICIES"]
    assert mounts["policies"]["readOnly"] is True
    assert sorted(mounts) == sorted(one["name"] for one in pod["spec"]["volumes"])


def test_no_key_of_airflow_is_given_to_a_task(environment: dict[str, str]) -> None:
    """A task speaks to the API server with a token of its own: it needs neither the database nor the keys."""
    assert not [name for name in environment if re.search(r"DATABASE|SQL_ALCHEMY|FERNET|SECRET|PASSWORD|CONN_", name)]
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].endswith("/execution/")


def test_the_account_is_one_of_ours(pod: dict[str, Any], environment: dict[str, str]) -> None:
    """It stands in deploy/rbac.yaml, in the namespace of the pod, which is Becalm's own."""
    accounts = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in yaml.safe_load_all((ROOT / "deploy" / "rbac.yaml").read_text())
        if one and one["kind"] == "ServiceAccount"
    }
    namespace = pod["metadata"]["namespace"]

    assert (namespace, pod["spec"]["serviceAccountName"]) in accounts
    assert namespace == environment["BECALM_NAMESPACE"]
