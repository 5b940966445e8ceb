"""The Airflow DAG that restores a recovery point, by a form."""

from pathlib import Path

from becalm.airflow.loader import policies_folder, policy_names, wanted
from becalm.airflow.restore import RESTORE_ID, restore_dag

if wanted() in (None, RESTORE_ID):
    dag = restore_dag(policy_names(policies_folder(beside=Path(__file__))), folder=policies_folder(beside=Path(__file__)))
