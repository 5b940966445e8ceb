"""The author's own rules for drift, from a file: what may differ, and why. All that is wrong with the file is said at once.

    ignore:
      - kinds: [Deployment]
        names: ["shop/web-*"]
        fields: ["spec.template.*.image"]
        because: the release robot sets it

It reads one file and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from becalm.actions.drift_rules import IgnoreRule
from becalm.errors import PolicyError, PolicyFinding
from becalm.policy import document, findings
from becalm.policy.drifting import Ignored  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class RulesFile(Section):
    """The file."""

    ignore: tuple[Ignored, ...] = Field(min_length=1, description="What may differ: a list.")


def read_rules(path: Path) -> tuple[IgnoreRule, ...]:
    """Read a file of rules. Raises PolicyError with every finding, also for a file that cannot be read."""
    try:
        if not path.is_file():
            raise _refused(path, [PolicyFinding(path="file", problem="there is no such file", remedy="name a file of rules")])
        with path.open("rb") as file:
            read = document.read(file.read(document.LARGEST_BYTES + 1))
        if read.findings:
            raise _refused(path, read.findings)
        rules = RulesFile.model_validate(read.value)
    except OSError as error:
        problem = PolicyFinding(path="file", problem=f"the file cannot be read: {error.strerror}", remedy="look at its name and rights")
        raise _refused(path, [problem]) from error
    except document.Unreadable as unreadable:
        raise _refused(path, [unreadable.finding]) from None
    except ValidationError as error:
        raise _refused(path, findings.findings(error.errors(include_url=False), read, RulesFile)) from None
    return as_rules(rules.ignore)


def as_rules(given: Iterable[Ignored]) -> tuple[IgnoreRule, ...]:
    """Return what a file or a policy says as rules."""
    return tuple(IgnoreRule(kinds=one.kinds, names=one.names, fields=one.fields_, because=one.because) for one in given)


def _refused(path: Path, found: list[PolicyFinding]) -> PolicyError:
    return PolicyError("the rules cannot be followed", where=str(path), findings=findings.readable(found))
