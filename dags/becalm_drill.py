"""The Airflow DAGs that prove recovery points: one for each policy with a section `drill`, and one by hand for any policy."""

from pathlib import Path

from becalm.airflow.drill import DRILL_ID, PREFIX, drill_dags
from becalm.airflow.loader import policies_folder, wanted

if wanted() is None or str(wanted()).startswith((DRILL_ID, PREFIX)):
    globals().update(drill_dags(policies_folder(beside=Path(__file__)), only=wanted()))
