"""The same verbs without Airflow: a restore must not need the orchestrator."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Everything heavy is imported here, so that importing the package costs nothing."""
    from becalm.cli.app import run  # noqa: PLC0415

    run()
