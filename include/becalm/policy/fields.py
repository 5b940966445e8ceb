"""The kinds of values that a policy is made of: texts with a rule of their own, lengths of time, amounts.

Each is a type for pydantic that reads what the author wrote, keeps what the program needs, and writes it back in the same words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from becalm.policy import globs
from becalm.policy.cron import Cron, zone
from becalm.policy.labels import LabelSelector
from becalm.policy.problems import Problem, quoted
from becalm.policy.units import DURATION_REMEDY, QUANTITY_REMEDY, format_duration, format_quantity, parse_duration, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Shown:
    """How the reference page calls a type. Pydantic passes it over."""

    text: str


PROBLEM = "becalm"
"""The type of our own errors among pydantic's; its context holds `problem` and `remedy`."""


def refuse(problem: str, remedy: str = "") -> PydanticCustomError:
    """Make the error that pydantic carries to `load`."""
    # The template is without braces: what the author wrote must never be read as one.
    return PydanticCustomError(PROBLEM, "a rule is broken", {"problem": problem, "remedy": remedy})


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """Keep the text, once the check has accepted it."""

    def validate(text: str) -> str:
        try:
            check(text)
        except Problem as found:
            raise refuse(found.problem, found.remedy) from None
        return text

    return AfterValidator(validate)


def _matching(pattern: str, problem: str, remedy: str) -> AfterValidator:
    """Accept texts of a form. The problem never quotes the text."""
    compiled = re.compile(pattern)

    def validate(text: str) -> str:
        if not compiled.fullmatch(text):
            raise refuse(problem, remedy)
        return text

    return AfterValidator(validate)


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        if not isinstance(value, str):
            raise Problem("a length of time needs its unit", DURATION_REMEDY)  # noqa: TRY301  (one place turns problems into errors)
        return parse_duration(value)
    except Problem as found:
        raise refuse(found.problem, found.remedy) from None


def _read_quantity(value: object) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Problem("this is not an amount of bytes", QUANTITY_REMEDY)  # noqa: TRY301  (one place turns problems into errors)
        return parse_quantity(str(value))
    except Problem as found:
        raise refuse(found.problem, found.remedy) from None


def _read_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse("this is not a whole number", "write a number without quotes, such as 7")
    return value


def one_or_many(value: object) -> object:
    """Read a single text as a list of one."""
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    Shown("duration"),
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
            "minLength": 2,
            "examples": ["30s", "1h30m", "14d"],
        }
    ),
]
Quantity = Annotated[
    int,
    Shown("amount"),
    BeforeValidator(_read_quantity),
    PlainSerializer(format_quantity, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?$"}, {"type": "integer", "minimum": 1}],
            "examples": ["500Gi", "2T"],
        }
    ),
]
Count = Annotated[int, Shown("number, 1 to 10000"), BeforeValidator(_read_count), Field(ge=1, le=10_000)]
Days = Annotated[int, Shown("number of days"), BeforeValidator(_read_count), Field(ge=1, le=36_500)]

