"""The Airflow DAG that thaws and removes what dead runs left, for every policy of the folder."""

from pathlib import Path

from becalm.airflow.loader import policies_folder, wanted
from becalm.airflow.reaper import REAPER_ID, reaper_dag

if wanted() in (None, REAPER_ID):
    dag = reaper_dag(folder=policies_folder(beside=Path(__file__)))
