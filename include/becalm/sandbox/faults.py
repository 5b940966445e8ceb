"""Trouble on request: what `POST /sandbox/faults` asked for, of the storage and of the API. Holds it, never acts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from becalm.sandbox.answers import bad_request

if TYPE_CHECKING:
    from becalm.model import Manifest


@dataclass(slots=True, kw_only=True)
class RequestFault:
    """Trouble for requests whose `METHOD /path?query` matches."""

    match: re.Pattern[str]
    status: int = 0
    """Answer with this code; 0: no answer of its own."""
    times: int = 1
    delay_seconds: float = 0
    drop: str = ""
    """`before`: the connection ends and nothing was done. `after`: it was done, and the reply is lost."""
    retry_after: str = ""


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong now. The names are those of the real test cluster's storage."""

    cut_seconds: float = 0
    ready_seconds: float = 0
    fail_snapshots: int = 0
    fail_volumes: int = 0
    hang_snapshots: bool = False
    requests: list[RequestFault] = field(default_factory=list)

    def replace(self, document: Any) -> None:
        """Ask for other trouble; whatever is not named ends. Raises: ApiError (400)."""
        if not isinstance(document, dict):
            raise bad_request("faults are an object")
        unknown = document.keys() - {"cut_seconds", "ready_seconds", "fail_snapshots", "fail_volumes", "hang_snapshots", "requests"}
        if unknown:
            raise bad_request(f"no such fault: {', '.join(sorted(unknown))}")
        try:
            requests = [RequestFault(**{**entry, "match": re.compile(entry["match"])}) for entry in document.get("requests") or ()]
        except (TypeError, KeyError, re.error) as exc:
            raise bad_request(f"requests: {exc}") from exc
        self.cut_seconds = float(document.get("cut_seconds", 0))
        self.ready_seconds = float(document.get("ready_seconds", 0))
        self.fail_snapshots = int(document.get("fail_snapshots", 0))
        self.fail_volumes = int(document.get("fail_volumes", 0))
        self.hang_snapshots = bool(document.get("hang_snapshots", False))
        self.requests = requests

    def snapshot_fails(self) -> bool:
        """Count one snapshot; say whether it must fail."""
        self.fail_snapshots -= 1
        return self.fail_snapshots >= 0

    def volume_fails(self) -> bool:
        """Count one volume; say whether it must fail."""
        self.fail_volumes -= 1
        return self.fail_volumes >= 0

    def of_request(self, line: str) -> RequestFault | None:
        """Count one request; return the trouble that it meets."""
        for fault in self.requests:
            if fault.times > 0 and fault.match.search(line):
                fault.times -= 1
                return fault
        return None

    def document(self) -> Manifest:
        """Return what is asked for now."""
        return {
            "cut_seconds": self.cut_seconds,
            "ready_seconds": self.ready_seconds,
            "fail_snapshots": max(self.fail_snapshots, 0),
            "fail_volumes": max(self.fail_volumes, 0),
            "hang_snapshots": self.hang_snapshots,
            "requests": [{"match": fault.match.pattern, "status": fault.status, "times": fault.times} for fault in self.requests],
        }
