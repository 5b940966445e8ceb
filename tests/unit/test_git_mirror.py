"""Mirrors of repositories of code: all refs, only what is new, bounded, and each failure one sentence with what to do."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo
from tests.unit.git_scenes import Code, refusal, served

from becalm.errors import AccessDenied, BecalmError, Damaged, NotFound, PermanentError, TransientError, UsageError
from becalm.git import mirror
from becalm.git.access import GitAccess
from becalm.git.contents import clone, inspect, ref_of
from becalm.git.mirror import Remote

NOBODY = GitAccess()
MIB = 1 << 20


def fetched(url: str, folder: Path, access: GitAccess = NOBODY, *, most_bytes: int = 64 * MIB, seconds: float = 60) -> Remote:
    return mirror.fetch(url, folder, access, most_bytes=most_bytes, seconds=seconds)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    """A repository with one commit."""
    return Code.begun(tmp_path / "code")


def packs(folder: Path) -> set[str]:
    return {file.name for file in (folder / "objects" / "pack").glob("*.pack")}


def test_a_mirror_has_every_ref_and_all_that_they_need(code: Code, tmp_path: Path) -> None:
    """Branches, and tags with their own objects; git itself finds nothing wrong with it."""
    code.tag("v1")
    code.commit({"more.yaml": "more: 1\n"})
    code.branch("next")
    remote = fetched(code.url, tmp_path / "m")

    assert sorted(remote.refs) == ["refs/heads/main", "refs/heads/next", "refs/tags/v1"]
    assert remote.head == "refs/heads/main"
    assert mirror.look(code.url, NOBODY) == remote
    if shutil.which("git"):
        checked = subprocess.run(["git", "fsck", "--strict"], cwd=tmp_path / "m", capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_a_mirror_is_brought_up_to_date_by_what_is_new(code: Code, tmp_path: Path) -> None:
    """Packs that were there stay as they are; a ref that is gone at the server goes."""
    code.branch("old")
    fetched(code.url, tmp_path / "m")
    before = packs(tmp_path / "m")
    fetched(code.url, tmp_path / "m")
    same = packs(tmp_path / "m")
    code.commit({"more.yaml": "more: 1\n"})
    code.unbranch("old")
    remote = fetched(code.url, tmp_path / "m")

    assert same == before
    assert before < packs(tmp_path / "m")
    assert sorted(remote.refs) == ["refs/heads/main"]


def test_over_http_with_the_right_password_alone(code: Code, tmp_path: Path) -> None:
    """No error names the password."""
    with served(code, password="open sesame") as url:
        remote = fetched(url, tmp_path / "m", GitAccess(username="robot", password="open sesame"))
        wrong = refusal(url, GitAccess(username="robot", password="a guess of mine"))
        nobody = refusal(url, NOBODY)

    assert sorted(remote.refs) == ["refs/heads/main"]
    assert wrong
    assert nobody
    assert (wrong.kind, nobody.kind, "guess" in wrong.said) == (AccessDenied, AccessDenied, False)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("file:///no/such/place", NotFound),
        ("http://127.0.0.1:1/code.git", TransientError),
        ("ssh://git@127.0.0.1:1/code.git", TransientError),
        ("ftp://example.org/code.git", PermanentError),
    ],
)
def test_what_cannot_be_reached_is_told(url: str, error: type[BecalmError]) -> None:
    """With its place, and what to do."""
    told = refusal(url, NOBODY)

    assert told
    assert (told.kind, told.where, bool(told.hint)) == (error, url, True)


def test_a_server_that_speaks_something_else_is_told(code: Code) -> None:
    """A web page is no repository."""
    with served(code) as url:
        told = refusal(url.replace("code.git", "page"), NOBODY)

    assert told
    assert urlsplit(told.where).path == "/page"


def test_what_is_too_large_is_not_taken(code: Code, tmp_path: Path) -> None:
    """Of a pack that was given up nothing stays."""
    code.commit({"large.bin": "".join(f"{number * number}\n" for number in range(200_000))})
    with pytest.raises(PermanentError, match="larger than") as told:
        fetched(code.url, tmp_path / "m", most_bytes=10_000)

    assert "maxSize" in told.value.hint
    assert packs(tmp_path / "m") == set()


def test_what_takes_too_long_is_given_up(code: Code, tmp_path: Path) -> None:
    """However little it is."""
    with pytest.raises(TransientError, match="too long"):
        fetched(code.url, tmp_path / "m", seconds=-1)


def test_a_repository_without_the_ref_is_told_with_what_there_is(code: Code) -> None:
    """An empty one is said to be empty."""
    remote = mirror.look(code.url, NOBODY)
    with pytest.raises(NotFound) as other:
        ref_of(remote, "production")
    with pytest.raises(NotFound) as empty:
        ref_of(Remote(refs={}), "main")

    assert "branches main" in other.value.hint
    assert "empty" in empty.value.hint


def test_a_ref_is_named_short_or_whole(code: Code) -> None:
    """A branch comes before a tag of the same name, as git has it for a clone."""
    code.tag("v1")
    remote = mirror.look(code.url, NOBODY)

    assert [ref_of(remote, name) for name in ("main", "v1", "refs/tags/v1")] == ["refs/heads/main", "refs/tags/v1", "refs/tags/v1"]


def test_what_a_working_copy_would_lack_is_told(code: Code, tmp_path: Path) -> None:
    """Submodules, and files in LFS."""
    clean = fetched(code.url, tmp_path / "m")
    nothing = inspect(tmp_path / "m", ref_of(clean, "main"), where="w")
    last = code.commit({".gitmodules": "[submodule]\n", ".gitattributes": "*.bin filter=lfs diff=lfs\n"})
    remote = fetched(code.url, tmp_path / "m")
    revision, found = inspect(tmp_path / "m", ref_of(remote, "main"), where="w")

    assert nothing[1] == []
    assert revision == last
    assert [("submodules" in one.message, "LFS" in one.message) for one in found] == [(True, False), (False, True)]


def test_a_clone_has_the_files_of_its_branch_and_the_true_origin(code: Code, tmp_path: Path) -> None:
    """A tag is as good; a folder with something in it is refused."""
    code.tag("v1")
    code.commit({"more.yaml": "more: 1\n"})
    remote = fetched(code.url, tmp_path / "m")
    clone(tmp_path / "m", tmp_path / "main", ref_of(remote, "main"), origin="https://git.example.org/code.git")
    clone(tmp_path / "m", tmp_path / "tag", ref_of(remote, "v1"), origin="https://git.example.org/code.git")
    with pytest.raises(UsageError):
        clone(tmp_path / "m", tmp_path / "tag", ref_of(remote, "v1"), origin="")

    assert sorted(file.name for file in (tmp_path / "main").iterdir()) == [".git", "more.yaml", "shop.yaml"]
    assert sorted(file.name for file in (tmp_path / "tag").iterdir()) == [".git", "shop.yaml"]
    assert "url = https://git.example.org/code.git" in (tmp_path / "main" / ".git" / "config").read_text()


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT", b"a/../../b"])
def test_a_hostile_tree_writes_nothing_outside(code: Code, tmp_path: Path, name: bytes) -> None:
    """Names that lead out of the folder, or into its own `.git`, are refused or left out."""
    with Repo(str(code.folder)) as repository:
        blob, tree, commit = Blob.from_string(b"evil"), Tree(), Commit()
        tree.add(name, 0o100644, blob.id)
        commit.tree, commit.author, commit.committer, commit.message = tree.id, b"a <a>", b"a <a>", b"x"
        commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
        for one in (blob, tree, commit):
            repository.object_store.add_object(one)
        repository.refs[b"refs/heads/main"] = commit.id  # type: ignore[index]
    remote = fetched(code.url, tmp_path / "m")
    with suppress(Damaged):
        clone(tmp_path / "m", tmp_path / "inner" / "c", ref_of(remote, "main"), origin="https://x/y")

    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"evil"]


def test_ssh_asks_nobody_and_trusts_no_unknown_host(tmp_path: Path) -> None:
    """The key and the known hosts stand in files that nobody else may read."""
    command = mirror._ssh(GitAccess(key="KEY", known_hosts="git.example.org ssh-ed25519 AAAA"), tmp_path)

    assert "StrictHostKeyChecking=yes" in command
    assert "BatchMode=yes" in command
    assert [(file.name, file.stat().st_mode & 0o777) for file in sorted(tmp_path.iterdir())] == [("key", 0o600), ("known_hosts", 0o600)]
    assert "KEY" not in command.replace(f"{tmp_path}/key", "")


def test_secrets_are_not_printed() -> None:
    """Neither of a connection nor in its form."""
    assert "secret" not in repr(GitAccess(password="secret", key="secret"))
