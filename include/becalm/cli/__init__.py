"""The same verbs without Airflow: a restore must not need the orchestrator."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line. Everything heavy is imported here, so that importing the package costs nothing."""
    # numpy's linear algebra starts a thread for each processor when it is loaded, and they spin; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  (the edge; workers inherit it)
    from becalm.cli.app import run  # noqa: PLC0415

    run()
