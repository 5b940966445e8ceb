"""What a person asks of one run by hand: a note, a label, a pin for some days, only these namespaces, no quiesce. Read and checked here.

The form in Airflow, its REST API and `becalm run` say the same words and meet the same checks. A run of only some namespaces makes a
point that can be restored, and that stands for nothing else: it is never the last good one, and answers no slot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from becalm.errors import UsageError
from becalm.policy import globs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from becalm.actions.handover import Begun
    from becalm.policy.spec import ProtectionPolicy

LONGEST_NOTE = 1000
MOST_PIN_DAYS = 3650
MOST_NAMESPACES = 200
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
NAMESPACE = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked, checked."""

    note: str = ""
    label: str = ""
    """A word by which the recovery point is found again."""
    pin_days: int = 0
    """Retention leaves the point alone for so many days; nothing is no pin."""
    namespaces: tuple[str, ...] = ()
    """Only these of the policy's; none means all."""
    quiesce: bool = True
    """False: nothing is frozen, and the point is crash-consistent."""


NOTHING_ASKED = Asked()


def read(given: Mapping[str, Any], *, slot: datetime | None = None) -> Asked:
    """Check what was given, by the names of the fields. Raises UsageError, with the field and what to write."""
    asked = Asked(
        note=_text(given.get("note"), "note", longest=LONGEST_NOTE),
        label=_text(given.get("label"), "label", longest=63),
        pin_days=_pin_days(given.get("pin_days")),
        namespaces=_namespaces(given.get("namespaces")),
        quiesce=_yes(given.get("quiesce")),
    )
    if asked.label and not re.fullmatch(LABEL, asked.label, re.ASCII):
        raise UsageError(f"{_shown(asked.label)} cannot be a label", where="label", hint="write letters, digits, '.', '_' and '-'")
    if asked.namespaces and slot is not None:
        raise UsageError(
            "a run of only some namespaces cannot answer a slot", where="namespaces", hint="leave out the slot, or the namespaces"
        )
    return asked


def followed(policy: ProtectionPolicy, begun: Begun) -> ProtectionPolicy:
    """Return the policy as a run follows it for its selection and its hooks. Pure. Raises UsageError for a namespace it does not protect.

    Only what is captured may differ: target, retention and lock are always the policy's own.
    """
    spec = policy.spec
    if begun.namespaces:
        demand_protected(policy, begun.namespaces)
        spec = spec.model_copy(update={"select": spec.select.model_copy(update={"namespaces": begun.namespaces})})
    if not begun.quiesce:
        spec = spec.model_copy(update={"quiesce": spec.quiesce.model_copy(update={"hooks": (), "annotations": ()})})
    return policy if spec is policy.spec else policy.model_copy(update={"spec": spec})


def demand_protected(policy: ProtectionPolicy, namespaces: tuple[str, ...]) -> None:
    """Raise UsageError for a namespace that the policy does not select."""
    patterns = policy.spec.select.namespaces
    strange = [name for name in namespaces if not any(globs.matches(pattern, name) for pattern in patterns)]
    if strange:
        raise UsageError(
            f"the policy {policy.name} does not protect {', '.join(strange)}",
            where="namespaces",
            hint=f"it protects {', '.join(patterns)}",
        )


def _text(given: object, where: str, *, longest: int) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise UsageError("this is no text", where=where, hint="write it in quotes")
    if len(given) > longest:
        raise UsageError(f"this has {len(given)} characters, and {longest} at most may be", where=where, hint="say it shorter")
    if any(not (letter.isprintable() or letter in "\n\t") for letter in given):
        raise UsageError("this has characters that cannot be printed", where=where, hint="write plain text")
    return given


def _pin_days(given: object) -> int:
    if given in (None, "", 0):
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given <= MOST_PIN_DAYS:
        raise UsageError(
            f"{_shown(given)} is no number of days to pin for", where="pin_days", hint=f"write a number from 1 to {MOST_PIN_DAYS}, or 0"
        )
    return given


def _namespaces(given: object) -> tuple[str, ...]:
    if given in (None, ""):
        return ()
    if isinstance(given, str) or not isinstance(given, (list, tuple)):
        raise UsageError("these are no namespaces", where="namespaces", hint='write a list of names: ["shop", "blog"]')
    for name in given:
        if not (isinstance(name, str) and re.fullmatch(NAMESPACE, name, re.ASCII)):
            raise UsageError(
                f"{_shown(name)} is no name of a namespace", where="namespaces", hint="write names without patterns; leave it empty for all"
            )
    if len(given) > MOST_NAMESPACES:
        raise UsageError(f"{len(given)} namespaces are too many", where="namespaces", hint="leave it empty for all")
    return tuple(dict.fromkeys(given))


def _yes(given: object) -> bool:
    if given is None:
        return True
    if not isinstance(given, bool):
        raise UsageError(f"{_shown(given)} is neither true nor false", where="quiesce", hint="write true or false")
    return given


def _shown(value: object) -> str:
    """Return what was given as a message may show it: short, printable, on one line."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 60 else text[:59] + "…"
    return '"' + "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text) + '"'
