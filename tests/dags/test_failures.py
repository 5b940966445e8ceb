"""Errors, retries, the form of a run, and the pools: what Airflow is told."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from becalm import errors
from becalm.actions.asked import Asked
from becalm.actions.handover import Trigger
from becalm.airflow.failures import airflow_failures, demand_moved, pod_failures
from becalm.airflow.form import params, read_form, trigger_of
from becalm.airflow.retries import RETRY_POLICY
from becalm.airflow.setup import POOLS, ensure_pools
from becalm.errors import BecalmError, MoverFailed, PermanentError, UsageError
from becalm.model import MoverResult, VolumeRef

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def every_class(root: type[BecalmError] = BecalmError) -> list[type[BecalmError]]:
    return [cls for child in root.__subclasses__() for cls in (child, *every_class(child))]


def test_every_error_has_one_fate() -> None:
    """What may pass is tried again; everything else fails the task at once, by the operator and by the retry policy alike."""
    for cls in every_class():
        error = cls("something is wrong", where="somewhere", hint="mend it")
        passing = issubclass(cls, errors.TransientError)

        with pytest.raises(cls if passing else AirflowFailException), airflow_failures():
            raise error
        decision = RETRY_POLICY.evaluate(error, 1, 3)
        assert decision.action is (RetryAction.RETRY if passing else RetryAction.FAIL)


def test_a_failed_task_says_code_place_and_remedy_in_one_sentence() -> None:
    """It is all that a person sees first."""
    with pytest.raises(AirflowFailException) as failed, airflow_failures():
        raise errors.AccessDenied("the key is refused", where="s3://backups", hint="renew it")

    assert str(failed.value) == "[access-denied] s3://backups: the key is refused (renew it)"


def test_a_wait_that_the_other_side_names_is_kept() -> None:
    """It wins over our own delay. A lease is looked at each minute, for as long as there are tries; nothing else is tried so often."""
    named = RETRY_POLICY.evaluate(errors.Throttled("slow down", delay_seconds=7), 1, 3)
    held = RETRY_POLICY.evaluate(errors.LeaseHeld("held"), 1, 3)
    plain = RETRY_POLICY.evaluate(errors.ClusterUnavailable("away"), 1, 3)

    waits = [RETRY_POLICY.evaluate(errors.LeaseHeld("held", delay_seconds=900), tries, 120) for tries in (1, 100)]
    often = RETRY_POLICY.evaluate(errors.ClusterUnavailable("away"), 7, 120)

    assert [(wait.action, wait.retry_delay) for wait in waits] == [(RetryAction.RETRY, timedelta(minutes=1))] * 2
    assert often.action is RetryAction.FAIL
    assert (named.retry_delay, held.retry_delay, plain.retry_delay) == (timedelta(seconds=7), timedelta(minutes=1), None)


def test_a_deferral_is_no_failure() -> None:
    """It passes through every mapping."""

    class Waiting:
        pass

    with pytest.raises(TaskDeferred), airflow_failures(), pod_failures("shop/data"):
        raise TaskDeferred(trigger=Waiting(), method_name="trigger_reentry")


class ApiError(Exception):
    """What the Kubernetes client raises: it has a status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"({status})\nReason: long story")
        self.status = status


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (AirflowException("Pod x returned a failure.\nremote_pod: …"), errors.MoverFailed),
        (ApiError(403), errors.AccessDenied),
        (ApiError(401), errors.AccessDenied),
        (ApiError(500), errors.ClusterUnavailable),
        (ConnectionResetError("reset"), errors.ClusterUnavailable),
        (errors.StoreFull("full"), errors.StoreFull),
    ],
)
def test_what_the_provider_raises_becomes_ours(raised: Exception, becomes: type[BecalmError]) -> None:
    """Foreign exceptions stop here, with the volume's name."""
    with pytest.raises(becomes) as met, pod_failures("shop/data"):
        raise raised

    assert type(met.value) is becomes
    assert "\n" not in met.value.message


def test_a_bug_of_ours_is_not_renamed() -> None:
    """A KeyError is no outage of the cluster."""
    with pytest.raises(KeyError), pod_failures("shop/data"):
        raise KeyError("bug")


def a_result(error: str = "") -> MoverResult:
    return MoverResult(name="m", run="r", volume=VolumeRef(namespace="shop", claim="data"), tree="" if error else "t", error=error)


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        ("store-full: the bucket is full", errors.StoreFull),
        ("lease-lost: another run works", errors.LeaseLost),
        ("store-unavailable: no answer", errors.StoreUnavailable),
        ("mover-failed: the mover left no result", errors.MoverFailed),
        ("words without a code", errors.MoverFailed),
    ],
)
def test_a_movers_own_error_decides_what_follows(error: str, becomes: type[BecalmError]) -> None:
    """Its code is the code of our tree: a full bucket is not tried again, an outage is."""
    with pytest.raises(becomes) as raised:
        demand_moved(a_result(error), pod=MoverFailed("the mover's pod failed: it returned a failure"))

    assert type(raised.value) is becomes


