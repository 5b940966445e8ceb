"""An Airflow that does not answer is an error with a name, wherever it was asked; and nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest

from becalm.errors import ClusterUnavailable
from becalm.sandbox.conductor import Conductor


def test_an_airflow_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """Logging in is the first thing that fails: nobody listens there."""
    airflow = Conductor(home=tmp_path / "airflow", dags=tmp_path)
    with pytest.raises(ClusterUnavailable, match="Airflow does not answer") as refused:
        airflow.request("GET", "/api/v2/dags")

    assert refused.value.where == f"{airflow.url}/api/v2/dags"