NamespacePattern = Annotated[str, Shown("pattern"), _checked(globs.check_namespace)]
NamePattern = Annotated[str, Shown("pattern"), _checked(globs.check_claim)]
ResourcePattern = Annotated[str, Shown("pattern"), _checked(globs.check_kind)]
LabelText = Annotated[str, Shown("selector"), _checked(LabelSelector.parse)]
LabelTexts = Annotated[
    tuple[LabelText, ...],
    Shown("selector, or a list of them"),
    BeforeValidator(one_or_many),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Schedule = Annotated[str, Shown("schedule"), _checked(Cron.parse)]
Timezone = Annotated[str, Shown("time zone"), _checked(zone)]

PolicyName = Annotated[
    str,
    _matching(
        r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?",
        "this cannot be the name of a policy",
        "write 1 to 40 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    ),
]
ConnectionName = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9_.@:/-]{0,249}",
        "this cannot be the name of a connection",
        "write the id of an Airflow connection, or of a kubeconfig context",
    ),
]
StoreConnection = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,249}",
        "this cannot be the id of a connection",
        "write the id of an Airflow connection, such as becalm_s3",
    ),
]
PasswordSource = Annotated[
    str,
    _matching(
        r"file:/[^\x00-\x1f]{1,4000}|env:[A-Za-z_][A-Za-z0-9_]{0,249}|[A-Za-z0-9][A-Za-z0-9_.-]{0,249}",
        "this does not say where the password stands",
        "write the id of an Airflow connection, file:/path/to/it, or env:NAME; never the password itself",
    ),
]
ContainerName = Annotated[
    str,
    _matching(
        r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
        "this cannot be the name of a container",
        "write the container's name as the pod has it, in lower case",
    ),
]
PodName = Annotated[
    str,
    _matching(
        r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?",
        "this cannot be the name of a pod",
        "write the pod's name in lower case, or select by labels",
    ),
]
UserName = Annotated[
    str,
    _matching(
        r"[A-Za-z_][A-Za-z0-9_.-]{0,31}",
        "this cannot be the name of a user",
        "write the user's name as the container knows it, such as postgres",
    ),
]
ContainerPath = Annotated[
    str,
    _matching(
        r"/(?!.*(?:^|/)\.\.(?:/|$))[^\x00-\x1f\x7f]{0,1000}",
        "this is not an absolute path in a container",
        "write a path such as /var/lib/data, without .. in it",
    ),
]
Word = Annotated[
    str,
    _matching(
        r"[^\x00-\x20\x7f-][^\x00-\x1f\x7f]{0,250}",
        "this cannot be a name or an address",
        "write one line of text that does not begin with a dash",
    ),
]
Port = Annotated[int, Shown("number"), Field(ge=1, le=65_535)]
Argument = Annotated[
    str,
    Field(max_length=65_536),
    _matching(r"[^\x00]*", "an argument cannot hold a NUL character", "remove the character"),
]
Command = Annotated[tuple[Argument, ...], Shown("list of texts"), Field(min_length=1, max_length=1_000)]
Sentence = Annotated[
    str, Field(max_length=1_000), _matching(r"(?s).*\S.*", "this is empty", "write a sentence that a reader will understand in a year")
]


def _check_target(text: str) -> str:
    """Accept a place for repositories; give it back without a slash at its end."""
    try:
        parts = urlsplit(text)
        plain = parts.username is None and parts.password is None and parts.port is None
    except ValueError:
        raise refuse("this is not a URL", _TARGET_REMEDY) from None
    if not plain:
        raise refuse(
            "a URL with a user, a password or a port is not accepted",
            "the endpoint and the keys belong to the connection: " + _TARGET_REMEDY,
        )
    if parts.query or parts.fragment or any(not char.isprintable() or char in " \\?#%@" for char in text):
        raise refuse("the URL holds characters that have no place in it", _TARGET_REMEDY)
    path = parts.path.rstrip("/")
    if parts.scheme not in ("s3", "file") or "//" in path or {".", ".."} & set(path.split("/")):
        raise refuse(f"{quoted(text)} is not a place for repositories", _TARGET_REMEDY)
    if parts.scheme == "s3" and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
        raise refuse(f"{quoted(parts.netloc)} cannot be the name of a bucket", _TARGET_REMEDY)
    if parts.scheme == "file" and (parts.netloc or not path):
        raise refuse(f"{quoted(text)} is not the absolute path of a folder", _TARGET_REMEDY)
    return f"{parts.scheme}://{parts.netloc}{path}"


_TARGET_REMEDY = "write s3://bucket/prefix or file:///absolute/path"
TargetUrl = Annotated[str, Shown("URL"), AfterValidator(_check_target)]


def _check_repository(text: str) -> str:
    """Accept the URL of a repository of infrastructure code, without credentials in it."""
    try:
        parts = urlsplit(text)
        secret = parts.password is not None or (parts.scheme == "https" and parts.username is not None)
    except ValueError:
        raise refuse("this is not a URL", _REPOSITORY_REMEDY) from None
    if secret:
        raise refuse("the URL holds credentials", "keep them out of the file: " + _REPOSITORY_REMEDY)
    if (
        parts.scheme not in ("https", "ssh")
        or not parts.hostname
        or not parts.path.strip("/")
        or any(not char.isprintable() or char == " " for char in text)
    ):
        raise refuse("this is not the URL of a repository", _REPOSITORY_REMEDY)
    return text


_REPOSITORY_REMEDY = "write https://host/path.git or ssh://git@host/path.git"
RepositoryUrl = Annotated[str, Shown("URL"), AfterValidator(_check_repository)]
FolderName = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "this cannot be the name of a folder", "write a name of letters, digits, dots and dashes"
    ),
]
RefName = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,249}", "this cannot be the name of a branch or tag", "write a name such as main or refs/tags/v1"
    ),
]
