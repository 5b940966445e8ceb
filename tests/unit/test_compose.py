"""docker-compose.yaml, deploy/Dockerfile and .env.example agree with each other and with what the code reads."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
AIRFLOW = ("airflow-init", "api-server", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docker-compose.yaml").read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.fixture(scope="module")
def environment(compose: dict[str, Any]) -> dict[str, str]:
    """What every component of Airflow is given."""
    given: dict[str, str] = compose["services"]["scheduler"]["environment"]
    return given


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "deploy" / "Dockerfile").read_text()


def read_by_the_code() -> set[str]:
    """Return the variables BECALM_… that any module names in a string, without importing one."""
    found: set[str] = set()
    for path in (ROOT / "include" / "becalm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"BECALM_[A-Z0-9_]+", node.value):
                found.add(node.value)
    return found


def test_every_component_of_airflow_is_a_container_of_its_own(compose: dict[str, Any]) -> None:
    """Each is started again when it dies and says whether it is well; the init container runs once."""
    components = [compose["services"][name] for name in AIRFLOW[1:]]

    assert [service["command"][1] for service in components] == list(AIRFLOW[1:])
    assert all(service["restart"] == "unless-stopped" and service["healthcheck"]["test"] for service in components)
    assert compose["services"]["airflow-init"]["restart"] == "no"


def test_they_start_after_the_database_was_migrated(compose: dict[str, Any]) -> None:
    """Nothing of Airflow starts on an empty database, nor without its pools."""
    waiting = [compose["services"][name]["depends_on"]["airflow-init"]["condition"] for name in AIRFLOW[1:]]
    script = compose["services"]["airflow-init"]["command"][-1]

    assert set(waiting) == {"service_completed_successfully"}
    assert script.index("airflow db migrate") < script.index("python -m becalm.airflow.setup")


def test_all_components_share_the_same_secrets(compose: dict[str, Any]) -> None:
    """A key that differs between two components makes tokens and connections unreadable."""
    keys = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")

    for key in keys:
        assert len({compose["services"][name]["environment"][key] for name in AIRFLOW}) == 1


def test_every_variable_is_in_the_example_and_every_example_is_used(text: str) -> None:
    """A person fills in one file, and nothing in it is idle."""
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    offered = set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))

    assert used == offered


def test_no_secret_has_a_default(text: str) -> None:
    """A secret that was not filled in stops the start; it is never made up."""
    secret = re.findall(r"\$\{([A-Z0-9_]*(?:PASSWORD|SECRET|FERNET|_KEY)[A-Z0-9_]*)([^}]*)\}", text)
    example = (ROOT / ".env.example").read_text()

    assert secret
    assert {suffix for _, suffix in secret} == {":?"}
    assert all(re.search(rf"^{name}=$", example, flags=re.MULTILINE) for name, _ in secret)


def test_becalms_variables_are_those_the_code_reads(environment: dict[str, str]) -> None:
    """A variable that nothing reads is a promise that nothing keeps."""
    given = {name for name in environment if name.startswith("BECALM_")}

    assert given
    assert given <= read_by_the_code()


def test_the_policies_are_mounted_where_the_code_looks(compose: dict[str, Any], environment: dict[str, str]) -> None:
    """Read-only, in every component."""
    for name in AIRFLOW:
        targets = [volume.rsplit(":", 2)[-2:] for volume in compose["services"][name]["volumes"]]
        assert [environment["BECALM_POLICIES"], "ro"] in targets


def test_the_connections_are_those_that_a_policy_names(compose: dict[str, Any], environment: dict[str, str]) -> None:
    """They are JSON, of the types that Becalm reads, and the kubeconfig is where it is mounted."""
    read = {
        name.removeprefix("AIRFLOW_CONN_").lower(): json.loads(value)
        for name, value in environment.items()
        if name.startswith("AIRFLOW_CONN_")
    }
    mounted = [volume.split(":")[-2] for volume in compose["services"]["scheduler"]["volumes"]]

    assert {name: found["conn_type"] for name, found in read.items()} == {
        "kubernetes_default": "kubernetes",
        "becalm_s3": "aws",
        "becalm_repository": "generic",
    }
    assert read["kubernetes_default"]["extra"]["kube_config_path"] in mounted
    assert read["becalm_s3"]["extra"]["endpoint_url"] == "http://s3:7070"


def test_tasks_report_where_the_api_server_is(compose: dict[str, Any], environment: dict[str, str]) -> None:
    """Airflow's default is localhost, whatever the port: no task would ever start."""
    host, port = re.fullmatch(r"http://([a-z-]+):(\d+)/execution/", environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]).groups()  # type: ignore[union-attr]

    assert host in compose["services"]
    assert compose["services"][host]["ports"] == [f"${{AIRFLOW_PORT:-8080}}:{port}"]


def test_the_image_is_built_from_a_target_that_exists(compose: dict[str, Any], dockerfile: str) -> None:
    """And every path that the Dockerfile copies is there and is sent to the builder."""
    targets = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE)
    copied = [path for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE) for path in line.split()[:-1]]
    sent = re.findall(r"^!(.+)$", (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(), flags=re.MULTILINE)

    assert compose["services"]["scheduler"]["build"]["target"] in targets
    assert {"mover", "airflow"} <= set(targets)
    assert all((ROOT / path).exists() for path in copied)
    assert set(copied) == set(sent)


def test_the_movers_image_holds_no_airflow(dockerfile: str) -> None:
    """It is made by the same recipe that the tests use, without extras."""
    core = dockerfile.split(" AS core")[1].split("FROM ", maxsplit=1)[0]

    assert "deploy/install-core" in core
    assert "airflow" not in core
    assert "--extra" not in (ROOT / "deploy" / "install-core").read_text()


def test_images_come_from_public_places(dockerfile: str, compose: dict[str, Any]) -> None:
    """Every base has a name that anyone can pull, with a version."""
    own = set(re.findall(r" AS (\S+)$", dockerfile, flags=re.MULTILINE))
    bases = [base for base in re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE) if base not in own]
    others = [service["image"] for service in compose["services"].values() if "build" not in service]

    assert all(re.fullmatch(r"(ghcr\.io/)?[a-z0-9-]+(/[a-z0-9-]+)*:v?\d[\w.-]*", image) for image in [*bases, *others])
