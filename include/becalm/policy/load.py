"""From a file to a policy, or to everything that is wrong with it at once.

It reads files and nothing else: no cluster, no bucket, no clock. What it returns needs no further checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from becalm.errors import PolicyError, PolicyFinding
from becalm.policy import document, findings
from becalm.policy.claims import says_claim
from becalm.policy.problems import quoted
from becalm.policy.reading import file_bytes
from becalm.policy.sample import SAMPLE
from becalm.policy.spec import ProtectionPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REFUSED = "the policy cannot be followed"
SUFFIXES = (".yaml", ".yml")
NO_POLICIES = frozenset({"environments.yaml"})
"""Files beside policies that say something else (`environments`)."""


def load(text: str | bytes, *, source: str) -> ProtectionPolicy:
    """Read one policy; `source` names it in errors. Raises PolicyError with every finding."""
    try:
        read = document.read(text)
    except document.Unreadable as unreadable:
        raise _refused(source, [unreadable.finding]) from None
    found = list(read.findings) or _other_kind(read)
    if found and not read.findings:
        raise _refused(source, found)
    try:
        policy = ProtectionPolicy.model_validate(read.value)
    except ValidationError as error:
        found += findings.findings(error.errors(include_url=False), read, ProtectionPolicy)
        raise _refused(source, found) from None
    if found:
        raise _refused(source, found)
    return policy


def load_file(path: Path) -> ProtectionPolicy:
    """Read one policy from a file. Raises PolicyError, also for a file that cannot be read."""
    return load(file_bytes(path, what="policy", error=REFUSED), source=str(path))


def load_folder(path: Path) -> dict[Path, ProtectionPolicy | PolicyError]:
    """Read every policy of a folder, by file. A bad file is a value, and harms no other. Raises PolicyError where the folder cannot be read.

    Files whose name begins with a dot are passed over, and so are claims (`claims`). Two files with the same policy name are both bad.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and _may_be_policy(file.name))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be used"
        finding = PolicyFinding(path="file", problem=f"the folder cannot be read: {reason}", remedy="name the folder with the policies")
        raise _refused(str(path), [finding]) from error
    found = load_files(files)
    return {file: answer for file, answer in found.items() if not (isinstance(answer, PolicyError) and says_claim(file))}


def _may_be_policy(name: str) -> bool:
    return not name.startswith(".") and name not in NO_POLICIES


def load_files(files: list[Path]) -> dict[Path, ProtectionPolicy | PolicyError]:
    """Read these files; a bad one, and one whose policy's name another file has as well, is a value."""
    found: dict[Path, ProtectionPolicy | PolicyError] = {}
    for file in files:
        try:
            found[file] = load_file(file)
        except PolicyError as error:
            found[file] = error
    return {**found, **dict(_doubled(found))}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ProtectionPolicy.model_json_schema(by_alias=True)}


def sample() -> str:
    """Return a policy to begin with, with comments. It loads."""
    return SAMPLE


def _refused(source: str, found: list[PolicyFinding]) -> PolicyError:
    return PolicyError(REFUSED, where=source, findings=findings.readable(found))


def _other_kind(read: document.Document) -> list[PolicyFinding]:
    """A document of another kind gets one finding, not fifty."""
    kind = read.at(("kind",))
    if not isinstance(kind, str) or kind == "ProtectionPolicy":
        return []
    problem = findings.at_line(f"this is a {quoted(kind)}, not a policy", read.line(("kind",)))
    return [PolicyFinding(path="kind", problem=problem, remedy="write ProtectionPolicy")]


def _doubled(found: Mapping[Path, ProtectionPolicy | PolicyError]) -> Iterator[tuple[Path, PolicyError]]:
    by_name: dict[str, list[Path]] = {}
    for file, policy in found.items():
        if isinstance(policy, ProtectionPolicy):
            by_name.setdefault(policy.name, []).append(file)
    for name, files in by_name.items():
        for file in files if len(files) > 1 else []:
            others = ", ".join(other.name for other in files if other != file)
            finding = PolicyFinding(
                path="metadata.name",
                problem=f"{quoted(name)} is also the name of the policy in {others}",
                remedy="give each policy its own name",
            )
            yield file, _refused(str(file), [finding])
