"""The Airflow DAG that watches how old the last good recovery points are, for every policy of the folder."""

from pathlib import Path

from becalm.airflow.loader import policies_folder, wanted
from becalm.airflow.rpo import RPO_ID, rpo_dag

if wanted() in (None, RPO_ID):
    dag = rpo_dag(folder=policies_folder(beside=Path(__file__)))
