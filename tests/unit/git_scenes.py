"""Repositories of code for tests: made by dulwich, served by it over HTTP on the loopback, with a password if one is asked for."""

from __future__ import annotations

import gc
import ssl
import threading
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from becalm.errors import BecalmError
from becalm.git import mirror
from becalm.git.access import GitAccess

WHO = b"Somebody <somebody@example.org>"


@dataclass
class Code:
    """A repository with a working copy."""

    folder: Path

    @classmethod
    def begun(cls, folder: Path) -> Code:
        """Make one with one commit on main."""
        folder.mkdir(parents=True)
        Repo.init(str(folder), default_branch=b"main").close()
        made = cls(folder)
        made.commit({"shop.yaml": "replicas: 1\n"})
        return made

    @property
    def url(self) -> str:
        """As a mirror finds it on this machine."""
        return f"file://{self.folder}"

    def commit(self, files: dict[str, str]) -> str:
        """Write files and commit them. Return the commit's id."""
        for name, text in files.items():
            (self.folder / name).write_text(text)
        porcelain.add(str(self.folder), [str(self.folder / name) for name in files])
        done = porcelain.commit(str(self.folder), message=b"change", author=WHO, committer=WHO)
        return bytes(done).decode()

    def tag(self, name: str) -> None:
        """Tag what is there, with an object of its own."""
        porcelain.tag_create(str(self.folder), name.encode(), author=WHO, message=b"a tag", annotated=True)

    def branch(self, name: str) -> None:
        """Begin a branch."""
        porcelain.branch_create(str(self.folder), name)

    def unbranch(self, name: str) -> None:
        """Remove a branch."""
        porcelain.branch_delete(str(self.folder), name)


@dataclass(frozen=True)
class Refusal:
    """How a look ended."""

    kind: type[BecalmError]
    said: str
    where: str
    hint: str


def refusal(url: str, access: GitAccess) -> Refusal | None:
    """Look at a repository that cannot be had. dulwich leaves its end of a talk that failed to the collector, which is sent for here."""
    found = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            mirror.look(url, access)
        except BecalmError as error:
            found = Refusal(type(error), str(error), error.where, error.hint)
        gc.collect()
    return found


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(code: Code, *, password: str = "", tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the URL at which a repository is served over HTTP, or HTTPS."""
    with Repo(str(code.folder)) as repository:
        inner = make_wsgi_chain(DictBackend({b"/code.git": repository, "/code.git": repository}))

        def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            wanted = f"Basic {b64encode(f'robot:{password}'.encode()).decode()}"
            if password and environ.get("HTTP_AUTHORIZATION") != wanted:
                start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="code"'), ("Content-Length", "0")])
                return [b""]
            answered: Iterable[bytes] = inner(environ, start)
            return answered

        server = make_server("127.0.0.1", 0, guarded, handler_class=_Quiet)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/code.git"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
