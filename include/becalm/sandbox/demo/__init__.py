"""The demo: a sample application is protected by an Airflow run, lost, restored, and compared to the byte."""
