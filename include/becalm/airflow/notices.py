"""Messages to people, by Airflow's notifiers: mail, Slack, webhook. A connection's type says which.

A message is sent as it is: nothing in it is rendered as a template, and where it becomes HTML it is escaped, for names in it are chosen by
others. No address of a webhook is ever in an error: it is a secret.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from becalm.airflow.connections import variable
from becalm.clock import SystemClock, format_time
from becalm.errors import BecalmError, NotFound, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from becalm.actions.watch import Message
    from becalm.policy.spec import ProtectionPolicy

NOTIFY = "BECALM_NOTIFY"
"""The variable of the environment with the connections that are told where a policy names none, with commas between them."""
WAIT_SECONDS = 20
TYPES = ("smtp", "slackwebhook", "http")


class WebhookNotifier(BaseNotifier):
    """Post a message as JSON: `text`, as chat systems read it, and the facts beside it."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, connection: Any, document: Mapping[str, Any]) -> None:
        """Take the connection that was read already: the notifier asks nobody."""
        super().__init__()
        self.connection = connection
        self.document = dict(document)

    def notify(self, context: Context) -> None:  # noqa: ARG002  (Airflow's signature)
        """Post it. Raises UsageError, StoreUnavailable."""
        name = f"connection {self.connection.conn_id}"
        headers = {"Content-Type": "application/json", "User-Agent": "becalm"}
        if self.connection.password:
            headers["Authorization"] = f"Bearer {self.connection.password}"
        request = urllib.request.Request(  # noqa: S310  (the address is checked below)
            _address(self.connection), data=json.dumps(self.document).encode(), headers=headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310  (as above)
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            raise StoreUnavailable(f"the webhook answered {error.code}", where=name) from None
        except OSError as error:
            raise StoreUnavailable(f"the webhook does not answer: {type(error).__name__}", where=name) from None

    async def async_notify(self, context: Context) -> None:
        """Post it from the triggerer."""
        await asyncio.to_thread(self.notify, context)


def recipients(policy: ProtectionPolicy | None) -> tuple[str, ...]:
    """Return the connections that are told of a policy: those that it names, else those of the environment."""
    named = policy.spec.alerts.notify if policy else ()
    return named or tuple(name.strip() for name in variable(NOTIFY).split(",") if name.strip())


def send(message: Message) -> dict[str, str]:
    """Send a message to everybody it is for; return the errors by connection. One that fails keeps it from no other."""
    failed: dict[str, str] = {}
    for name in message.to:
        try:
            notifier_for(read_connection(name), message).notify({})
        except BecalmError as error:
            failed[name] = str(error)
        except Exception as error:  # noqa: BLE001  (a provider's notifier raises what it likes, and its words may hold an address)
            failed[name] = f"{type(error).__name__}; see the connection {name}"
    return failed


def read_connection(name: str) -> Any:
    """Return a connection. Raises NotFound."""
    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        raise NotFound(
            "an alert names an Airflow connection that does not exist",
            where=f"connection {name}",
            hint="add it, or mend spec.alerts.notify",
        ) from None


def notifier_for(connection: Any, message: Message) -> BaseNotifier:
    """Return Airflow's notifier for a connection. Raises UsageError: the type, or a field, is missing."""
    kind, where = connection.conn_type, f"connection {connection.conn_id}"
    if kind == "smtp":
        return _mail(connection, message, where)
    if kind == "http":
        return WebhookNotifier(connection=connection, document=document(message))
    if kind == "slackwebhook":
        return _slack(connection, message, where)
    raise UsageError(f"a connection of type {kind!r} tells nobody", where=where, hint=f"use one of type {', '.join(TYPES)}")


def document(message: Message) -> dict[str, Any]:
    """Return a message for programs; chat systems read `text`."""
    return {
        "text": f"{message.subject}\n{message.text}",
        "policy": message.policy,
        "kind": message.kind.value,
        "state": "ended" if message.ended else "begun",
        "since": format_time(message.since),
    }


def _mail(connection: Any, message: Message, where: str) -> BaseNotifier:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    to = connection.extra_dejson.get("to")
    if not to:
        raise UsageError(
            "nobody is named to send mail to", where=where, hint='add {"to": "ops@example.org", "from_email": "…"} to its extra'
        )
    body = "<br>\n".join(escape(line) for line in message.text.splitlines())
    mail: BaseNotifier = SmtpNotifier(
        to=to,
        from_email=connection.extra_dejson.get("from_email") or connection.login,
        subject=message.subject.replace("\n", " "),
        html_content=f"<p>{body}</p>",
        smtp_conn_id=connection.conn_id,
    )
    return mail


def _slack(connection: Any, message: Message, where: str) -> BaseNotifier:
    try:
        made = import_module("airflow.providers.slack.notifications.slack_webhook").SlackWebhookNotifier  # an extra of Airflow
    except ImportError:
        hint = "install apache-airflow-providers-slack, or give the webhook as a connection of type http"
        raise UsageError("Airflow's provider for Slack is not installed", where=where, hint=hint) from None
    slack: BaseNotifier = made(slack_webhook_conn_id=connection.conn_id, text=f"{message.subject}\n{message.text}")
    return slack


def _address(connection: Any) -> str:
    """Return the address of a webhook. Raises UsageError."""
    host = str(connection.host or "")
    port = f":{connection.port}" if connection.port and "://" not in host else ""
    address = host if "://" in host else f"{connection.schema or 'https'}://{host}{port}"
    address = address.rstrip("/") + str(connection.extra_dejson.get("endpoint") or "")
    if not host or not address.startswith(("https://", "http://")):
        where = f"connection {connection.conn_id}"
        raise UsageError(
            "this is no address of a webhook", where=where, hint="host is https://… or a name; `endpoint` in extra is the path"
        )
    return address


async def deadline_missed(*, policy: str, seconds: float, notify: Sequence[str], context: Mapping[str, Any]) -> None:
    """Tell that a run takes longer than it may: Airflow's triggerer calls this when a deadline passes. A backfill has none."""
    run = dict(context.get("dag_run") or {})
    if str(run.get("run_type")) == "backfill":
        return
    message = late_message(
        policy, str(run.get("dag_run_id") or run.get("run_id") or "a run"), seconds, to=tuple(notify) or recipients(None)
    )
    failed: list[str] = []
    for name in message.to:
        try:
            connection = await Connection.async_get(name)
            await notifier_for(connection, message).async_notify({})
        except Exception as error:  # noqa: BLE001  (who cannot be told keeps nobody else from being told)
            failed.append(f"{name}: {type(error).__name__}")
    if failed:
        raise StoreUnavailable(f"a missed deadline was not told to {', '.join(failed)}")


def late_message(policy: str, run: str, seconds: float, *, to: tuple[str, ...]) -> Message:
    """Return the message for a run that did not succeed in its time."""
    from becalm.actions.watch import Message, TroubleKind  # noqa: PLC0415  (a parse imports this module, and no engine)

    minutes = f"{seconds / 60:.0f} minutes"
    return Message(
        policy=policy,
        kind=TroubleKind.RPO,
        ended=False,
        since=SystemClock().now(),
        subject=f"Becalm: {policy}: a run takes too long",
        text=(
            f"The run {run} has not succeeded within {minutes} of being queued.\n"
            f"At risk: the objective of policy {policy}, if no other run succeeds.\n"
            f"What to do: look at the run's tasks; a mover that is still at work needs only time.\n"
        ),
        to=to,
    )
