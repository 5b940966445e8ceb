"""A bare mirror of a repository: all refs, and all that they need. A mirror that is there is brought up to date, by what is new alone.

A repository is chosen by a policy and written by others, and its server may be anybody's: what it sends is bounded in bytes and time, and
is never run or checked out here. A host key that is not known is refused (`StrictHostKeyChecking=yes`). Whatever keeps a mirror from being
whole is one of Becalm's errors, with the repository's URL and what to do.
"""

from __future__ import annotations

import errno
import shlex
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from becalm.errors import AccessDenied, BecalmError, NotFound, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from becalm.git.access import GitAccess

SILENCE_SECONDS = 60.0
"""A server that says nothing for so long is given up."""
LOOK_SECONDS = 120.0
PEELED = b"^{}"
NO_OBJECTS = bytes(4)
"""So many, a pack's header says (gitformat-pack)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """What a server has."""

    refs: Mapping[str, str]
    """Every ref and its object's id; HEAD is not among them."""
    head: str = ""
    """The ref that HEAD stands for, where the server says it."""


def look(url: str, access: GitAccess) -> Remote:
    """Return the refs of a repository. Raises AccessDenied, NotFound, TransientError, PermanentError."""
    with _client(url, access, LOOK_SECONDS) as (client, path), _plain_errors(url):
        found = client.get_refs(path)
        return _remote(found.refs, found.symrefs)


def fetch(url: str, folder: Path, access: GitAccess, *, most_bytes: int, seconds: float) -> Remote:
    """Make the folder a mirror of the repository, or bring the mirror in it up to date. Raises as `look`, and where it is too large."""
    from dulwich.repo import Repo  # noqa: PLC0415  (only a mirror needs it)

    with (
        _client(url, access, seconds) as (client, path),
        _plain_errors(url),
        Repo(str(folder)) if (folder / "HEAD").exists() else Repo.init_bare(str(folder), mkdir=not folder.exists()) as mirror,
    ):
        received = _Received(most_bytes=most_bytes, until=monotonic() + seconds, url=url)
        found = _receive(client, path, mirror, received)
        remote = _remote(found.refs, found.symrefs)
        _set_refs(mirror, remote)
        return remote


def _receive(client: Any, path: Any, mirror: Any, received: _Received) -> Any:
    """Take in one pack with all that is new. Of one that is not whole nothing stays."""
    with TemporaryFile(prefix="becalm-pack-") as pack:
        found = client.fetch_pack(
            path,
            lambda refs, depth=None: _missing(refs, mirror.object_store),  # noqa: ARG005  (dulwich's form)
            mirror.get_graph_walker(),
            lambda data: received.write(pack, data),
            progress=lambda _: received.check(),
        )
        pack.seek(0)
        if pack.read(12)[8:] not in {b"", NO_OBJECTS}:
            pack.seek(0)
            mirror.object_store.add_thin_pack(pack.read, None)  # what it leaves out is in the mirror
    return found


def _missing(refs: Mapping[bytes, bytes | None], store: Any) -> list[bytes]:
    wanted = {sha for ref, sha in refs.items() if sha is not None and not ref.endswith(PEELED) and sha not in store}
    return sorted(wanted)


def _remote(refs: Mapping[bytes, bytes | None], symrefs: Mapping[bytes, bytes]) -> Remote:
    """Keep the refs that have names as git allows them: a name becomes a path."""
    from dulwich.refs import check_ref_format  # noqa: PLC0415  (as above)

    named: dict[Any, bytes] = {ref: sha for ref, sha in refs.items() if sha is not None}
    kept = {
        ref.decode("utf-8", "surrogateescape"): sha.decode("ascii")
        for ref, sha in named.items()
        if ref.startswith(b"refs/") and not ref.endswith(PEELED) and check_ref_format(ref)
    }
    head = symrefs.get(b"HEAD", b"").decode("utf-8", "surrogateescape")
    return Remote(refs=dict(sorted(kept.items())), head=head if head in kept else "")


def _set_refs(mirror: Any, remote: Remote) -> None:
    """Make the mirror's refs those of the server."""
    wanted = {name.encode("utf-8", "surrogateescape"): sha.encode() for name, sha in remote.refs.items()}
    for ref in list(mirror.refs.allkeys()):
        if ref.startswith(b"refs/") and ref not in wanted:
            mirror.refs.remove_if_equals(ref, None)
    for ref, sha in wanted.items():
        mirror.refs.set_if_equals(ref, None, sha)
    if remote.head:
        mirror.refs.set_symbolic_ref(b"HEAD", remote.head.encode("utf-8", "surrogateescape"))


@dataclass(slots=True)
class _Received:
    """Counts what a server sends."""

    most_bytes: int
    until: float
    url: str
    count: int = 0

    def write(self, pack: Any, data: bytes) -> int:
        """Take some bytes of the pack. Raises PermanentError where they are too many, and as `check`."""
        self.count += len(data)
        if self.count > self.most_bytes:
            raise PermanentError(
                f"it is larger than the {self.most_bytes} bytes that are allowed", where=self.url, hint="raise maxSize, or leave it out"
            )
        self.check()
        return int(pack.write(data))

    def check(self) -> None:
        """Raise TransientError where it takes too long."""
        if monotonic() > self.until:
            raise TransientError(
                "it takes too long to be fetched", where=self.url, hint="look at the network and the size of the repository"
            )


