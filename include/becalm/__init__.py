"""Becalm: backup for applications on Kubernetes, conducted by Apache Airflow."""

__version__ = "0.1.0"
