"""Look after the objectives of one policy: read how it stands, send what is due, and remember what was sent.

A message counts as sent to whoever it reached; who was not reached is tried again at the next look. What was announced is remembered in the
bucket; only that the bucket cannot be read is remembered elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from becalm.actions.observe import observe
from becalm.actions.watch import Message, Trouble, TroubleKind, after, messages, troubles
from becalm.catalog import announced, epochs
from becalm.errors import BecalmError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from becalm.actions.objectives import PolicyStatus
    from becalm.catalog.announced import Announced
    from becalm.clock import Clock
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ETag, ObjectStore

ELSEWHERE = frozenset({TroubleKind.UNREACHABLE.value, TroubleKind.BROKEN.value})
"""Troubles of which the bucket cannot keep the memory."""


class Memory(Protocol):
    """Where it is remembered what was announced of a policy whose bucket cannot be read."""

    def load(self, policy: str) -> tuple[Announced, ...]:
        """Return what was announced."""

    def save(self, policy: str, found: tuple[Announced, ...]) -> None:
        """Remember what was announced; nothing forgets the policy."""


class Send(Protocol):
    """How a message leaves."""

    def __call__(self, message: Message) -> Mapping[str, str]:
        """Send it to everybody it is for; return the errors by connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look came to."""

    policy: str
    status: PolicyStatus | None = None
    sent: tuple[Message, ...] = ()
    errors: tuple[str, ...] = ()
    """Who could not be told, and why."""


def look(
    policy: ProtectionPolicy,
    reach: Callable[[], tuple[ObjectStore, str]],
    *,
    notify: Sequence[str],
    send: Send,
    elsewhere: Memory,
    clock: Clock,
) -> Looked:
    """Look after one policy. Never raises BecalmError for the policy's own trouble: that is what it tells."""
    opened: list[ObjectStore] = []

    def reached() -> tuple[ObjectStore, str]:
        store, password = reach()
        opened.append(store)
        return store, password

    found = observe(policy, reached, clock=clock)
    store = opened[0] if opened and found.reached else None
    errors: list[str] = []
    known: tuple[Announced, ...] = ()
    etag: ETag | None = None
    if store is not None:
        try:
            epochs.note(store, schedule=policy.spec.schedule, timezone=policy.spec.timezone, now=store.now())
            known, etag = announced.load(store)
        except BecalmError as error:
            errors.append(f"what was announced is not known: {error}")
    before = (*known, *elsewhere.load(policy.name))
    sent, left = _tell(policy.name, troubles(found), before, notify=notify, send=send, now=found.now)
    errors += [f"{message.kind} was not told to {name}: {why}" for message, failed in sent for name, why in failed.items()]
    try:
        _remember(policy.name, left, before, store=store, etag=etag, elsewhere=elsewhere)
    except BecalmError as error:
        errors.append(f"what was announced could not be written down: {error}")
    return Looked(policy=policy.name, status=found, sent=tuple(message for message, _ in sent), errors=tuple(errors))


def look_broken(name: str, trouble: Trouble | None, *, notify: Sequence[str], send: Send, elsewhere: Memory, now: datetime) -> Looked:
    """Tell that a policy's file cannot be followed, or can be again; then there is no policy to ask whom to tell."""
    before = tuple(one for one in elsewhere.load(name) if one.kind == TroubleKind.BROKEN)
    sent, left = _tell(name, (trouble,) if trouble else (), before, notify=notify, send=send, now=now)
    if left != before:
        elsewhere.save(name, left)
    errors = tuple(f"{message.kind} was not told to {who}: {why}" for message, failed in sent for who, why in failed.items())
    return Looked(policy=name, sent=tuple(message for message, _ in sent), errors=errors)


def _tell(
    policy: str, wrong: Sequence[Trouble], before: Sequence[Announced], *, notify: Sequence[str], send: Send, now: datetime
) -> tuple[list[tuple[Message, Mapping[str, str]]], tuple[Announced, ...]]:
    """Send what is due; return what was sent with its errors, and what is to be remembered."""
    sent = [(message, send(message)) for message in messages(policy, wrong, before, notify=notify, now=now)]
    return sent, after(wrong, before, sent)


def _remember(
    policy: str,
    left: Sequence[Announced],
    before: Sequence[Announced],
    *,
    store: ObjectStore | None,
    etag: ETag | None,
    elsewhere: Memory,
) -> None:
    """Write down what changed, each where it belongs."""

    def parted(found: Sequence[Announced]) -> tuple[tuple[Announced, ...], tuple[Announced, ...]]:
        away = tuple(one for one in found if one.kind in ELSEWHERE)
        return tuple(one for one in found if one.kind not in ELSEWHERE), away

    (here, away), (was_here, was_away) = parted(left), parted(before)
    if away != was_away:
        elsewhere.save(policy, away)
    if store is not None and here != was_here:
        announced.save(store, here, etag)
