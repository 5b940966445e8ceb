"""One Airflow DAG for each protection policy in `policies/`, or in the folder that BECALM_POLICIES names."""

from pathlib import Path

from becalm.airflow.loader import policies_folder, policy_dags, wanted

globals().update(policy_dags(policies_folder(beside=Path(__file__)), only=wanted()))
