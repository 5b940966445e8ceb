"""Airflow is looked at before anything is protected: pools, settings, versions, connections. What must change is told apart from advice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.airflow import advice, examine
from becalm.airflow.advice import Found, State
from becalm.airflow.setup import POOLS, judge, report

GOOD = {
    "core.dag_run_conf_overrides_params": "True",
    "core.simple_auth_manager_all_admins": "False",
    "core.auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    "database.sql_alchemy_conn": "postgresql+psycopg2://airflow:hidden-word@db/airflow",
    "core.execution_api_server_url": "http://api:8080/execution/",
    "core.fernet_key": "hidden-word",
    "api_auth.jwt_secret": "hidden-word",
    "api.secret_key": "hidden-word",
    "scheduler.scheduler_idle_sleep_time": "0.1",
    "workers.min_heartbeat_interval": "1",
    "scheduler.task_instance_heartbeat_timeout": "60",
    "core.parallelism": "32",
    "dag_processor.refresh_interval": "30",
    "dag_processor.min_file_process_interval": "30",
    "core.load_examples": "False",
    "core.dags_are_paused_at_creation": "false",
}
"""Every setting as it is advised."""

BAD = {
    "core.dag_run_conf_overrides_params": ("False", State.CHANGE),
    "core.simple_auth_manager_all_admins": ("True", State.CHANGE),
    "core.auth_manager": ("airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager", State.ADVICE),
    "database.sql_alchemy_conn": ("sqlite:////opt/airflow/airflow.db", State.ADVICE),
    "core.execution_api_server_url": ("", State.ADVICE),
    "core.fernet_key": ("", State.ADVICE),
    "api_auth.jwt_secret": ("", State.ADVICE),
    "api.secret_key": ("", State.ADVICE),
    "scheduler.scheduler_idle_sleep_time": ("1", State.ADVICE),
    "workers.min_heartbeat_interval": ("5", State.ADVICE),
    "scheduler.task_instance_heartbeat_timeout": ("300", State.ADVICE),
    "core.parallelism": ("64", State.ADVICE),
    "dag_processor.refresh_interval": ("300", State.ADVICE),
    "dag_processor.min_file_process_interval": ("soon", State.ADVICE),
    "core.load_examples": ("True", State.ADVICE),
    "core.dags_are_paused_at_creation": ("True", State.ADVICE),
}
"""Every setting as it must not stay, or as it is worse."""

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: {name}}}
spec:
  cluster: k8s_of_setup
  select: {{namespaces: [shop]}}
  target: {{url: "s3://backups/prod", connection: s3_of_setup, password: "env:PASSWORD_OF_SETUP"}}
  alerts: {{notify: [tell_of_setup]}}
"""


def read(given: dict[str, str]) -> object:
    """Settings that somebody has set; one that is not there is empty, as nobody has set it."""
    return lambda name: Found(text=given.get(name, ""), source="airflow.cfg" if given.get(name) else "default")


def test_the_cases_of_this_file_are_the_settings_that_are_looked_at() -> None:
    """None is forgotten, and none is judged that nobody tried."""
    names = sorted(one.name for one in advice.SETTINGS)

    assert (sorted(GOOD), sorted(BAD)) == (names, names)


def test_an_airflow_as_advised_needs_nothing() -> None:
    """No row asks for anything, and none shows a key or a password."""
    rows = list(advice.settings(read(GOOD)))

    assert {row.state for row in rows} == {State.FINE}
    assert "hidden-word" not in json.dumps([row.document() for row in rows])


@pytest.mark.parametrize("name", BAD)
def test_each_setting_is_judged_alone(name: str) -> None:
    """One that is off is named with what is advised and why; the others stay fine."""
    text, state = BAD[name]
    rows = [row for row in advice.settings(read({**GOOD, name: text})) if row.state is not State.FINE]

    assert [(row.name, row.state) for row in rows] == [(name, state)]
    assert rows[0].advised
    assert rows[0].why


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.text(max_size=30))
def test_whatever_stands_in_a_setting_is_judged(name: str, text: str) -> None:
    """Nonsense is advice or a must, and never an exception."""
    rows = list(advice.settings(read({**GOOD, name: text})))

    assert len(rows) == len(advice.SETTINGS)


@pytest.mark.parametrize(
    ("installed", "state"), [({"apache-airflow": "3.3.2"}, State.FINE), ({"apache-airflow": "3.4.0"}, State.ADVICE), ({}, State.CHANGE)]
)
def test_versions_are_those_of_the_tests(installed: dict[str, str], state: State) -> None:
    """Another one is advice, none at all must change; requirements that name no version are nobody's business."""
    required = ['apache-airflow==3.3.2; extra == "airflow"', 'asyncpg>=0.30; extra == "airflow"', "boto3>=1.40"]
    rows = list(advice.versions(required, installed))

    assert [(row.name, row.state) for row in rows] == [("apache-airflow", state)]


