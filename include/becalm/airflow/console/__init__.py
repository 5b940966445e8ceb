"""The console: pages over the catalog, in Airflow's navigation. It reads; it decides nothing and keeps nothing but a cache."""
