"""The watch over the objectives in Airflow: its DAG, and how its messages leave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.definitions.deadline import DeadlineReference

from becalm.actions.watch import Message, TroubleKind
from becalm.airflow.dag import policy_dag
from becalm.airflow.links import PointLink, point_address
from becalm.airflow.notices import WebhookNotifier, late_message, notifier_for, recipients, send
from becalm.airflow.rpo import RPO_ID, rpo_dag
from becalm.errors import StoreUnavailable, UsageError
from becalm.testing.builders import NOON, a_policy


@dataclass
class Hook:
    """A webhook on this machine, and what it was given."""

    port: int = 0
    status: int = 200
    given: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.given.append((self.path, self.headers["Authorization"], body))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def a_message(*to: str, text: str = "It is too old.\n") -> Message:
    return Message(policy="shop", kind=TroubleKind.RPO, ended=False, since=NOON, subject="Becalm: shop: too old", text=text, to=to)


def a_connection(hook: Hook, **rest: Any) -> Connection:
    facts = {"conn_id": "chat", "conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": hook.port}
    return Connection(**(facts | rest))


def test_the_watch_runs_every_five_minutes_and_starts_unpaused() -> None:
    """Nobody thinks of it before it is needed; a second try would only hold up the next look."""
    dag = rpo_dag(folder=Path("/policies"))
    task = dag.get_task("watch")

    assert (dag.dag_id, dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (RPO_ID, False, 1, False)
    assert (task.retries, task.pool, task.owner) == (0, "becalm_thaw", "becalm")


def test_a_webhook_is_given_the_text_and_the_facts(hook: Hook) -> None:
    """With the connection's token, at its own path; nothing in the text is a template."""
    connection = a_connection(hook, password="token", extra=json.dumps({"endpoint": "/hooks/1"}))
    notifier_for(connection, a_message(text="{{ 7 * 7 }}\n")).notify({})
    ((path, authorization, body),) = hook.given

    assert (path, authorization) == ("/hooks/1", "Bearer token")
    assert body["text"] == "Becalm: shop: too old\n{{ 7 * 7 }}\n"
    assert (body["policy"], body["kind"], body["state"], body["since"]) == ("shop", "rpo", "begun", "2026-06-15T12:00:00Z")


def test_the_triggerer_tells_the_same(hook: Hook) -> None:
    """A deadline is told from there."""
    notifier = WebhookNotifier(connection=a_connection(hook), document={"text": "x"})
    asyncio.run(notifier.async_notify({}))

    assert hook.given[0][2] == {"text": "x"}


def test_a_webhook_that_refuses_is_named_and_its_address_is_not(hook: Hook) -> None:
    """Its address is a secret."""
    hook.status = 403
    with pytest.raises(StoreUnavailable) as refused:
        notifier_for(a_connection(hook, extra=json.dumps({"endpoint": "/hooks/secret"})), a_message()).notify({})

    assert str(refused.value) == "connection chat: the webhook answered 403"


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({"conn_type": "aws"}, "tells nobody"),
        ({"conn_type": "smtp"}, "nobody is named"),
        ({"conn_type": "slackwebhook"}, "not installed"),
        ({"conn_type": "http", "host": "file:///etc/passwd"}, "no address of a webhook"),
        ({"conn_type": "http"}, "no address of a webhook"),
    ],
)
def test_a_connection_that_tells_nobody_says_what_it_lacks(connection: dict[str, Any], words: str) -> None:
    """By the connection's name."""
    with pytest.raises(UsageError, match=words) as refused:
        notifier_for(Connection(conn_id="chat", **connection), a_message()).notify({})

    assert refused.value.where == "connection chat"


def test_one_that_cannot_be_told_keeps_it_from_no_other(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors are by connection."""
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", json.dumps({"conn_type": "http", "host": f"http://127.0.0.1:{hook.port}"}))
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "http"}))
    failed = send(a_message("broken", "chat"))

    assert list(failed) == ["broken"]
    assert len(hook.given) == 1


def test_a_policy_names_who_is_told_else_the_environment_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With commas between them."""
    monkeypatch.setenv("BECALM_NOTIFY", "mail, chat")

    assert recipients(a_policy()) == ("mail", "chat")
    assert recipients(a_policy(alerts={"notify": ["own"]})) == ("own",)


def test_a_run_has_as_long_as_the_objective_from_the_moment_it_is_queued() -> None:
    """Whoever started it; the policy may say another time, and without either there is no deadline."""
    file = Path("/policies/shop.yaml")
    (deadline,) = policy_dag(a_policy(objectives={"rpo": "2h"}, alerts={"notify": ["mail"]}), file=file).deadline
    (other,) = policy_dag(a_policy(objectives={"rpo": "2h"}, alerts={"deadline": "30m"}), file=file).deadline

    assert deadline.reference == DeadlineReference.DAGRUN_QUEUED_AT
    assert (deadline.interval.total_seconds(), other.interval.total_seconds()) == (7200, 1800)
    assert deadline.callback.kwargs == {"policy": "shop", "seconds": 7200.0, "notify": ["mail"]}
    assert not policy_dag(a_policy(), file=file).deadline


def test_a_late_run_is_told_with_its_name_and_its_time() -> None:
    """And what to look at."""
    message = late_message("shop", "manual__1", 1800, to=("mail",))

    assert "The run manual__1 has not succeeded within 30 minutes" in message.text
    assert message.to == ("mail",)


def test_a_task_leads_to_its_recovery_point() -> None:
    """One that wrote none leads to the policy's list."""

    class Task:
        policy_name, point = "shop", "ab" * 32

    assert PointLink().get_link(Task(), ti_key=None) == f"/becalm/policies/shop/points/{'ab' * 32}"  # type: ignore[arg-type]
    assert point_address("shop", "") == "/becalm/policies/shop/points"
