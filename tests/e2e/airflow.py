"""An Airflow on PostgreSQL, with connections as an operator of it would make them: for the end-to-end tests and the benchmarks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.sandbox.conductor import Conductor
from tests.e2e.database import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT = Path(__file__).parents[2]


def connections(given: Mapping[str, str], *, password: str) -> dict[str, str]:
    """Return the variables that make Airflow's connections to the cluster, the store and the repository."""
    store = {
        "conn_type": "aws",
        "login": given["AWS_ACCESS_KEY_ID"],
        "password": given["AWS_SECRET_ACCESS_KEY"],
        "extra": {
            "endpoint_url": given["AWS_ENDPOINT_URL"],
            "mover_endpoint_url": given["BECALM_MOVER_ENDPOINT_URL"],
            "region_name": "us-east-1",
        },
    }
    cluster = {"kube_config_path": given["KUBECONFIG"], "becalm_mover_image": given["BECALM_MOVER_IMAGE"]}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": cluster}),
        "AIRFLOW_CONN_BECALM_S3": json.dumps(store),
        "AIRFLOW_CONN_BECALM_REPOSITORY": json.dumps({"conn_type": "generic", "password": password}),
    }


@contextmanager
def running_airflow(home: Path, policies: Path, given: Mapping[str, str], *, password: str) -> Iterator[Conductor]:
    """Run it with its home and a folder of policies; it ends with the block."""
    environment = {**connections(given, password=password), "BECALM_POLICIES": str(policies)}
    with postgresql() as url:
        conductor = Conductor(home=home, dags=PROJECT / "dags", environment=environment, database_url=url)
        try:
            conductor.start()
            conductor.make_pools()
            yield conductor
        finally:
            conductor.stop()
