"""What is in a mirror: the revision of a ref, what the mirror does not hold, and a working copy of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from becalm.errors import BecalmError, Damaged, NotFound, UsageError
from becalm.model import Finding, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.git.mirror import Remote


def ref_of(remote: Remote, ref: str) -> str:
    """Return the whole name of a branch or tag. Raises NotFound."""
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}"):
        if name in remote.refs:
            return name
    there = ", ".join(name.removeprefix("refs/heads/") for name in remote.refs if name.startswith("refs/heads/"))[:200]
    hint = f"there are the branches {there}" if there else "the repository is empty"
    raise NotFound(f"there is no branch or tag {ref}", where="ref", hint=hint)


def inspect(folder: Path, name: str, *, where: str) -> tuple[str, list[Finding]]:
    """Return the revision (a commit's id) of a ref of a mirror, and what a working copy of it would lack. Raises Damaged."""
    from dulwich.repo import Repo  # noqa: PLC0415  (only a mirror needs it)

    try:
        with Repo(str(folder)) as mirror:
            objects: Any = mirror.object_store
            refs: Any = mirror.refs
            commit = _commit(objects, refs[name.encode("utf-8", "surrogateescape")])
            tree = objects[commit.tree]
            found: list[Finding] = []
            if b".gitmodules" in tree:
                found.append(_lacks(where, "it has submodules, which are repositories of their own", "name them in the policy too"))
            if b".gitattributes" in tree and b"filter=lfs" in objects[tree[b".gitattributes"][1]].as_raw_string():
                found.append(_lacks(where, "it keeps files in LFS: only pointers to them are in it", "back up the LFS server too"))
            if mirror.get_shallow():
                found.append(_lacks(where, "the server has a shallow history: what is before it is not there", "mirror a whole repository"))
            return str(commit.id.decode("ascii")), found
    except BecalmError:
        raise
    except Exception as error:  # what is in a repository was written by others
        raise Damaged(f"the mirror cannot be read: {type(error).__name__}: {error}"[:300], where=where) from error


def _commit(objects: Any, sha: bytes) -> Any:
    found = objects[sha]
    while found.type_name == b"tag":
        found = objects[found.object[1]]
    if found.type_name != b"commit":
        raise ValueError("the ref names no commit")
    return found


def _lacks(where: str, message: str, remedy: str) -> Finding:
    return Finding(where=where, message=message, remedy=remedy, severity=Severity.WARNING)


def clone(mirror: Path, target: Path, name: str, *, origin: str) -> None:
    """Make a clone with a working copy of a branch or tag, in a folder that is empty or not there; its `origin` is where the
    repository came from. Raises UsageError, Damaged.

    dulwich refuses names in trees that would lead out of the folder, or into its `.git`.
    """
    from dulwich import porcelain  # noqa: PLC0415  (as above)

    if target.exists() and any(target.iterdir()):
        raise UsageError("the folder is not empty", where=str(target), hint="name a new one")
    branch = name.removeprefix("refs/heads/").removeprefix("refs/tags/").encode("utf-8", "surrogateescape")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with porcelain.clone(str(mirror), str(target), errstream=io.BytesIO(), checkout=True, branch=branch) as made:
            config = made.get_config()
            config.set((b"remote", b"origin"), b"url", origin.encode())
            config.write_to_path()
    except OSError as error:
        raise UsageError(f"it cannot be written: {error.strerror or error}", where=str(target), hint="look at the folder") from error
    except Exception as error:  # as above
        raise Damaged(f"the repository cannot be checked out: {type(error).__name__}: {error}"[:300], where=str(target)) from error
