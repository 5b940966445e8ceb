"""A policy that cannot be followed becomes a DAG that says so, and harms no other.

The DAG is called after the file. It fails once as soon as it appears, and again every hour until the file is mended or
gone: whatever watches failed runs hears of it, and whoever opens its page reads what to write instead.
"""

from __future__ import annotations

import re
from hashlib import sha256

from airflow.sdk import DAG, CronTriggerTimetable

from becalm.airflow.dag import manners
from becalm.airflow.operators import PolicyErrorOperator

PREFIX = "becalm_error_"
AT_MOST = 200
"""Characters of a file's name in the id of its DAG: Airflow's own limit is 250."""


def error_id(stem: str) -> str:
    """Return the id of the DAG for a broken file; two different names never share one."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:AT_MOST]
    return PREFIX + (safe if safe == stem else f"{safe}_{sha256(stem.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}")


def policy_error_dag(stem: str, error: Exception) -> DAG:
    """Return the DAG that shows what is wrong with a file. Anything may be in the text; it is shown as it is."""
    problem = str(error) or type(error).__name__
    with DAG(
        error_id(stem),
        description="This policy cannot be followed: nothing is protected by it",
        doc_md=f"### The policy {_quoted(stem)} cannot be followed\n\nNothing is protected by it. What is wrong:\n\n{_as_code(problem)}\n",
        schedule=CronTriggerTimetable("0 * * * *", timezone="UTC", run_immediately=True),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["becalm", "invalid"],
    ) as dag:
        PolicyErrorOperator(task_id="check", problem=problem, **manners("check"))
    return dag


def _quoted(stem: str) -> str:
    return re.sub(r"[^\w .-]", "?", stem, flags=re.ASCII)


def _as_code(text: str) -> str:
    """Return text as a code block of Markdown, by indentation: nothing in it can end the block."""
    printable = text.encode("utf-8", "replace").decode("utf-8")
    return "\n".join(f"    {line}" for line in printable.splitlines())
