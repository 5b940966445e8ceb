"""Whole file semantics, both ways: what Becalm writes and restores, what restic restores of ours, what Becalm restores of restic's.

A portrait of the folder before and after is the judge; it shares no code with the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
from tests.contract.corners import AS_ROOT, CORNERS, ONLY_ROOT, make_corners, make_deep
from tests.contract.portraits import Entry, portrait
from tests.contract.restics import PASSWORD, Restic, the_restic, version_of

from becalm.repository.backup import Written, back_up_device, back_up_directory
from becalm.repository.check import check
from becalm.repository.crypto import Kdf
from becalm.repository.extract import extract, extract_device
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import list_snapshots, save_snapshot
from becalm.repository.tree import lookup, walk
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore

CHEAP = Kdf(n=1 << 10, r=8, p=1)
SINCE = {"odd_links": (0, 16), "link_attributes": (0, 18)}
"""The first restic that is known to keep a corner; all others it always kept."""


def a_repository(folder: Path) -> Repository:
    folder.mkdir()
    return init_repository(DirectoryStore(str(folder)), PASSWORD, kdf=CHEAP)


def save(repository: Repository, source: Path) -> Written:
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 3, 4, tzinfo=UTC), tree=written.tree))
    return written


def made(path: Path) -> Path:
    path.mkdir()
    return path


def wipe(path: Path) -> None:
    """Remove a folder that was made not to be removed."""
    subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", str(path)], check=True)


def by_becalm(home: Path, source: Path) -> Path:
    """Becalm writes, Becalm restores."""
    repository = a_repository(home / "repository")
    written = save(repository, source)
    done = extract(open_repository(repository.store, PASSWORD), written.tree, made(home / "restored"), root=written.root)
    assert (written.unreadable, done.failures) == ((), ())
    return home / "restored"


def by_restic_of_ours(home: Path, source: Path) -> Path:
    """Becalm writes, restic restores."""
    save(a_repository(home / "repository"), source)
    restic = Restic(the_restic(), home / "repository", home)
    restic("restore", "latest", "--target", str(home / "restored"), *(("--sparse",) if restic.version >= (0, 15) else ()))
    return home / "restored"


def by_becalm_of_restics(home: Path, source: Path) -> Path:
    """Restic writes, Becalm restores."""
    restic = Restic(the_restic(), home / "repository", home)
    restic("init")
    restic("backup", ".", within=source)
    repository = open_repository(DirectoryStore(str(home / "repository")), PASSWORD)
    [(_, snapshot)] = list_snapshots(repository)
    done = extract(repository, snapshot.tree, made(home / "restored"))
    assert done.failures == ()
    return home / "restored"


ROUTES: dict[str, Callable[[Path, Path], Path]] = {
    "becalm to becalm": by_becalm,
    "becalm to restic": by_restic_of_ours,
    "restic to becalm": by_becalm_of_restics,
}


@pytest.fixture(scope="module", params=list(ROUTES))
def route(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    """Send all corners one way, once; each test looks at one of them."""
    home = tmp_path_factory.mktemp("route")
    source = made(home / "source")
    restic = version_of(the_restic())
    make_corners(source, without=frozenset(corner for corner, since in SINCE.items() if "restic" in request.param and restic < since))
    yield request.param, source, ROUTES[request.param](home, source)
    wipe(home)


@pytest.mark.parametrize("corner", list(CORNERS))
def test_a_corner_comes_back_as_it_was(route: tuple[str, Path, Path], corner: str) -> None:
    """Type, mode, owner, times, content, links, targets, devices and attributes of every entry are the same, one by one."""
    way, source, restored = route
    if not (source / corner).exists():
        pytest.skip("this user cannot make it" if corner in ONLY_ROOT and not AS_ROOT else "this restic does not know it")
    if (way, corner) == ("becalm to restic", "far_times"):
        pytest.skip("restic's restore counts nanoseconds in 64 bits, which end in 2262; its backup keeps them")
    wanted, found = portrait(source / corner, holes=False), portrait(restored / corner, holes=False)

    assert found.keys() == wanted.keys()
    for path, entry in wanted.items():
        assert (path, found[path]) == (path, entry)


def test_holes_come_back_as_holes(route: tuple[str, Path, Path]) -> None:
    """What was a hole is one again, but for the last page of a file, which may be written."""
    way, source, restored = route
    if way == "becalm to restic" and version_of(the_restic()) < (0, 15):
        pytest.skip("this restic restores no holes")
    wanted, found = portrait(source / "sparse"), portrait(restored / "sparse")

    assert sum(entry.holes for entry in wanted.values()) > 100 << 20
    for path, entry in wanted.items():
        assert (path, found[path].holes + 8192 >= entry.holes) == (path, True)


def test_a_path_longer_than_any_call_takes_comes_back(tmp_path: Path) -> None:
    """Entries are reached from folder to folder, never by their whole path."""
    source = made(tmp_path / "source")
    assert make_deep(source) > 2 * os.pathconf("/", "PC_PATH_MAX") - 200
    wanted = portrait(source)
    found = portrait(by_becalm(tmp_path, source))
    wipe(source)
    wipe(tmp_path / "restored")

    assert found == wanted


def test_a_folder_of_a_hundred_thousand_entries_comes_back(tmp_path: Path) -> None:
    """Every name of a very wide folder is there again, and restic agrees."""
    source = made(tmp_path / "source")
    fd = os.open(source, os.O_RDONLY)
    for number in range(100_000):
        os.close(os.open(f"entry-{number}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.close(fd)
    restored = by_becalm(tmp_path, source)
    restic = Restic(the_restic(), tmp_path / "repository", tmp_path)

    assert sorted(os.listdir(restored)) == sorted(os.listdir(source))  # noqa: PTH208  (names alone, and many)
    assert restic.documents("stats", "latest")[0]["total_file_count"] == 100_000
    assert "no errors were found" in restic("check")


def test_owners_are_kept_by_number_and_not_by_a_name_of_this_machine(tmp_path: Path) -> None:
    """A mover's own users are not the application's: a name of its image would be a wrong one."""
    source = made(tmp_path / "source")
    (source / "file").write_bytes(b"x")
    repository = a_repository(tmp_path / "repository")
    written = save(repository, source)
    node = lookup(repository, written.tree, "file")

    assert (node.uid, node.gid) == (os.geteuid(), (source / "file").stat().st_gid)
    assert (node.user, node.group) == ("", "")


def test_restics_names_of_owners_are_read_and_survive(tmp_path: Path) -> None:
    """What restic knew of a user's name stays in the tree."""
    source = made(tmp_path / "source")
    (source / "file").write_bytes(b"x")
    restic = Restic(the_restic(), tmp_path / "repository", tmp_path)
    restic("init")
    restic("backup", ".", within=source)
    repository = open_repository(DirectoryStore(str(tmp_path / "repository")), PASSWORD)
    [(_, snapshot)] = list_snapshots(repository)

    assert lookup(repository, snapshot.tree, "file").user == (source / "file").owner()


