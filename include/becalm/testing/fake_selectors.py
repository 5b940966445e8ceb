"""Label and field selectors as an API server reads them, for the cluster in memory. Small, and apart from Becalm's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.model import Manifest

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<word>in|notin)\s+\((?P<values>[^)]*)\)$")


def labels_match(selector: str, labels: Mapping[str, str]) -> bool:
    """Say whether labels answer a selector; an empty one means all."""
    terms = [term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip()]
    return all(_term_matches(term, labels) for term in terms)


def _term_matches(term: str, labels: Mapping[str, str]) -> bool:
    if found := _SET.match(term):
        values = {value.strip() for value in found["values"].split(",")}
        inside = labels.get(found["key"]) in values
        return inside if found["word"] == "in" else not inside
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return labels.get(key.strip()) == value.strip()
    return term[1:] not in labels if term.startswith("!") else term in labels


def fields_match(selector: str, manifest: Manifest) -> bool:
    """Say whether an object answers a field selector, a list of `path=value` and `path!=value`."""
    for term in filter(None, selector.split(",")):
        path, value = term.split("!=", 1) if "!=" in term else re.split("==?", term, maxsplit=1)
        same = _field(manifest, path) == value
        if same == ("!=" in term):
            return False
    return True


def _field(manifest: Manifest, path: str) -> str:
    value: Any = manifest
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)
