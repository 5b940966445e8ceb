"""One concern around any cluster: trying again what may be tried again. Watches, logs and commands pass through untouched."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from becalm.errors import AlreadyExists, ClusterUnavailable, Conflict, Throttled
from becalm.kube.base import LABEL_RUN, Cluster, Discovery, Event, ExecResult, Kind, Listing, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from becalm.clock import Clock
    from becalm.model import Manifest

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 30.0


class RetryingCluster:
    """A cluster that asks again after ClusterUnavailable and Throttled, with growing pauses or the one the server names.

    A listing that breaks off half-way is not begun anew: its reader would meet objects twice.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, attempts: int = 4, first_pause_seconds: float = 0.25) -> None:
        """Wrap a cluster; `attempts` counts the first one."""
        self._cluster = cluster
        self._clock = clock
        self._attempts = attempts
        self._first_pause = first_pause_seconds

    def _again(self, call: Callable[[], T]) -> T:
        for attempt in range(self._attempts - 1):
            try:
                return call()
            except (ClusterUnavailable, Throttled) as error:
                pause = self._first_pause * 4**attempt if error.delay_seconds is None else error.delay_seconds
                self._clock.sleep(min(pause, LONGEST_PAUSE_SECONDS))
        return call()

    def discover(self) -> Discovery:
        """Ask what the server serves."""
        return self._again(self._cluster.discover)

    def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        revision: str | None = None,
        page_size: int = 500,
    ) -> Listing:
        """List; only the first page is tried again."""
        return self._again(
            lambda: self._cluster.list(kind, namespace=namespace, labels=labels, fields=fields, revision=revision, page_size=page_size)
        )

    def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest:
        """Return one object."""
        return self._again(lambda: self._cluster.get(kind, name, namespace=namespace))

    def apply(self, kind: Kind, manifest: Manifest, *, verb: Verb, subresource: str = "", dry_run: bool = False) -> Manifest:
        """Write one object. A create whose reply was lost may meet what it made: it is ours if it carries the same run.

        An update that carries a revision may meet its own write as a conflict, and one with a generated name would be made twice: both are tried once.
        """
        metadata = manifest.get("metadata") or {}
        if (verb is Verb.CREATE and not metadata.get("name")) or (verb is Verb.UPDATE and metadata.get("resourceVersion")):
            return self._cluster.apply(kind, manifest, verb=verb, subresource=subresource, dry_run=dry_run)
        tried = 0

        def write() -> Manifest:
            nonlocal tried
            tried += 1
            try:
                return self._cluster.apply(kind, manifest, verb=verb, subresource=subresource, dry_run=dry_run)
            except AlreadyExists:
                found = self._cluster.get(kind, metadata["name"], namespace=metadata.get("namespace")) if tried > 1 else {}
                if not _same_run(manifest, found):
                    raise
                return found

        return self._again(write)

    def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for a deletion. One whose reply was lost may find the name taken by another uid: then ours is gone, and that is true."""
        tried = 0

        def remove() -> bool:
            nonlocal tried
            tried += 1
            try:
                done = self._cluster.delete(kind, name, namespace=namespace, uid=uid, propagation=propagation, grace_seconds=grace_seconds)
            except Conflict:
                if tried == 1:
                    raise
                return True
            return done or tried > 1

        return self._again(remove)

    def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        fields: str = "",
        labels: str = "",
        revision: str = "",
        timeout_seconds: float = 60,
    ) -> Iterator[Event]:
        """Pass through: who watches knows from where to go on."""
        return self._cluster.watch(
            kind, namespace=namespace, fields=fields, labels=labels, revision=revision, timeout_seconds=timeout_seconds
        )

    def exec(
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        command: Sequence[str],
        stdin: bytes = b"",
        timeout_seconds: float = 30,
        out: Callable[[bytes], object] | None = None,
    ) -> ExecResult:
        """Pass through: a command may have run although no reply came."""
        return self._cluster.exec(
            namespace, pod, container=container, command=command, stdin=stdin, timeout_seconds=timeout_seconds, out=out
        )

    def logs(self, namespace: str, pod: str, *, container: str = "", follow: bool = False) -> Iterator[bytes]:
        """Pass through."""
        return self._cluster.logs(namespace, pod, container=container, follow=follow)


def _same_run(ours: Manifest, found: Manifest) -> bool:
    run = ((ours.get("metadata") or {}).get("labels") or {}).get(LABEL_RUN)
    return bool(run) and ((found.get("metadata") or {}).get("labels") or {}).get(LABEL_RUN) == run