@contextmanager
def _client(url: str, access: GitAccess, seconds: float) -> Iterator[tuple[Any, Any]]:
    """Yield dulwich's client for a URL, and the path on the server."""
    from dulwich.client import HttpGitClient, LocalGitClient, SSHGitClient  # noqa: PLC0415  (as above)
    from dulwich.config import ConfigFile  # noqa: PLC0415  (as above)

    parts = urlsplit(url)
    plain: dict[str, Any] = {"config": ConfigFile(), "quiet": True}
    if parts.scheme == "file":
        yield LocalGitClient(**plain), unquote(parts.path)
    elif parts.scheme in {"http", "https"}:
        base = f"{parts.scheme}://{parts.netloc}"
        if access.password:
            plain |= {"username": access.username or "git", "password": access.password}
        web = HttpGitClient(base, timeout=SILENCE_SECONDS, **plain)
        try:
            yield web, parts.path
        finally:
            web.pool_manager.clear()
    elif parts.scheme == "ssh":
        with TemporaryDirectory(prefix="becalm-ssh-") as secrets:
            user = access.username or parts.username
            client = SSHGitClient(parts.hostname or "", parts.port, user, ssh_command=_ssh(access, Path(secrets)), **plain)
            with _waited_for(client, seconds):
                yield client, parts.path
    else:
        raise PermanentError(f"{parts.scheme!r} is no way to a repository", where=url, hint="write https://… or ssh://…")


@contextmanager
def _waited_for(client: Any, seconds: float) -> Iterator[None]:
    """End the programs that a client has started, whatever comes, and after that time in any case: dulwich waits for none."""
    begin, started = client.ssh_vendor.run_command, []

    def run_command(*arguments: Any, **options: Any) -> Any:
        made = begin(*arguments, **options)
        started.append(made.proc)
        return made

    def end() -> None:
        for process in started:
            process.kill()

    client.ssh_vendor.run_command = run_command
    timer = threading.Timer(max(0.0, seconds), end)  # a server may let us in and say nothing more
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for process in started:
            process.kill()
            process.communicate()


def _ssh(access: GitAccess, secrets: Path) -> str:
    """Return the command that speaks SSH. It asks nobody, and trusts no key that it does not know."""
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    words += ["-o", f"ConnectTimeout={SILENCE_SECONDS:.0f}", "-o", "ServerAliveInterval=15"]
    for text, name, option in ((access.key, "key", "IdentityFile"), (access.known_hosts, "known_hosts", "UserKnownHostsFile")):
        if text:
            file = secrets / name
            file.touch(mode=0o600)
            file.write_text(text.rstrip("\n") + "\n")
            words += ["-o", f"{option}={file}"]
    if access.key:
        words += ["-o", "IdentitiesOnly=yes"]
    return shlex.join(words)


@contextmanager
def _plain_errors(url: str) -> Iterator[None]:
    """Turn what dulwich, the network and a hostile server can do into Becalm's errors."""
    from dulwich.client import HTTPProxyUnauthorized, HTTPUnauthorized  # noqa: PLC0415  (as above)
    from dulwich.errors import GitProtocolError, HangupException, NotGitRepository  # noqa: PLC0415  (as above)
    from urllib3.exceptions import HTTPError  # noqa: PLC0415  (as above)

    try:
        yield
    except BecalmError:
        raise
    except (HTTPUnauthorized, HTTPProxyUnauthorized) as error:
        hint = "name a connection with a user and a token that may read it"
        raise AccessDenied("the server wants other credentials", where=url, hint=hint) from error
    except NotGitRepository as error:
        hint = "look at the URL, and at what the connection's user may see"
        raise NotFound("there is no repository there, or these credentials may not see it", where=url, hint=hint) from error
    except HangupException as error:
        said = " ".join(line.decode(errors="replace").strip() for line in error.stderr_lines or ())[:500]
        raise _of_ssh(said)(f"the server ended the talk: {said or error}", where=url, hint="look at the key and at known_hosts") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise PermanentError("there is no room for it where this runs", where=url, hint="make room in the temporary folder") from error
        raise TransientError(f"it cannot be reached: {error}"[:500], where=url, hint="look at the network and the server") from error
    except GitProtocolError as error:
        hint = "look at the network, the URL and the user's rights"
        raise TransientError(f"it cannot be fetched: {error}"[:500], where=url, hint=hint) from error
    except Exception as error:  # what a server makes a parser raise is not known beforehand
        raise PermanentError(
            f"what the server sent cannot be read: {type(error).__name__}", where=url, hint="look at the repository"
        ) from error


def _of_ssh(said: str) -> Callable[..., BecalmError]:
    refused = "verification failed" in said or "Permission denied" in said or "IDENTIFICATION HAS CHANGED" in said
    return AccessDenied if refused else TransientError