def test_a_pod_that_failed_is_never_a_success() -> None:
    """Not even with the good result of an earlier try in the bucket."""
    with pytest.raises(MoverFailed, match="killed"):
        demand_moved(a_result(), pod=MoverFailed("the mover's pod failed: killed"))


def test_a_good_result_is_returned() -> None:
    """A tree and no error: done."""
    assert demand_moved(a_result()) == a_result()


@pytest.mark.parametrize(
    ("conf", "given", "answer"),
    [
        ({}, {}, (None, Asked())),
        ({"note": "why"}, {"note": "why", "slot": None}, (None, Asked(note="why"))),
        ({"slot": "2026-01-31T11:00:00Z"}, {"note": "", "slot": "2026-01-31T11:00:00Z"}, (NOON - timedelta(hours=1), Asked())),
        ({"slot": "2026-01-31T13:00:00+01:00"}, {"slot": "2026-01-31T13:00:00+01:00"}, (NOON, Asked())),
        (
            {"label": "v2"},
            {"label": "v2", "pin_days": 7, "namespaces": ["shop", "shop"], "quiesce": False},
            (None, Asked(label="v2", pin_days=7, namespaces=("shop",), quiesce=False)),
        ),
    ],
)
def test_the_form_is_read(conf: dict[str, Any], given: dict[str, Any], answer: tuple[datetime | None, Asked]) -> None:
    """Every field may be left out."""
    assert read_form(conf, given, NOON) == answer


@pytest.mark.parametrize(
    ("conf", "given", "words"),
    [
        ({"slott": "x", "notes": "y"}, {}, "'notes', 'slott'"),
        ({"slot": "yesterday"}, {"slot": "yesterday"}, "is no time"),
        ({"slot": "2026-01-31T12:00:01Z"}, {"slot": "2026-01-31T12:00:01Z"}, "in the future"),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused(conf: dict[str, Any], given: dict[str, Any], words: str) -> None:
    """Unknown words, nonsense, and a slot that is not due."""
    with pytest.raises(UsageError, match=words):
        read_form(conf, given, NOON)


def test_a_note_has_an_end() -> None:
    """Airflow itself refuses what is longer."""
    assert params()["note"].schema["maxLength"] == 1000


@pytest.mark.parametrize(
    ("said", "meant"), [("scheduled", "scheduled"), ("backfill", "backfill"), ("manual", "manual"), ("operator_triggered", "manual")]
)
def test_what_started_a_run_is_kept(said: str, meant: str) -> None:
    """What Airflow may add one day answers no slot."""
    assert trigger_of(said) is Trigger(meant)


AIRFLOW = """\
import json, pathlib, sys
state = pathlib.Path(sys.argv[1])
if not state.exists():
    sys.exit("no such table: slot_pool")
pools = json.loads(state.read_text())
if sys.argv[2:4] == ["pools", "export"]:
    pathlib.Path(sys.argv[4]).write_text(json.dumps(pools))
    print("[info] a line of the log")
elif sys.argv[2:4] == ["pools", "import"]:
    state.write_text(json.dumps({**pools, **json.loads(pathlib.Path(sys.argv[4]).read_text())}))
"""


@pytest.fixture
def airflow(tmp_path: Path) -> tuple[str, ...]:
    """A command that keeps pools in a file as Airflow keeps them in its database."""
    script = tmp_path / "airflow.py"
    script.write_text(AIRFLOW)
    return (sys.executable, str(script), str(tmp_path / "pools.json"))


def test_missing_pools_are_made_and_others_keep_their_size(airflow: tuple[str, ...], tmp_path: Path) -> None:
    """An administrator's size survives an update, and a second time does nothing."""
    state = tmp_path / "pools.json"
    state.write_text(json.dumps({"default_pool": {"slots": 128}, "becalm_movers": {"slots": 40}}))
    first, second = ensure_pools(airflow), ensure_pools(airflow)
    pools = json.loads(state.read_text())

    assert (set(first), second) == ({"becalm", "becalm_thaw"}, ())
    assert pools["becalm_movers"] == {"slots": 40}
    assert pools["becalm_thaw"] == POOLS["becalm_thaw"]


def test_a_database_that_is_not_migrated_is_named(airflow: tuple[str, ...]) -> None:
    """One sentence, with the remedy."""
    with pytest.raises(PermanentError, match="no such table") as failed:
        ensure_pools(airflow)

    assert "db migrate" in failed.value.hint


def test_a_mover_counts_as_long_as_its_pod_lives() -> None:
    """Its slot is held while the task waits outside a worker: otherwise nothing would limit the pods."""
    assert POOLS["becalm_movers"]["include_deferred"] is True
