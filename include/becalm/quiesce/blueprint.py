"""A blueprint: what Becalm knows of one kind of application. Its recipe says by which commands that is stilled, and what is kept of it.

Recipes are pure: lists of arguments with small POSIX shell scripts in them. No text of a user ever becomes part of a script: parameters travel
as arguments or in the environment. Who runs a recipe, where, and what its answers come to is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from becalm.model import Consistency
from becalm.policy.blueprints import PARAMETERS, BlueprintName, Parameters

if TYPE_CHECKING:
    from becalm.policy.blueprints import AnyParameters

HELD_NOT = 75
"""The exit code of a thaw that says: nothing is frozen now, but the freeze had not held until this moment."""

P_contra = TypeVar("P_contra", bound=Parameters, contravariant=True)
P = TypeVar("P", bound=Parameters)


class Members(StrEnum):
    """In which of the pods that a hook selects a recipe runs."""

    EVERY = "every"
    PRIMARY = "primary"
    """Only in the one whose `probe` ends with exit code 0."""


class Kept(StrEnum):
    """What the output of a command that is kept is made of, and so where in the recovery point it goes."""

    FILE = "file"
    """One file: `blueprints/<namespace>/<pod>/<name>`."""
    DUMP = "dump"
    """One file: `dumps/<namespace>/<pod>/<name>`."""
    OVERLAY = "overlay"
    """A tar stream of files by their paths in the container, that lie over the volumes' own: `overlays/<namespace>/<claim>/<path>`, and
    in the volumes themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """A command whose standard output belongs into the recovery point. Asked after the thaw; a failure is a finding, and where the recipe
    freezes it lowers the label.
    """

    name: str
    """The file's name, or what the finding calls it; with `each` the end of the name, such as `.sql`."""
    command: tuple[str, ...]
    each: tuple[str, ...] = ()
    """A command that names things, one on a line: `command` is then run for each, with the name as its last argument, and makes a file of each."""
    kind: Kept = Kept.FILE
    most_bytes: int = 64 * 2**20
    timeout_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one application is stilled, let go, and what is kept of it. Each command is a program and its arguments."""

    freeze: tuple[str, ...] = ()
    """Empty, with `thaw`: nothing is frozen; the blueprint only keeps something."""
    thaw: tuple[str, ...] = ()
    """Exit code 0: it is thawed, and the freeze had held until now. `HELD_NOT`: it is thawed. It may run at any time, any number of times."""
    members: Members = Members.EVERY
    probe: tuple[str, ...] = ()
    """Exit code 0 in the member that writes, 1 in the others; anything else is an error that says so."""
    keeps: tuple[Keep, ...] = ()
    done: tuple[str, ...] = ()
    """Run once all is kept, or could not be."""
    best: Consistency = Consistency.APPLICATION
    """The best label that it can give."""
    needs: tuple[str, ...] = ("sh",)
    """Programs that must be in the image."""

    @property
    def freezes(self) -> bool:
        """Whether anything is frozen."""
        return bool(self.freeze)


class Cook(Protocol[P_contra]):
    """Makes a recipe from parameters. Pure."""

    def __call__(self, parameters: P_contra, *, timeout_seconds: int) -> Recipe:
        """Return the recipe for a freeze that ends within that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint(Generic[P]):
    """One kind of application."""

    name: BlueprintName
    title: str
    """As a person calls it, with the versions it is meant for."""
    recipe: Cook[P]
    tested: bool = True
    """Whether a test runs it against the real program."""


MODULES: dict[BlueprintName, str] = {
    BlueprintName.POSTGRESQL: "postgresql",
    BlueprintName.MARIADB: "mysql",
    BlueprintName.MYSQL: "mysql",
    BlueprintName.REDIS: "redis",
    BlueprintName.SQLITE: "sqlite",
    BlueprintName.ETCD: "etcd",
    BlueprintName.FILESYSTEM: "filesystem",
    BlueprintName.MONGODB: "mongodb",
    BlueprintName.ELASTICSEARCH: "elasticsearch",
    BlueprintName.POSTGRESQL_DUMP: "dump",
    BlueprintName.MARIADB_DUMP: "dump",
}
"""In which module of `becalm.quiesce` each stands: in its `BLUEPRINTS`, by name. It is imported when it is asked for."""


def find(name: str) -> Blueprint[Any]:
    """Return a blueprint. Raises ValueError for a name that is none."""
    known = BlueprintName(name)
    blueprints: dict[BlueprintName, Blueprint[Any]] = import_module(f"becalm.quiesce.{MODULES[known]}").BLUEPRINTS
    return blueprints[known]


def recipe_of(name: str, given: str, *, timeout_seconds: float) -> Recipe:
    """Return the recipe of a blueprint with its parameters, as the JSON that `said` made of them. Raises ValueError."""
    parameters = PARAMETERS[BlueprintName(name)].model_validate_json(given or "{}")
    return find(name).recipe(parameters, timeout_seconds=max(1, int(timeout_seconds)))


def said(parameters: AnyParameters) -> str:
    """Return parameters as JSON, for a plan that travels."""
    return parameters.model_dump_json(by_alias=True, exclude_none=True)
