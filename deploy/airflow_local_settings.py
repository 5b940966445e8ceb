"""Airflow imports this at the start of every process: it belongs into $AIRFLOW_HOME/config. Tasks start faster with it."""  # noqa: INP001  (no package: Airflow finds it by its name)

import sys

from becalm.airflow.warm import warm

warm(sys.argv)
