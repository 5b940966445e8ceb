"""The same verbs without Airflow: a restore must not need the orchestrator."""
