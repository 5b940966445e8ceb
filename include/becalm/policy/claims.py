"""Claims that something needs no backup: files beside the policies, each with an owner, a reason and a date on which it runs out.

What a claim can say, and reading it with every error at once. Whether it is true is not decided here. Reading needs no cluster and no clock.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema

from becalm.errors import PolicyError, PolicyFinding
from becalm.policy import document, findings
from becalm.policy.fields import (
    Duration,
    LabelTexts,
    NamespacePattern,
    PolicyName,
    ResourcePattern,
    Sentence,
    Shown,
    Word,
    refuse,
)
from becalm.policy.problems import quoted
from becalm.policy.reading import file_bytes
from becalm.policy.section import Section

if TYPE_CHECKING:
    from pathlib import Path

KIND = "StatelessClaim"
REFUSED = "the claim cannot be read"
SUFFIXES = (".yaml", ".yml")
_SAYS_KIND = re.compile(rb"^kind:[ \t]*[\"']?StatelessClaim[\"']?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CONFIRMED = re.compile(r"""(\bconfirmed\s*:\s*)("[^"]*"|'[^']*'|[^\s#,}]+)""")


def _read_day(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise refuse("this is not a date", "write it as 2026-06-15")


Day = Annotated[
    date,
    Shown("date"),
    BeforeValidator(_read_day),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-06-15"]}),
]


class ClaimMetadata(Section):
    """Which claim this is."""

    name: PolicyName = Field(description="The claim's name: at most 40 lower-case letters, digits and `-`.")


class Scope(Section):
    """What the claim speaks of: what answers every key."""

    namespaces: Annotated[tuple[NamespacePattern, ...], Field(min_length=1)] = Field(
        description="Names of namespaces, or patterns with `*` and `?`."
    )
    labels: LabelTexts | None = Field(default=None, description="A label selector that the objects answer; a list means OR.")
    kinds: Annotated[tuple[ResourcePattern, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Patterns for kinds whose objects need no backup: `secrets`, `*.example.org`; `pods` means volumes of pods that are no claims. "
        "Without it the claim says that nothing in these namespaces keeps any state.",
    )


class ClaimSpec(Section):
    """What is claimed, why, by whom, and for how long."""

    scope: Scope = Field(description="What the claim speaks of.")
    reason: Sentence = Field(description="Why it needs no backup: a sentence that a reader will understand in a year.")
    owner: Word = Field(description="Who answers for it: a team, or an address.")
    confirmed: Day = Field(description="The day on which the owner last looked and found it true. `becalm claims confirm` writes it.")
    valid_for: Duration = Field(default=timedelta(days=90), description="How long a confirmation lasts; 90 days, if left out.")


class StatelessClaim(Section):
    """One claim: one file."""

    api_version: Literal["becalm.dev/v1"] = Field(description="Always `becalm.dev/v1`.")
    kind: Literal["StatelessClaim"] = Field(description="Always `StatelessClaim`.")
    metadata: ClaimMetadata = Field(description="Which claim this is.")
    spec: ClaimSpec = Field(description="What is claimed.")

    @property
    def name(self) -> str:
        """The claim's name."""
        return self.metadata.name

    @property
    def expires(self) -> date:
        """The first day on which it does not hold any more unless it is confirmed again."""
        return self.spec.confirmed + max(self.spec.valid_for, timedelta(days=1))


def load(text: str | bytes, *, source: str) -> StatelessClaim:
    """Read one claim; `source` names it in errors. Raises PolicyError with every finding."""
    try:
        read = document.read(text)
    except document.Unreadable as unreadable:
        raise _refused(source, [unreadable.finding]) from None
    kind = read.at(("kind",))
    if isinstance(kind, str) and kind != KIND:
        problem = findings.at_line(f"this is a {quoted(kind)}, not a claim", read.line(("kind",)))
        raise _refused(source, [PolicyFinding(path="kind", problem=problem, remedy=f"write {KIND}")])
    found = list(read.findings)
    try:
        claim = StatelessClaim.model_validate(read.value)
    except ValidationError as error:
        raise _refused(source, [*found, *findings.findings(error.errors(include_url=False), read, StatelessClaim)]) from None
    if found:
        raise _refused(source, found)
    return claim


def load_file(path: Path) -> StatelessClaim:
    """Read one claim from a file. Raises PolicyError, also for a file that cannot be read."""
    return load(file_bytes(path, what="claim", error=REFUSED), source=str(path))


def load_folder(path: Path) -> dict[Path, StatelessClaim | PolicyError]:
    """Read every claim of a folder, by file; files of other kinds are passed over. Raises PolicyError where the folder cannot be read.

    A bad file is a value. Two files with the same claim's name are both bad.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be used"
        finding = PolicyFinding(path="file", problem=f"the folder cannot be read: {reason}", remedy="name the folder with the claims")
        raise _refused(str(path), [finding]) from error
    return load_files([file for file in files if says_claim(file)])


def load_files(files: list[Path]) -> dict[Path, StatelessClaim | PolicyError]:
    """Read these files; a bad one, and one whose claim's name another file has as well, is a value."""
    found: dict[Path, StatelessClaim | PolicyError] = {}
    by_name: dict[str, list[Path]] = {}
    for file in files:
        try:
            claim = load_file(file)
            found[file] = claim
            by_name.setdefault(claim.name, []).append(file)
        except PolicyError as error:
            found[file] = error
    for name, same in by_name.items():
        for file in same if len(same) > 1 else []:
            others = ", ".join(other.name for other in same if other != file)
            problem = f"{quoted(name)} is also the name of the claim in {others}"
            found[file] = _refused(str(file), [PolicyFinding(path="metadata.name", problem=problem, remedy="give each claim its own name")])
    return found


def says_claim(path: Path) -> bool:
    """Say whether a file calls itself a claim, sound or not; one that cannot be read does not."""
    try:
        return bool(_SAYS_KIND.search(file_bytes(path, what="claim", error=REFUSED)))
    except PolicyError:
        return False


def confirmed_text(text: str, today: date, *, source: str) -> str:
    """Return a claim's text with `confirmed` set to a day, and every other character as it was. Pure. Raises PolicyError."""
    before = load(text, source=source)
    line = document.read(text).line(("spec", "confirmed")) or 1
    lines = text.splitlines(keepends=True)
    lines[line - 1], count = _CONFIRMED.subn(rf'\g<1>"{today.isoformat()}"', lines[line - 1], count=1)
    after = "".join(lines)
    wanted = before.model_copy(update={"spec": before.spec.model_copy(update={"confirmed": today})})
    if count and load(after, source=source) == wanted:
        return after
    finding = PolicyFinding(
        path="spec.confirmed",
        problem=f"the date cannot be replaced in the way it is written (line {line})",
        remedy=f'write confirmed: "{today.isoformat()}" by hand',
    )
    raise _refused(source, [finding])


def _refused(source: str, found: list[PolicyFinding]) -> PolicyError:
    return PolicyError(REFUSED, where=source, findings=findings.readable(found))
