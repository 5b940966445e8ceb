"""Airflow's plugins folder: the console comes from the installed package."""

from becalm.airflow.plugin import BecalmPlugin

__all__ = ["BecalmPlugin"]