def test_a_socket_is_left_out_of_ours_and_passed_over_in_restics(tmp_path: Path) -> None:
    """Nobody listens after a restore: ours says so when it writes, and when it reads what restic kept of one."""
    source = made(tmp_path / "source")
    (source / "file").write_bytes(b"x")
    with contextlib.chdir(source), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        ours = save(a_repository(tmp_path / "ours"), source)
        restic = Restic(the_restic(), tmp_path / "theirs", tmp_path)
        restic("init")
        restic("backup", ".", within=source)
    repository = open_repository(DirectoryStore(str(tmp_path / "theirs")), PASSWORD)
    [(_, snapshot)] = list_snapshots(repository)
    done = extract(repository, snapshot.tree, made(tmp_path / "restored"))

    assert [note.where for note in ours.notes] == ["socket"]
    assert ours.unreadable == ()
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["file"]
    assert done.failures == ()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder with another file system mounted in it, whose inodes have the same numbers."""
    source = made(tmp_path / "source")
    for name in ("one", "two"):
        made(source / name)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(source / name)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this user cannot mount")
        (source / name / "a").write_bytes(name.encode())
        os.link(source / name / "a", source / name / "b")
    yield source
    for name in ("one", "two"):
        subprocess.run(["umount", str(source / name)], check=False, capture_output=True)


@pytest.mark.skipif(not AS_ROOT, reason="only root mounts")
def test_what_is_mounted_inside_comes_along_and_its_inodes_are_its_own(mounted: Path, tmp_path: Path) -> None:
    """Two file systems with the same inode numbers do not become one file."""
    assert (mounted / "one" / "a").stat().st_ino == (mounted / "two" / "a").stat().st_ino
    restored = by_becalm(tmp_path, mounted)
    wanted, found = portrait(mounted), portrait(restored)

    assert {path: entry.links for path, entry in found.items()} == {path: entry.links for path, entry in wanted.items()}
    assert (restored / "two" / "b").read_bytes() == b"two"


@pytest.mark.skipif(not Path("/proc/sys/fs/epoll").is_dir(), reason="there is no /proc here")
def test_a_file_that_says_it_is_empty_and_is_not_is_read_to_its_end(tmp_path: Path) -> None:
    """Some file systems give no size before they are read."""
    source = Path("/proc/sys/fs/epoll")
    repository = a_repository(tmp_path / "repository")
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    extract(repository, written.tree, made(tmp_path / "restored"))

    assert (source / "max_user_watches").stat().st_size == 0
    assert (tmp_path / "restored" / "max_user_watches").read_text() == (source / "max_user_watches").read_text() != ""
    assert lookup(repository, written.tree, "max_user_watches").size > 0


UNREADABLE = """
import json, sys
from pathlib import Path
from typing import Self
from becalm.repository.backup import back_up_directory
from becalm.repository.reader import open_repository
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore
repository = open_repository(DirectoryStore(sys.argv[1]), sys.argv[2])
with Writer(repository) as writer:
    written = back_up_directory(repository, writer, Path(sys.argv[3]))
