"""Calls of the cluster in memory, as they are remembered, and the faults that may strike them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from becalm.errors import BecalmError


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the port."""

    verb: str
    """discover, list, get, create, update, merge, apply, force-apply, delete, watch, exec or logs."""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    revision: str = ""
    command: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Fault:
    """Raise an error for the calls it matches; empty fields match all."""

    error: BecalmError
    verb: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    times: int = -1
    """How often; less than zero is always."""
    after: int = 0
    """How many matching calls pass first; for `list` with `in_the_middle` see there."""
    in_the_middle: bool = False
    """Of a list: after the first object was yielded."""

    def meets(self, call: Call) -> bool:
        """Say whether the fault strikes this call, and count it."""
        wanted = ((self.verb, call.verb), (self.kind, call.kind), (self.namespace, call.namespace), (self.name, call.name))
        if self.times == 0 or any(mine and mine != theirs for mine, theirs in wanted):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True
