"""The Airflow DAG that looks every day for state that no policy covers, and for claims that do not hold."""

from pathlib import Path

from becalm.airflow.coverage import COVERAGE_ID, coverage_dag
from becalm.airflow.loader import policies_folder, wanted

if wanted() in (None, COVERAGE_ID):
    dag = coverage_dag(folder=policies_folder(beside=Path(__file__)))
