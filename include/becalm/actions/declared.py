"""What is declared: the manifests in folders and files, with the place of each, and what could not be read, as findings.

Plain manifests are read here; a folder of Kustomize is rendered by its own program. A Helm chart is not guessed at, for its values are not in
it; the objects of Argo CD and Flux are told as pointers to where the rest is declared. It asks no cluster, and follows no link out of a folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import orjson

from becalm.actions.manifest_text import LARGEST_BYTES, Unreadable, read
from becalm.errors import PermanentError, UsageError
from becalm.kube.rules import child, children, group_kind
from becalm.model import Finding, Manifest, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")
CHART = "Chart.yaml"
MOST_FILES = 50_000
MOST_TOTAL_BYTES = 512 << 20
MOST_OBJECTS = 250_000
_HELM = "render it as it is applied, and name the file: helm template RELEASE CHART --values FILE > rendered.yaml"

POINTERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Application.argoproj.io": (
        ("spec", "source", "repoURL"),
        ("spec", "source", "path"),
        ("spec", "source", "chart"),
        ("spec", "source", "targetRevision"),
    ),
    "ApplicationSet.argoproj.io": (("spec", "template", "spec", "source", "repoURL"), ("spec", "template", "spec", "source", "path")),
    "Kustomization.kustomize.toolkit.fluxcd.io": (("spec", "sourceRef", "name"), ("spec", "path")),
    "HelmRelease.helm.toolkit.fluxcd.io": (("spec", "chart", "spec", "sourceRef", "name"), ("spec", "chart", "spec", "chart")),
    "GitRepository.source.toolkit.fluxcd.io": (("spec", "url"), ("spec", "ref", "branch"), ("spec", "ref", "tag")),
}
"""Objects that say where more is declared, and the fields that say it."""


class Kustomizer(Protocol):
    """What renders a folder of Kustomize."""

    def kustomize(self, folder: Path) -> bytes:
        """Return its manifests. Raises PermanentError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredObject:
    """One manifest as its author wrote it."""

    manifest: Manifest
    where: str
    """The file and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """An object that says where more is declared, which was not read."""

    where: str
    kind: str
    name: str
    to: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Declaration:
    """All that the named places declare."""

    objects: list[DeclaredObject] = field(default_factory=list)
    pointers: list[Pointer] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes_read: int = 0

    def say(self, where: object, message: str, remedy: str = "", severity: Severity = Severity.ERROR) -> None:
        """Add a finding."""
        self.findings.append(Finding(where=str(where), message=message, remedy=remedy, severity=severity))


def gather(places: Iterable[Path], kustomizer: Kustomizer) -> Declaration:
    """Read folders and files. Raises UsageError: a place is not there, or all of them come to more than anybody declares."""
    found = Declaration()
    for place in places:
        if place.is_dir():
            _folder(place, kustomizer, found)
        elif place.is_file():
            _file(place, found)
        else:
            raise UsageError("there is no such folder or file", where=str(place), hint="name a folder of manifests, or one file")
    if not found.objects and not found.findings:
        found.say(", ".join(map(str, places)), "no manifest is in it", "name the folder that is applied")
    return found


def _folder(top: Path, kustomizer: Kustomizer, found: Declaration) -> None:
    if _kustomization(top):
        try:
            rendered = kustomizer.kustomize(top)
        except PermanentError as error:
            found.say(error.where, error.message, error.hint)
            return
        _text(rendered, str(top), found)
    elif (top / CHART).is_file():
        found.say(top, "it is a Helm chart, and what it is applied with is not in it", _HELM)
    else:
        _walk(top, found)


def _walk(top: Path, found: Declaration) -> None:
    """Read every manifest below a folder, in the order of the names."""
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(folder.iterdir(), reverse=True)
        except OSError as error:
            found.say(folder, f"the folder cannot be read: {error.strerror}", "look at its permissions")
            continue
        files = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _within(entry, top):
                if entry.suffix in SUFFIXES or entry.is_dir():
                    found.say(entry, "it is a link out of the folder, which is not followed", "name what it leads to", Severity.WARNING)
            elif entry.is_symlink() and entry.is_dir():
                continue  # it is met by its own name
            elif entry.is_dir():
                folders += _read_apart(entry, found)
            elif entry.suffix in SUFFIXES and entry.is_file():
                files.append(entry)
        for entry in reversed(files):
            _file(entry, found)


def _read_apart(folder: Path, found: Declaration) -> list[Path]:
    """Return a folder that is to be read; one that has to be rendered is a finding, for only people know whether it is applied by itself."""
    if _kustomization(folder):
        found.say(
            folder, "it is a folder of Kustomize inside a folder of manifests, and was not read", f"if it is applied: --declared {folder}"
        )
        return []
    if (folder / CHART).is_file():
        found.say(folder, "it is a Helm chart, and what it is applied with is not in it", _HELM)
        return []
    return [folder]


def _kustomization(folder: Path) -> bool:
    return any((folder / name).is_file() for name in KUSTOMIZATION)


def _within(entry: Path, top: Path) -> bool:
    try:
        return entry.resolve(strict=True).is_relative_to(top.resolve())
    except (OSError, RuntimeError):
        return False


def _file(path: Path, found: Declaration) -> None:
    found.files += 1
    if found.files > MOST_FILES:
        raise UsageError(f"more than {MOST_FILES} files are below it", where=str(path), hint="name the folder that is applied")
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        found.say(path, f"the file cannot be read: {error.strerror}", "look at its permissions")
        return
    found.bytes_read += len(body)
    if found.bytes_read > MOST_TOTAL_BYTES:
        raise UsageError(
            f"the files come to more than {MOST_TOTAL_BYTES >> 20} MiB", where=str(path), hint="name the folder that is applied"
        )
    _text(body, str(path), found)


def _text(body: bytes, where: str, found: Declaration) -> None:
    """Take in the documents of one file. What is no manifest at all (the values of a chart) is passed over, and said."""
    try:
        documents = read(body)
    except Unreadable as why:
        found.say(where, str(why), "nothing of this file was read; mend it, or render it first if it is a template")
        return
    for document in documents:
        place = f"{where}:{document.line}"
        for manifest in _items(document.value):
            _object(manifest, place, found)


def _items(value: object) -> Iterator[object]:
    """Yield a manifest, or those of a List."""
    if isinstance(value, dict) and value.get("apiVersion") == "v1" and value.get("kind") == "List" and isinstance(value.get("items"), list):
        for item in value["items"]:
            yield from _items(item)
    else:
        yield value


def _object(manifest: object, where: str, found: Declaration) -> None:
    if not isinstance(manifest, dict) or not ("apiVersion" in manifest and "kind" in manifest):
        found.say(where, "it is no manifest: it says no apiVersion and kind", severity=Severity.INFO)
        return
    metadata = child(manifest, "metadata")
    if not all(isinstance(one, str) and one for one in (manifest["apiVersion"], manifest["kind"])):
        found.say(where, "apiVersion and kind are texts", "put them in quotes")
    elif not (isinstance(metadata.get("name"), str) and metadata["name"]):
        if group_kind(manifest) not in {"Kustomization.kustomize.config.k8s.io", "Component.kustomize.config.k8s.io"}:
            found.say(where, f"a {manifest['kind']} without a name cannot be looked for", "write metadata.name", Severity.WARNING)
    elif not isinstance(metadata.get("namespace", ""), str | None):
        found.say(where, "metadata.namespace is a text", "put it in quotes")
    elif not _is_json(manifest):
        found.say(where, "it holds a number that no API object can hold", "put it in quotes")
    else:
        found.objects.append(DeclaredObject(manifest=manifest, where=where))
        if len(found.objects) > MOST_OBJECTS:
            raise UsageError(f"more than {MOST_OBJECTS} objects are declared", where=where, hint="name the folder that is applied")
        _point(manifest, where, found)


def _is_json(manifest: Manifest) -> bool:
    try:
        orjson.dumps(manifest)
    except (TypeError, ValueError):
        return False
    return True


def _point(manifest: Manifest, where: str, found: Declaration) -> None:
    kind = group_kind(manifest)
    if kind not in POINTERS:
        return
    said = [child(manifest, *path[:-1]).get(path[-1]) for path in POINTERS[kind]]
    said += [source.get("repoURL") for source in children(manifest, "spec", "sources")]
    to = tuple(str(word) for word in said if word)
    found.pointers.append(Pointer(where=where, kind=str(manifest["kind"]), name=str(child(manifest, "metadata").get("name")), to=to))
