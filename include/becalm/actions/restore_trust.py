"""How far the objects of a recovery point are believed. A point may be hostile: whoever can write to the bucket and knows the password wrote it.

What is larger, deeper or of another kind than any API object is refused with a sentence, before it costs memory or reaches a server.
Nothing here asks a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from becalm.errors import RestoreRefused
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.restore_steps import Step
    from becalm.kube.base import Kind
    from becalm.model import ResourceRef

T = TypeVar("T")
U = TypeVar("U")

MOST_BYTES = 8 << 20
"""No API object is larger: etcd takes 1.5 MiB, and an aggregated server's own store hardly more."""
DEEPEST = 128
"""No API object is deeper; a stack has an end."""
LONGEST_NAME = 253
MOST_OBJECTS = 250_000
"""More are not restored at once: each of them is in memory while the plan is made."""


def parse(pieces: Iterable[bytes | bytearray]) -> tuple[Any, str]:
    """Return what an object's file holds, or why it is not believed. It reads no further than it must."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > MOST_BYTES:
            return None, f"is larger than any API object ({MOST_BYTES >> 20} MiB)"
    try:
        value = orjson.loads(body)
    except ValueError:
        return None, "is not JSON"
    if body.count(b"{") + body.count(b"[") > DEEPEST and _is_deeper(value, DEEPEST):
        return None, f"is nested deeper than any API object ({DEEPEST} levels)"
    return value, ""


def _is_deeper(value: Any, levels: int) -> bool:
    """Say whether a JSON value has more levels than allowed, without recursion."""
    layer = [value]
    for _ in range(levels):
        layer = [item for one in layer for item in _items(one)]
        if not layer:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in inner if isinstance(item, dict | list)]


def unfit(ref: ResourceRef) -> str:
    """Say why no object of this name or namespace can exist, or nothing. A name goes into an address: it must not lead elsewhere."""
    for name in (ref.name, ref.namespace):
        if name is not None and (
            name in {"", ".", ".."} or len(name) > LONGEST_NAME or any(one in "/%" or not one.isprintable() for one in name)
        ):
            return "has a name that no API object can have"
    return ""


def bounded(found: Iterable[tuple[T, U]], where: str, *, most: int = MOST_OBJECTS) -> Iterator[tuple[T, U]]:
    """Pass on what is found, as long as it is not too much. Raises RestoreRefused."""
    for number, one in enumerate(found):
        if number >= most:
            raise RestoreRefused(
                f"there are more than {most} objects to restore at once",
                where=where,
                hint="restore some namespaces after the other: --namespace",
            )
        yield one


def untrue(steps: Iterable[Step], served: Iterable[Kind]) -> Iterator[Finding]:
    """Yield the objects whose kind is not the one that the server has at their path: a Secret in the folder of ConfigMaps."""
    names = {(kind.group, kind.resource): kind for kind in served}
    for step in steps:
        kind = names.get((step.source.group, step.source.resource))
        if kind is None:
            continue
        if kind.kind != step.kind:
            message = f"says that it is a {step.kind}, and stands where the cluster has {kind.kind}s"
        elif kind.namespaced != (step.source.namespace is not None):
            message = "stands in no namespace, and its kind does" if kind.namespaced else "stands in a namespace, and its kind does not"
        else:
            continue
        yield Finding(where=str(step.source), message=message, remedy="it was not written by Becalm; restore from another recovery point")
