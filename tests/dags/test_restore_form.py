"""The form of Airflow's restore, the approval of its plan, and what is shown to who approves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from becalm.actions.restore_request import RestoreRequest
from becalm.actions.restore_steps import Action, RestorePlan, Step, VolumeAction, VolumeStep
from becalm.airflow import restore_form
from becalm.airflow.approval import ApproveOperator
from becalm.airflow.restore import MOST_SHOWN, places, restore_dag, shown
from becalm.errors import UsageError
from becalm.kube.diffing import FieldChange
from becalm.model import Finding, ResourceRef, VolumeRef
from becalm.testing.builders import a_policy

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_form_offers_every_field_of_a_restore_with_a_place_a_title_and_a_meaning() -> None:
    """A field that the request gains needs a row in the table; only what drills ask is not offered."""
    params = restore_form.params(["shop"])

    assert set(params) == set(RestoreRequest.model_fields) - restore_form.NOT_OFFERED | {"dry_run", "approval"}
    assert set(restore_form.PLACES) | restore_form.NOT_OFFERED >= set(RestoreRequest.model_fields)
    assert all(param.schema["section"] and param.schema["title"] and param.description for param in params.values())


def test_the_form_as_it_opens_asks_for_what_a_request_without_words_asks_for() -> None:
    """No default of the form is another than the request's own."""
    dag = restore_dag(["shop"], folder=Path("/policies"))

    assert restore_form.request_of(dict(dag.params), {}) == RestoreRequest.read({"policy": "shop"})


def test_words_that_nobody_knows_are_refused() -> None:
    """Airflow accepts them in silence; a drill's own fields are not for hands either."""
    for conf in ({"namespace": ["shop"]}, {"isolated": True}):
        with pytest.raises(UsageError, match="does not know"):
            restore_form.request_of({"policy": "shop"}, conf)


@pytest.mark.parametrize(
    ("environment", "demanded", "said", "asked"),
    [
        ("production", None, "policy", True),
        ("staging", None, "policy", True),
        ("test", None, "policy", False),
        ("test", None, "ask", True),
        ("production", "optional", "policy", True),
        ("production", "optional", "skip", False),
        ("production", "never", "policy", False),
        ("test", "required", "policy", True),
    ],
)
def test_who_asks_for_an_approval(environment: str, demanded: str | None, said: str, asked: bool) -> None:
    """Production always, unless its policy says otherwise; a test environment only where somebody wants it."""
    policy = a_policy(environment=environment, restore={"approval": demanded} if demanded else {})

    assert restore_form.asks(policy, said) is asked


@pytest.mark.parametrize("spec", [{}, {"environment": "test", "restore": {"approval": "required"}}])
def test_a_form_does_not_switch_off_what_a_policy_requires(spec: dict[str, Any]) -> None:
    """The refusal names the policy and what to write into it."""
    with pytest.raises(UsageError, match="requires an approval"):
        restore_form.asks(a_policy(**spec), "skip")


def a_step(name: str, action: Action = Action.CREATE, *, changes: tuple[FieldChange, ...] = ()) -> Step:
    ref = ResourceRef(group="", resource="secrets", namespace="shop", name=name)
    return Step(source=ref, target=ref, kind="Secret", version="v1", action=action, reason="it is not there", order=(6, 0), changes=changes)


def a_plan(*steps: Step, volumes: tuple[VolumeStep, ...] = ()) -> RestorePlan:
    return RestorePlan(
        policy="shop",
        point="0" * 64,
        tree="1" * 64,
        cut=NOON,
        consistency="crash-consistent",
        complete=False,
        steps=steps,
        volumes=volumes,
        findings=(Finding(where="x", message="is partial"),),
    )


