"""The Airflow DAGs that compare what runs with what was saved and declared: one for each policy with a section `drift`, and one by hand."""

from pathlib import Path

from becalm.airflow.drift import DRIFT_ID, PREFIX, drift_dags
from becalm.airflow.loader import policies_folder, wanted

if wanted() is None or str(wanted()).startswith((DRIFT_ID, PREFIX)):
    globals().update(drift_dags(policies_folder(beside=Path(__file__)), only=wanted()))
