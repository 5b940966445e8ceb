"""Airflow for the tests of this folder: a home of its own, made before Airflow is imported, with a migrated SQLite database."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="becalm-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "BECALM_POLICIES": str(HOME / "policies"),
    }
)
for folder in ("dags", "policies"):
    (HOME / folder).mkdir(exist_ok=True)

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: {name}}}
spec:
  cluster: kubernetes_test
  schedule: "0 * * * *"
  timezone: Europe/Zurich
  select: {{namespaces: [shop, "team-*"]}}
  target: {{url: "file://{store}", password: "env:BECALM_TEST_PASSWORD"}}
  retention: {{last: 3}}
"""


def a_policy_text(name: str = "shop", store: str = "/var/lib/becalm-points") -> str:
    """Return a small sound policy."""
    return POLICY.format(name=name, store=store)


@pytest.fixture
def policy_text() -> Callable[..., str]:
    """What writes a small sound policy."""
    return a_policy_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of policies with one in it."""
    made = tmp_path / "policies"
    made.mkdir()
    (made / "shop.yaml").write_text(a_policy_text())
    return made


@pytest.fixture(scope="session")
def database() -> Path:
    """Airflow's database, migrated once."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=120)
    return HOME / "airflow.db"
