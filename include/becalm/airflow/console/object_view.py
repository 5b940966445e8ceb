"""One saved object as YAML. What is secret in it is hidden, and it says where. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from becalm.model import Manifest

HIDDEN = "••••••••"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation that repeats the whole object, a Secret's values included."""


def is_secret(manifest: Manifest) -> bool:
    """Say whether an object's values are to be hidden."""
    return manifest.get("kind") == "Secret" and manifest.get("apiVersion") == "v1"


def hidden(manifest: Manifest) -> Manifest:
    """Return a Secret without its values: keys stay, and the annotation that repeats it is hidden too. Any other object is as it was."""
    if not is_secret(manifest):
        return manifest
    shown = dict(manifest)
    for section in ("data", "stringData"):
        values = manifest.get(section)
        if values:
            shown[section] = {str(key): HIDDEN for key in values} if isinstance(values, dict) else HIDDEN
    metadata = manifest.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict) and LAST_APPLIED in metadata["annotations"]:
        shown["metadata"] = {**metadata, "annotations": {**metadata["annotations"], LAST_APPLIED: HIDDEN}}
    return shown


def pattern_of(manifest: Manifest) -> str:
    """Write an object as the form of a restore names it: `v1/Secret/shop/tls`."""
    metadata = manifest.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    parts = (manifest.get("apiVersion"), manifest.get("kind"), named.get("namespace"), named.get("name"))
    return "/".join(str(part) for part in parts if part)


def as_yaml(manifest: Manifest) -> str:
    """Write an object as a person would, without the server's notes of who owns which field."""
    metadata = manifest.get("metadata")
    shown: dict[str, Any] = dict(manifest)
    if isinstance(metadata, dict):
        shown["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
    first: dict[str, Any] = {key: shown.pop(key) for key in ("apiVersion", "kind", "metadata") if key in shown}
    return yaml.dump({**first, **shown}, sort_keys=False, allow_unicode=True, width=120, Dumper=_Dumper)


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block; no anchors, which nobody expects in a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def read_object(document: bytes) -> Manifest | None:
    """Read a saved object; nothing where it is none."""
    try:
        found = json.loads(document)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