def test_pools_are_judged_as_they_were_found() -> None:
    """One that is missing, has no slot, or does not count waiting movers must change; one that was made is fine from now on."""
    known = {"becalm": {"slots": 0}, "becalm_movers": {"slots": 40, "include_deferred": False}}
    checked = {row.name: row.state for row in judge(known, ())}
    done = {row.name: row.state for row in judge(known, ("becalm_thaw",))}
    whole = {row.state for row in judge(POOLS, ())}

    assert checked == dict.fromkeys(POOLS, State.CHANGE)
    assert done["becalm_thaw"] is State.MADE
    assert whole == {State.FINE}


def test_connections_of_all_policies_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there with its fields is fine; what is missing, or lacks a field, names the policies that need it. No secret is shown."""
    (folder / "shop.yaml").write_text(POLICY.format(name="shop"))
    (folder / "blog.yaml").write_text(POLICY.format(name="blog"))
    (folder / "broken.yaml").write_text("nonsense")
    monkeypatch.setenv("AIRFLOW_CONN_K8S_OF_SETUP", json.dumps({"conn_type": "kubernetes"}))
    monkeypatch.setenv("AIRFLOW_CONN_S3_OF_SETUP", json.dumps({"conn_type": "aws", "password": "hidden-word-of-the-store"}))
    monkeypatch.setenv("PASSWORD_OF_SETUP", "hidden-word-of-the-repository")
    rows = {row.name: row for row in examine.policies(folder)}

    assert {name: row.state for name, row in rows.items()} == {
        "broken.yaml": State.CHANGE,
        "k8s_of_setup": State.FINE,
        "s3_of_setup": State.CHANGE,
        "env:PASSWORD_OF_SETUP": State.FINE,
        "tell_of_setup": State.CHANGE,
    }
    assert "there is no access key" in rows["s3_of_setup"].why
    assert "does not exist" in rows["tell_of_setup"].why
    assert rows["k8s_of_setup"].value == "spec.cluster of blog, shop"
    assert "hidden-word" not in str(rows)


def test_an_alert_is_told_by_a_connection_that_can(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of another type tells nobody, and says so before the night when it is needed."""
    (folder / "shop.yaml").write_text(POLICY.format(name="shop"))
    monkeypatch.setenv("AIRFLOW_CONN_TELL_OF_SETUP", json.dumps({"conn_type": "mysql"}))
    wrong = {row.name: row for row in examine.policies(folder)}["tell_of_setup"]
    monkeypatch.setenv("AIRFLOW_CONN_TELL_OF_SETUP", json.dumps({"conn_type": "http", "host": "https://chat.example.org"}))
    right = {row.name: row for row in examine.policies(folder)}["tell_of_setup"]

    assert (wrong.state, right.state) == (State.CHANGE, State.FINE)
    assert "mysql" in wrong.why


def test_a_folder_that_is_not_there_must_change(tmp_path: Path) -> None:
    """And an empty one protects nothing: that is said, though nothing is wrong with it."""
    (absent,) = examine.policies(tmp_path / "absent")
    (empty,) = examine.policies(tmp_path)

    assert (absent.state, empty.state) == (State.CHANGE, State.ADVICE)


KEEPS_POOLS = """
import json, pathlib, sys
state = pathlib.Path(sys.argv[1])
pools = json.loads(state.read_text())
if sys.argv[3] == "export":
    pathlib.Path(sys.argv[4]).write_text(json.dumps(pools))
else:
    state.write_text(json.dumps({**pools, **json.loads(pathlib.Path(sys.argv[4]).read_text())}))
"""


def test_a_check_changes_nothing_and_setting_up_twice_is_setting_up_once(tmp_path: Path, folder: Path) -> None:
    """The check says what is missing; the first time makes it; the second finds all."""
    script, state = tmp_path / "airflow.py", tmp_path / "pools.json"
    script.write_text(KEEPS_POOLS)
    state.write_text("{}")
    airflow = (sys.executable, str(script), str(state))

    def pools(*, check: bool) -> list[str]:
        found = report(check=check, folder=folder, airflow=airflow)
        return sorted({row["state"] for row in found["rows"] if row["what"] == "pool"})

    checked, kept = pools(check=True), json.loads(state.read_text())
    first, second = pools(check=False), pools(check=False)

    assert (checked, kept) == (["must change"], {})
    assert (first, second) == (["made"], ["fine"])
    assert sorted(json.loads(state.read_text())) == sorted(POOLS)


def test_the_command_looks_at_a_real_airflow(database: Path, folder: Path) -> None:
    """One JSON document, exit code 1 for what must change, settings and versions as this Airflow has them; a check makes no pool."""
    command = [sys.executable, "-m", "becalm.cli", "airflow", "setup", "--check", "--json", "--policies", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "BECALM_TEST_PASSWORD": "a password"})
    found = json.loads(done.stdout)
    rows = {(row["what"], row["name"]): row["state"] for row in found["rows"]}

    assert database.is_file()
    assert (done.returncode, found["ok"]) == (1, False)
    assert rows["connection", "kubernetes_test"] == "must change"
    assert rows["password", "env:BECALM_TEST_PASSWORD"] == "fine"
    assert rows["setting", "database.sql_alchemy_conn"] == "advice"
    assert rows["version", "apache-airflow"] == "fine"
