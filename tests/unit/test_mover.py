"""The mover: told by its environment, it leaves one result in the bucket, whatever happens."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from becalm.clock import SystemClock
from becalm.errors import NotFound
from becalm.model import Direction, MoverResult, MoverSpec, VolumeMode, VolumeRef, from_payload, payload
from becalm.mover.main import MOST_TERMINATION_BYTES, run
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.format import Layout
from becalm.repository.reader import init_repository
from becalm.storage import open_store
from becalm.storage.base import ObjectStore

PASSWORD = "p"


class Scene:
    """A repository in a folder, a volume, and what a mover is given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file://{root}/bucket/shop"
        self.store: ObjectStore = open_store(self.url, {}, create=True)
        init_repository(self.store, PASSWORD, kdf=Kdf(n=1 << 4, r=8, p=1))
        self.volume = root / "volume"
        self.volume.mkdir()
        self.secrets = root / "secrets"
        self.secrets.mkdir()
        (self.secrets / "password").write_text(PASSWORD + "\n")
        self.termination = root / "termination"
        self.out = io.StringIO()

    def spec(self, **changes: object) -> MoverSpec:
        """Return a specification like any other but for these."""
        given = {
            "name": "becalm-mover",
            "run": "0123456789",
            "direction": Direction.BACK_UP,
            "volume": VolumeRef(namespace="shop", claim="data"),
            "namespace": "becalm",
            "claim": "data",
            "repository": self.url,
            "secret": "becalm-run",
        }
        return MoverSpec(**(given | changes))

    def environment(self, spec: MoverSpec, **changes: str) -> dict[str, str]:
        """Return what a pod would set."""
        return {
            "BECALM_MOVER_SPEC": json.dumps(payload(spec)),
            "BECALM_SECRET_DIR": str(self.secrets),
            "BECALM_VOLUME": str(self.volume),
            "BECALM_TERMINATION": str(self.termination),
        } | changes

    def run(self, spec: MoverSpec, **changes: str) -> tuple[int, MoverResult]:
        """Run it here; return its exit code and its result."""
        code = run(self.environment(spec, **changes), out=self.out, clock=SystemClock())
        return code, self.result(spec)

    def result(self, spec: MoverSpec) -> MoverResult:
        """Return what it left in the bucket."""
        return from_payload(MoverResult, json.loads(self.store.get(Layout.run_result(spec.run, spec.name))))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_volume_goes_in_and_comes_out(scene: Scene) -> None:
    """With its own directory's mode and time, and the result says what was moved."""
    (scene.volume / "folder").mkdir()
    (scene.volume / "folder" / "file").write_bytes(b"data")
    scene.volume.chmod(0o2750)
    os.utime(scene.volume, ns=(1, 1_000_000_000_000_000_001))
    code, saved = scene.run(scene.spec())
    other = scene.root / "other"
    other.mkdir()
    again, restored = scene.run(
        scene.spec(direction=Direction.RESTORE, tree=saved.tree, root=saved.root, name="back"), BECALM_VOLUME=str(other)
    )

    assert (code, again) == (0, 0)
    assert (saved.files, saved.bytes_read, saved.bytes_total, saved.error) == (1, 4, 4, "")
    assert saved.peak_memory_bytes > 0
    assert (restored.tree, restored.files, restored.error) == (saved.tree, 1, "")
    assert (other / "folder" / "file").read_bytes() == b"data"
    assert (other.stat().st_mode & 0o7777, other.stat().st_mtime_ns) == (0o2750, 1_000_000_000_000_000_001)


def test_the_termination_message_is_a_short_copy(scene: Scene) -> None:
    """It fits into what Kubernetes keeps, however much could not be moved."""
    for number in range(300):
        path = scene.volume / f"socket-{number}"
        os.mknod(path, 0o140600)
    _, result = scene.run(scene.spec())
    message = scene.termination.read_bytes()

    assert len(result.notes) == 300
    assert len(message) <= MOST_TERMINATION_BYTES
    assert from_payload(MoverResult, json.loads(message)).tree == result.tree