print(json.dumps({"unreadable": [finding.where for finding in written.unreadable], "tree": written.tree}))
"""


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not AS_ROOT or not shutil.which("setpriv"), reason="only root can become somebody else")
def test_what_a_poor_user_may_not_read_is_named_and_the_rest_is_there(open_home: Path) -> None:
    """Each unreadable file and folder is in the result, by its name; what is in an unreadable folder is missing and not invented."""
    source = made(open_home / "source")
    (source / "open").write_bytes(b"o")
    (source / "closed").write_bytes(b"c")
    made(source / "shut")
    (source / "shut" / "inside").write_bytes(b"i")
    (source / "closed").chmod(0)
    (source / "shut").chmod(0o711)
    repository = a_repository(open_home / "repository")
    subprocess.run(["chown", "-R", "65534:65534", str(open_home / "repository")], check=True)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    arguments = [sys.executable, "-c", UNREADABLE, str(open_home / "repository"), PASSWORD, str(source)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert sorted(told["unreadable"]) == ["closed", "shut"]
    assert [path for path, _ in walk(open_repository(repository.store, PASSWORD), told["tree"])] == ["open", "shut"]


SECRET = b"not of this volume"


class Churn:
    """Changes a folder as fast as it can: files grow, shrink, vanish, come back, become folders, links and pipes."""

    def __init__(self, folder: Path, outside: Path) -> None:
        self._folder, self._outside = folder, outside
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            path = self._folder / f"file{self.rounds * 7 % 150}"
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            self._make(path, self.rounds % 6)
            self.rounds += 1

    def _make(self, path: Path, kind: int) -> None:
        if kind == 0:
            path.symlink_to(self._outside)
        elif kind == 1:
            path.mkdir()
            (path / "inside").write_bytes(b"i" * 3000)
        elif kind == 2:
            os.mkfifo(path)
        elif kind == 3:
            path.write_bytes(b"g" * 700_000)
            os.truncate(path, 5)
        elif kind == 4:
            path.write_bytes(b"s")
            with path.open("ab") as file:
                for _ in range(20):
                    file.write(b"g" * 60_000)
                    file.flush()


def test_a_folder_that_changes_under_the_reader_gives_a_whole_tree_of_what_was_seen(tmp_path: Path) -> None:
    """Whatever is replaced by whatever while it is read: nothing outside is read, nothing hangs, and the tree is whole and restores."""
    (tmp_path / "outside").write_bytes(SECRET)
    source = made(tmp_path / "source")
    for number in range(150):
        (source / f"file{number}").write_bytes(b"f" * (number * 9000))
    (source / "steady").write_bytes(b"steady")
    repository = a_repository(tmp_path / "repository")
    trees: list[Written] = []
    with Churn(source, tmp_path / "outside") as churn:
        parent = ""
        for _ in range(12):
            with Writer(repository) as writer:
                trees.append(back_up_directory(repository, writer, source, parent_tree=parent))
            parent = trees[-1].tree
            save_snapshot(repository, SnapshotDoc(time=datetime(2026, 3, 4, tzinfo=UTC), tree=parent))
    again = open_repository(repository.store, PASSWORD)
    for number, written in enumerate(trees):
        done = extract(again, written.tree, made(tmp_path / f"restored{number}"))
        assert (written.unreadable, done.failures) == ((), ())
        assert (tmp_path / f"restored{number}" / "steady").read_bytes() == b"steady"
        for path in (tmp_path / f"restored{number}").iterdir():
            assert path.is_symlink() or not path.is_file() or SECRET not in path.read_bytes()

    assert churn.rounds > 100
    assert any(note for written in trees for note in written.notes)
    assert check(again, read_data=True) == []


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """Attach a file as a block device."""
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("there are no loop devices here")
    try:
        yield Path(done.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.mark.skipif(not AS_ROOT, reason="only root attaches devices")
def test_a_real_block_device_comes_back_to_the_byte_and_restic_reads_its_image(tmp_path: Path) -> None:
    """A device is read whole, its zeros cost nothing, and old content of the goal is overwritten, zeros included."""
    image, goal = tmp_path / "image", tmp_path / "goal"
    with image.open("wb") as file:
        file.write(os.urandom(3 << 20))
        file.seek(20 << 20)
        file.write(os.urandom(4096))
        file.truncate(32 << 20)
    goal.write_bytes(b"\xff" * (33 << 20))
    repository = a_repository(tmp_path / "repository")
    with loop_device(image) as device, Writer(repository) as writer:
        written = back_up_device(writer, device)
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 3, 4, tzinfo=UTC), tree=written.tree))
    with loop_device(goal) as device:
        extract_device(repository, written.tree, device)
    restic = Restic(the_restic(), tmp_path / "repository", tmp_path)
    restic("restore", "latest", "--target", str(tmp_path / "restored"))

    assert goal.read_bytes()[: 32 << 20] == image.read_bytes()
    assert goal.read_bytes()[32 << 20 :] == b"\xff" * (1 << 20)
    assert (tmp_path / "restored" / "disk.img").read_bytes() == image.read_bytes()
    assert written.bytes_added < 5 << 20
    assert check(repository, read_data=True) == []


def test_a_portrait_tells_what_differs(tmp_path: Path) -> None:
    """The judge of this page is not blind: each change of a kind shows."""
    path = made(tmp_path / "it") / "file"
    path.write_bytes(b"x")
    before = portrait(tmp_path / "it")[b"file"]
    os.utime(path, ns=(1, 1))
    path.chmod(0o600 if before.mode & 0o777 != 0o600 else 0o640)
    after = portrait(tmp_path / "it")[b"file"]

    assert isinstance(before, Entry)
    assert before != after
    assert before == replace(after, mode=before.mode, mtime_ns=before.mtime_ns)