def test_who_approves_sees_what_is_done_and_no_value() -> None:
    """Paths of what differs, sizes of volumes, what a person should know; what is long is cut, and says so."""
    changed = FieldChange(path="data.password", before="old-secret", after="new-secret")
    data = VolumeRef(namespace="shop", claim="data")
    volume = VolumeStep(volume=data, target=data, action=VolumeAction.FILL, reason="it is not there", size_bytes=7)
    text = shown(a_plan(a_step("tls", Action.KEEP, changes=(changed,)), a_step("new"), volumes=(volume,)))
    long = shown(a_plan(*(a_step(f"s{number}") for number in range(MOST_SHOWN + 50))))

    assert "1 to keep, 1 to create; 7 bytes of data" in text
    assert "    fill volumes/shop/data: it is not there (7 bytes)" in text
    assert "partial" in text
    assert "old-secret" not in text
    assert "new-secret" not in text
    assert "… and 51 more" in long


def test_what_a_recovery_point_says_stays_text_in_what_is_shown() -> None:
    """Each line is a line of code in Markdown, whatever is in a name or a reason."""
    text = shown(a_plan(a_step("evil\n# approve this")))

    assert "\n# approve" not in text


def test_the_places_of_a_restore_are_the_namespaces_it_writes_into() -> None:
    """What is kept or left out needs no turn."""
    assert places(a_plan(a_step("a"))) == {"shop"}
    assert places(a_plan(a_step("a", Action.KEEP))) == frozenset()


class Handing:
    """What a task instance gives of the tasks before it."""

    def __init__(self, **told: Any) -> None:
        self.told = {"acts": True, "asks": True, "approvers": ["anna"], "timeout_seconds": 60.0, "subject": "?", "digest": "d" * 64, **told}

    def xcom_pull(self, *, task_ids: str, key: str = "return_value", map_indexes: int = -1) -> Any:
        """Answer for the task plan."""
        return "the plan" if key == "shown" else self.told


def answered(option: str) -> dict[str, Any]:
    """An answer, as Airflow hands it over."""
    return {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": NOON,
        "responded_by_user": {"id": "7", "name": "anna"},
        "timedout": False,
    }


def an_approval() -> ApproveOperator:
    return ApproveOperator(task_id="approve", retries=2)


def test_an_approval_hands_on_who_when_and_what() -> None:
    """The digest is that of the plan that was shown: the tasks after it carry out no other."""
    said = an_approval().execute_complete({"ti": Handing()}, answered("Approve"))

    assert said == {"digest": "d" * 64, "approved_by": "anna (7)", "approved": NOON.isoformat()}


def test_a_rejected_plan_fails_for_good() -> None:
    """It is not asked again; the sentence says who rejected it."""
    with pytest.raises(AirflowFailException, match=r"anna \(7\) rejected the plan, and nothing was changed"):
        an_approval().execute_complete({"ti": Handing()}, answered("Reject"))


def test_a_plan_that_nobody_answered_fails_for_good() -> None:
    """Its time is over; nothing was changed."""
    late = {"error": "no answer", "error_type": "timeout"}
    with pytest.raises(AirflowFailException, match="nobody approved the plan in its time"):
        an_approval().execute_complete({"ti": Handing()}, late)


def test_nobody_is_asked_where_nothing_will_be_done_or_nobody_is_to_be_asked() -> None:
    """A dry run ends here; an approval that is switched off says so."""
    with pytest.raises(AirflowSkipException):
        an_approval().execute({"ti": Handing(acts=False)})

    assert an_approval().execute({"ti": Handing(asks=False)}) == {"digest": "d" * 64, "approved_by": "", "approved": None}


def test_a_person_is_asked_by_airflows_own_operator(supervisor: list[Any]) -> None:
    """With the plan as its body, for those whom the policy names, within the policy's time; no worker waits."""
    task = SimpleNamespace(id="0199a1b2-0000-7000-8000-000000000000")
    with pytest.raises(TaskAwaitingInput) as waiting:
        an_approval().execute({"ti": Handing(), "task_instance": task})

    (asked,) = supervisor
    assert (asked.subject, asked.body, [user.id for user in asked.assigned_users]) == ("?", "the plan", ["anna"])
    assert waiting.value.timeout.total_seconds() == 60


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The other end of a task's line to Airflow: it keeps what is sent."""
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415  (Airflow's own line, only for this test)

    sent: list[Any] = []

    class Line:
        def send(self, msg: Any) -> None:
            sent.append(msg)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Line(), raising=False)
    return sent
