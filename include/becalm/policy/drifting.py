"""The section `drift` of a policy: when it is looked, what is declared, and what may differ."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from becalm.policy.fields import FolderName, Schedule, Sentence, Shown, Word, refuse
from becalm.policy.section import Section


def _check_path(text: str) -> str:
    """Accept a path below a folder."""
    if not text or text.startswith("/") or "\0" in text or ".." in text.split("/") or not text.isprintable():
        raise refuse("this is no path within a repository", "write a path such as deploy/production, or . for all of it")
    return text


PathBelow = Annotated[str, Shown("path"), AfterValidator(_check_path)]


class Ignored(Section):
    """One thing that may differ."""

    kinds: tuple[Word, ...] = Field(default=(), description="Of which kinds: secrets, Deployment, deployments.apps. Of all, if left out.")
    names: tuple[Word, ...] = Field(default=(), description="Which objects, by name or namespace/name; * stands for anything.")
    fields_: tuple[Word, ...] = Field(
        default=(),
        alias="fields",
        description="Which fields, as the report writes them; * stands for anything. The whole object, if left out.",
    )
    because: Sentence = Field(description="Why it may differ.")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not (self.kinds or self.names or self.fields_):
            raise refuse("this would let everything differ", "name kinds, names or fields")
        return self


class DriftSource(Section):
    """Where manifests are declared."""

    repository: FolderName = Field(description="The name of a repository of `infrastructure`.")
    path: PathBelow = Field(default=".", description="The folder in it that is applied: manifests, or Kustomize.")


class Drift(Section):
    """Comparisons on a schedule of what is declared, what was saved and what runs."""

    schedule: Schedule = Field(description="When: a cron expression in the policy's time zone.")
    declared: tuple[DriftSource, ...] = Field(
        default=(), description="What is declared: folders of the repositories of `infrastructure`, at the revision in the last good point."
    )
    default_namespace: Word = Field(default="default", description="The namespace of declared objects that name none.")
    ignore: tuple[Ignored, ...] = Field(default=(), description="What may differ, and why, beside the rules that there are.")
