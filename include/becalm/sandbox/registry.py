"""Which resources are served now: the built-in ones and those that CustomResourceDefinitions add. Stores no objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox.kinds import BUILT_IN, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Registry:
    """Resources by URL and by kind."""

    def __init__(self, resources: Iterable[Resource] = BUILT_IN) -> None:
        """Serve the built-in resources."""
        self._by_url: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    def __iter__(self) -> Iterator[Resource]:
        """Yield every resource in every version."""
        return iter(tuple(self._by_url.values()))

    def add(self, resource: Resource) -> None:
        """Serve a resource, or a new definition of it."""
        self._by_url[(resource.group, resource.version, resource.plural)] = resource

    def drop(self, bucket: str) -> None:
        """Serve a resource no longer, in any version."""
        self._by_url = {url: resource for url, resource in self._by_url.items() if resource.bucket != bucket}

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return what stands at a URL."""
        return self._by_url.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of a kind in one version."""
        return next((found for found in self._by_url.values() if found.kind == kind and found.api_version == api_version), None)

    def of_bucket(self, bucket: str) -> Resource | None:
        """Return a bucket's resource in its preferred version."""
        found = [resource for resource in self._by_url.values() if resource.bucket == bucket]
        return next((resource for resource in found if resource.preferred), found[0] if found else None)

    def buckets(self) -> list[Resource]:
        """Return each resource once, in its preferred version."""
        return [resource for resource in self._by_url.values() if resource.preferred]

    def serves(self, group: str, version: str) -> bool:
        """Say whether anything is served in that group and version."""
        return any(url[:2] == (group, version) for url in self._by_url)
