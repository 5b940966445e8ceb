"""What an object that runs does not do of what was declared of it: only what the declaration says is compared. Pure.

A declaration lacks what the server fills in, so a field that it leaves out is nobody's difference. A list that it says is said as a whole: one
item more is a difference. It never says who is right, and it does not hide the values of Secrets: its caller does.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, TypeAlias

from becalm.kube.diffing import FieldChange
from becalm.kube.quantities import amount
from becalm.kube.rules import child, group_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Manifest

IDENTITY = frozenset({"apiVersion", "kind", "status"})
NAMES = frozenset({"name", "namespace", "generateName"})
"""By them the two were found; people also write a namespace where there is none to be in."""
_AMOUNTS_BELOW = frozenset({"limits", "requests", "hard", "capacity", "default", "defaultRequest", "max", "min", "podFixed"})
_AMOUNTS = frozenset({"sizeLimit", "averageValue", "divisor"})
_WORDS_BELOW = frozenset({"data", "binaryData", "labels", "annotations", "matchLabels", "nodeSelector", "parameters", "selector"})
"""Maps of texts: an entry that is empty is an entry."""
_ZERO_IS_NOTHING = frozenset(
    {
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostPort",
        "nodePort",
        "readOnly",
        "stdin",
        "stdinOnce",
        "tty",
        "paused",
        "minReadySeconds",
        "initialDelaySeconds",
        "publishNotReadyAddresses",
        "globalDefault",
        "insecureSkipTLSVerify",
        "preserveUnknownFields",
        "priority",
    }
)
"""Fields whose `false` or 0 the server does not write down. Of all others it is a value: `allowPrivilegeEscalation: false` must be there."""
_Named: TypeAlias = "dict[str, tuple[int, Any]]"
"""The items of a list by what names them, each with its place."""
_PAIRED_BY: tuple[tuple[str, ...], ...] = (
    ("name",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("mountPath",),
    ("devicePath",),
    ("ip",),
)


def undone(declared: Manifest, running: Manifest) -> list[FieldChange]:
    """Return where an object does not say what was declared: before is the declaration, after what runs."""
    group = str(declared.get("apiVersion", "")).partition("/")[0]
    builtin = "." not in group or group.endswith(".k8s.io")
    wanted = {key: value for key, value in meant(declared).items() if key not in IDENTITY}
    if isinstance(wanted.get("metadata"), dict):
        wanted["metadata"] = {key: value for key, value in wanted["metadata"].items() if key not in NAMES}
    return list(_Subset(builtin=builtin).mapping(wanted, running, "", ""))


def meant(declared: Manifest) -> Manifest:
    """Return a declaration as the server would store it: the plain texts of a Secret among its data, and encoded bytes without line breaks."""
    if group_kind(declared) not in {"Secret", "ConfigMap"}:
        return declared
    changed: Manifest = {}
    bytes_in = "data" if declared.get("kind") == "Secret" else "binaryData"
    plain = child(declared, "stringData") if declared.get("kind") == "Secret" else {}
    if plain or child(declared, bytes_in):
        encoded = {key: "".join(value.split()) if isinstance(value, str) else value for key, value in child(declared, bytes_in).items()}
        changed[bytes_in] = encoded | {key: b64encode(str(value).encode()).decode() for key, value in plain.items()}
    return {key: value for key, value in declared.items() if key != "stringData" or not plain} | changed


class _Subset:
    """One comparison; whether the kind is the server's own decides what an empty value means."""

    def __init__(self, *, builtin: bool) -> None:
        self.builtin = builtin

    def mapping(self, wanted: Manifest, found: Manifest, path: str, above: str) -> Iterator[FieldChange]:
        for key, value in wanted.items():
            if value is not None:
                yield from self._field(value, found.get(key), _join(path, key), (above, key))

    def _field(self, wanted: Any, found: Any, path: str, place: tuple[str, str]) -> Iterator[FieldChange]:
        above, key = place
        if isinstance(wanted, dict) and isinstance(found, dict):
            yield from self.mapping(wanted, found, path, key)
        elif isinstance(wanted, list) and isinstance(found, list):
            yield from self._items(wanted, found, path, key)
        elif not (self._is_nothing(wanted, found, above, key) or _equal(wanted, found) or _same_amount(wanted, found, above, key)):
            yield FieldChange(path=path, before=wanted, after=found)

    def _items(self, wanted: list[Any], found: list[Any], path: str, key: str) -> Iterator[FieldChange]:
        for place, left, right in _pairs(wanted, found):
            here = f"{path}[{place}]"
            if left is None or right is None:
                yield FieldChange(path=here, before=left, after=right)
            else:
                yield from self._field(left, right, here, ("", key))

    def _is_nothing(self, wanted: Any, found: Any, above: str, key: str) -> bool:
        """Say whether the server writes nothing down for such a value. Of custom resources it writes all."""
        if found is not None or not self.builtin or above in _WORDS_BELOW:
            return False
        if isinstance(wanted, bool | int | float):
            return not wanted and key in _ZERO_IS_NOTHING
        return not wanted


def _equal(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return bool(wanted == found)


def _same_amount(wanted: Any, found: Any, above: str, key: str) -> bool:
    """Say whether two words are one amount: the server writes `1000m` as `1`."""
    if above not in _AMOUNTS_BELOW and key not in _AMOUNTS:
        return False
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in (wanted, found)):
        return False
    left = amount(wanted)
    return bool(left) and left == amount(found)


def _pairs(wanted: list[Any], found: list[Any]) -> Iterator[tuple[object, Any, Any]]:
    """Pair the items of two lists: by what names them where all of them have such a name, else by their places."""
    for keys in _PAIRED_BY:
        first, second = _named(wanted, keys), _named(found, keys)
        if first is not None and second is not None:
            yield from _by_key(first, second, named=keys == ("name",))
            return
    for number in range(max(len(wanted), len(found))):
        yield number, wanted[number] if number < len(wanted) else None, found[number] if number < len(found) else None


def _by_key(first: _Named, second: _Named, *, named: bool) -> Iterator[tuple[object, Any, Any]]:
    """Pair by key. Of things without a name the key itself may have changed: two that stand at one place and have no partner are one."""
    partners = {name: name for name in first if name in second}
    if not named:
        free = {place: name for name, (place, _) in second.items() if name not in first}
        partners |= {name: free[place] for name, (place, _) in first.items() if name not in second and place in free}
    for name, (_, item) in first.items():
        place, other = second[partners[name]] if name in partners else (name, None)
        yield (name if named else place), item, other
    met = set(partners.values())
    for name, (place, item) in second.items():
        if name not in met:
            yield (name if named else place), None, item


def _named(items: list[Any], keys: tuple[str, ...]) -> _Named | None:
    """Return the items by name, with their places; nothing where one has no name, or two have the same."""
    named: _Named = {}
    for place, item in enumerate(items):
        if not isinstance(item, dict) or keys[0] not in item:
            return None
        named["/".join(str(item.get(key, "TCP")) for key in keys)] = (place, item)
    return named if len(named) == len(items) else None


def _join(path: str, key: str) -> str:
    """Write a place as `kube.diffing` does."""
    if key and all(letter.isalnum() or letter in "_-" for letter in key):
        return f"{path}.{key}" if path else key
    return f'{path}["{key}"]'
