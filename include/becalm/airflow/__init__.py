"""Becalm in Airflow: policies as DAGs, thin operators over the actions. The only package that imports Airflow."""