def test_the_parent_spares_the_reading(scene: Scene) -> None:
    """A second mover with the first one's tree reads nothing."""
    (scene.volume / "file").write_bytes(b"data")
    _, first = scene.run(scene.spec())
    _, second = scene.run(scene.spec(name="second", parent=first.tree, stable_inodes=True))

    assert (second.tree, second.bytes_read, second.bytes_added) == (first.tree, 0, 0)


def test_a_block_device_is_moved_as_one(scene: Scene) -> None:
    """Its path stands where the folder would."""
    device, other = scene.root / "device", scene.root / "other"
    device.write_bytes(b"disk" * 100_000)
    other.write_bytes(b"")
    _, saved = scene.run(scene.spec(mode=VolumeMode.BLOCK), BECALM_VOLUME=str(device))
    code, _ = scene.run(scene.spec(mode=VolumeMode.BLOCK, direction=Direction.RESTORE, tree=saved.tree, name="b"), BECALM_VOLUME=str(other))

    assert code == 0
    assert other.read_bytes() == device.read_bytes()


@pytest.mark.parametrize(
    ("what", "code", "error"),
    [("password", 4, "wrong-password"), ("volume", 4, "permanent"), ("tree", 7, "damaged"), ("no password", 2, "usage")],
)
def test_what_goes_wrong_stands_in_the_result(scene: Scene, what: str, code: int, error: str) -> None:
    """Code and message, with the exit code of the error's class, and no tree."""
    spec = scene.spec(direction=Direction.RESTORE, tree="ab" * 32) if what == "tree" else scene.spec()
    if what == "password":
        (scene.secrets / "password").write_text("wrong")
    elif what == "no password":
        (scene.secrets / "password").unlink()
    elif what == "volume":
        scene.volume.rmdir()
    found, result = scene.run(spec)

    assert found == code
    assert result.error.startswith(f"{error}: ")
    assert result.tree == ""
    assert result.error[:50] in scene.termination.read_text()


def test_a_mover_that_was_told_nothing_says_so(scene: Scene) -> None:
    """Without a specification, with one that is none, and without credentials."""
    for changes in (
        {"BECALM_MOVER_SPEC": ""},
        {"BECALM_MOVER_SPEC": "{"},
        {"BECALM_MOVER_SPEC": '{"format":1}'},
        {"BECALM_SECRET_DIR": "/nowhere"},
    ):
        out = io.StringIO()
        code = run(scene.environment(scene.spec()) | changes, out=out, clock=SystemClock())

        assert code in (2, 4), changes
        assert "error" in json.loads(out.getvalue())


def test_a_mover_whose_lease_is_lost_writes_no_tree(scene: Scene) -> None:
    """Another run has the epoch: this one stops with it."""
    taken = lease.take(scene.store, policy="shop", run="0123456789", seconds=0.0)
    lease.take(scene.store, policy="shop", run="another", seconds=60)
    code, result = scene.run(scene.spec(epoch=taken.epoch))

    assert code == 4
    assert result.error.startswith("lease-lost: ")


def test_a_mover_with_its_lease_goes_on(scene: Scene) -> None:
    """It checks at the beginning and at the end."""
    taken = lease.take(scene.store, policy="shop", run="0123456789", seconds=60)
    code, result = scene.run(scene.spec(epoch=taken.epoch))

    assert (code, result.error) == (0, "")


def test_nothing_of_a_failed_mover_is_visible(scene: Scene) -> None:
    """No result, where even that cannot be written: the caller finds nothing and says so."""
    spec = scene.spec(repository=f"file://{scene.root}/elsewhere")
    code = run(scene.environment(spec), out=scene.out, clock=SystemClock())

    assert code == 4
    with pytest.raises(NotFound):
        scene.result(spec)
