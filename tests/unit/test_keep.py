"""What blueprints keep: streamed from the containers into the repository, checked, bounded, and laid over the volumes at the commit."""

from __future__ import annotations

import io
import tarfile
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.run_scenes import DATA, MORE, Scene, a_cut, a_thaw, an_export, discovered

from becalm.actions import commit, hooks, keep
from becalm.actions.handover import Application, Cut, FreezeOutcome, FreezeRecord, Frozen, HookOrigin, HookPlan, VolumePlan
from becalm.actions.mounts import locate
from becalm.actions.pipe import Pipe
from becalm.errors import HookFailed
from becalm.kube.base import ExecResult
from becalm.model import Consistency, MoverResult, VolumeUse
from becalm.quiesce.blueprint import MODULES, BlueprintName, find, recipe_of
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup, walk
from becalm.testing.fake_clock import NOON
from becalm.testing.saved_points import PASSWORD

LABEL = b"START WAL LOCATION: 0/2000028\n"
SEGMENT = bytes(range(256)) * 1000
GOOD = {"data/pg/backup_label": LABEL, "wal/log/000000010000000000000002": SEGMENT}


def a_tar(files: dict[str, bytes], *, owner: int = 101) -> bytes:
    """Return a tar stream, as a container writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = len(content), 0o600, owner, owner, 1_700_000_000
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class Container:
    """Answers what is asked of it by the word that its command ends with, and remembers what it was asked."""

    def __init__(self, **answers: ExecResult) -> None:
        self.answers, self.asked = answers, []
        self._lock = threading.Lock()

    def __call__(self, *_: object, command: tuple[str, ...], **more: object) -> ExecResult:
        """Answer one command."""
        word = next((part for part in ("names", "roles", "dump", "probe", "end", "becalm-keep") if part in command), "other")
        word = "overlay" if word == "becalm-keep" else word
        name = f"{word}_{command[-1]}" if word == "dump" else word
        with self._lock:
            self.asked.append(name)
        return self.answers.get(name.replace(" ", "_"), ExecResult(stdout=b"", stderr=b"", exit_code=0))


def said(stdout: bytes = b"", *, stderr: bytes = b"", code: int | None = 0) -> ExecResult:
    return ExecResult(stdout=stdout, stderr=stderr, exit_code=code)


def a_database() -> dict:
    """A pod with its data on one claim, the log on another, and something on none."""
    mounts = [{"name": "d", "mountPath": "/data"}, {"name": "w", "mountPath": "/wal"}, {"name": "e", "mountPath": "/data/empty"}]
    volumes = [
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "more"}},
        {"name": "e", "emptyDir": {}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db-0", "namespace": "shop", "labels": {"app": "db"}},
        "spec": {"containers": [{"name": "main", "volumeMounts": mounts}], "volumes": volumes},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": True, "state": {"running": {}}}],
        },
    }


def a_hook(use: str = "postgresql") -> HookPlan:
    return HookPlan(name="spec.quiesce.hooks.0", origin=HookOrigin.POLICY, namespace="shop", labels="app=db", use=use)


def a_record(*used: str) -> FreezeRecord:
    """Say that the pod was frozen by these blueprints."""
    frozen = tuple(
        Frozen(
            hook=a_hook(use), pod="db-0", uid="1", container="main", switch="s", outcome=FreezeOutcome.FROZEN, asked=NOON, confirmed=NOON
        )
        for use in used
    )
    return FreezeRecord(application="shop", frozen=frozen, began=NOON, hooks=len(frozen))


def an_application(*uses: str, use: VolumeUse = VolumeUse.SNAPSHOT) -> Application:
    return Application(
        name="shop",
        namespaces=("shop",),
        hooks=tuple(a_hook(name) for name in uses),
        volumes=(VolumePlan(volume=DATA, use=use), VolumePlan(volume=MORE, use=use)),
    )


def kept(
    container: Container, *uses: str, scene: Scene | None = None, use: VolumeUse = VolumeUse.SNAPSHOT, **thaw: object
) -> tuple[Scene, Cut]:
    """Fetch what the blueprints of one application keep, after a cut."""
    made = scene or Scene()
    made.cluster.put(a_database())
    made.cluster.run_command = container
    application = an_application(*uses, use=use)
    record = a_record(*(name for name in uses if hooks.recipe(a_hook(name)).freezes))
    cut = a_cut(made, "shop", DATA, MORE, thawed=a_thaw(**thaw))
    if use is not VolumeUse.SNAPSHOT:
        cut = replace(cut, volumes=tuple(replace(item, plan=replace(item.plan, use=use)) for item in cut.volumes))
    return made, keep.onto(cut, keep.execute(application, record, cut, made.ports, until=None))


def files(scene: Scene, tree: str) -> dict[str, bytes]:
    """Return every file below a tree."""
    repository = open_repository(scene.store, PASSWORD)
    return {path: b"".join(repository.read_file(node)) for path, node in walk(repository, tree) if node.type == "file"} if tree else {}


def test_every_name_has_a_blueprint_and_every_blueprint_a_name() -> None:
    """What a policy can name and what there is are the same, module by module."""
    for name in BlueprintName:
        assert find(name).name is name
        assert recipe_of(name, "", timeout_seconds=30)
    assert set(MODULES) == set(BlueprintName)


def test_an_overlay_goes_under_the_claims_that_its_paths_lie_on() -> None:
    """With owner and mode; the container is told when all is kept."""
    container = Container(overlay=said(a_tar(GOOD)))
    scene, cut = kept(container, "postgresql")

    assert files(scene, cut.kept_tree) == {
        "overlays/shop/data/pg/backup_label": LABEL,
        "overlays/shop/more/log/000000010000000000000002": SEGMENT,
    }
    node = lookup(open_repository(scene.store, PASSWORD), cut.kept_tree, "overlays/shop/data/pg/backup_label")
    assert (node.uid, node.gid, node.permissions, node.mtime_ns) == (101, 101, 0o600, 1_700_000_000 * 10**9)
    assert (cut.findings, cut.thawed.consistency) == ((), Consistency.APPLICATION)
    assert container.asked == ["overlay", "end"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said(code=1, stderr=b"the session is gone\n"), "exit code 1: the session is gone"),
        (said(a_tar(GOOD)[:-3000], code=2, stderr=b"tar: file changed"), "exit code 2: tar: file changed"),
        (said(a_tar(GOOD), code=None), "the stream ended before"),
        (said(a_tar(GOOD)[: 512 + 512 + 512 + 1000]), "no archive"),
        (said(b"\x00\xff" * 5000), "no archive"),
        (said(a_tar({})), "the archive is empty"),
        (said(a_tar({"data/../../etc/passwd": b"x"})), "no plain path"),
        (said(a_tar({"etc/passwd": b"x"})), "lies on no claim"),
        (said(a_tar({"data/empty/x": b"x"})), "lies on no claim"),
    ],
)
def test_an_overlay_that_is_not_whole_is_none_and_lowers_the_label(answer: ExecResult, problem: str) -> None:
    """A finding with a sentence; no file of it, and the container is told all the same."""
    container = Container(overlay=answer)
    scene, cut = kept(container, "postgresql")

    assert files(scene, cut.kept_tree) == {}
    (finding,) = cut.findings
    assert finding.where == "shop/db-0 (main)"
    assert problem in finding.message
    assert cut.thawed.consistency is Consistency.CRASH
    assert container.asked[-1] == "end"


def test_a_link_in_an_archive_is_refused() -> None:
    """Only plain files lie over a volume."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        entry = tarfile.TarInfo("data/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    _, cut = kept(Container(overlay=said(out.getvalue())), "postgresql")

    assert "no plain file" in cut.findings[0].message


def test_nothing_lies_over_a_volume_whose_freeze_did_not_hold() -> None:
    """The label is low already; a log that ends before the cut would do harm."""
    container = Container(overlay=said(a_tar(GOOD)))
    scene, cut = kept(container, "postgresql", consistency=Consistency.CRASH, broken=("shop/db-0",))

    assert (files(scene, cut.kept_tree), cut.findings) == ({}, ())
    assert container.asked == ["end"]


def test_nothing_lies_over_a_volume_that_is_read_while_it_changes() -> None:
    """Its label says so already."""
    scene, cut = kept(Container(overlay=said(a_tar(GOOD))), "postgresql", use=VolumeUse.LIVE)

    assert (files(scene, cut.kept_tree), cut.findings) == ({}, ())


def test_a_dump_of_each_database_and_of_the_roles() -> None:
    """Names that are no file names are quoted; a dump says nothing of the volumes, so the label stays."""
    container = Container(
        names=said(b"orders\na/b\n..\n"), **{"dump_orders": said(b"create table x"), "dump_a/b": said(b"two")}, roles=said(b"create role")
    )
    scene, cut = kept(container, "postgresql-dump", consistency=Consistency.CRASH, reasons=("no hook stills it",))

    assert files(scene, cut.kept_tree) == {
        "dumps/shop/db-0/orders.sql": b"create table x",
        "dumps/shop/db-0/a%2Fb.sql": b"two",
        "dumps/shop/db-0/...sql": b"",
        "dumps/shop/db-0/roles.globals": b"create role",
    }
    assert cut.thawed.reasons == ("no hook stills it",)


def test_a_dump_that_fails_is_a_finding_and_no_file() -> None:
    """What came before it failed must not look whole; the other databases are kept."""
    container = Container(
        names=said(b"good\nbad\n"), dump_good=said(b"whole"), dump_bad=said(b"half", code=1, stderr=b"relation is locked"), roles=said(b"r")
    )
    scene, cut = kept(container, "postgresql-dump")

    assert files(scene, cut.kept_tree) == {"dumps/shop/db-0/good.sql": b"whole", "dumps/shop/db-0/roles.globals": b"r"}
    (finding,) = cut.findings
    assert finding.message == "bad.sql could not be kept: exit code 1: relation is locked"
    assert cut.thawed.consistency is Consistency.APPLICATION


@pytest.mark.parametrize(("names", "problem"), [(said(code=2, stderr=b"no route"), "no route"), (said(b"\n"), "nothing to keep")])
def test_a_server_that_does_not_name_its_databases_is_a_finding(names: ExecResult, problem: str) -> None:
    """Never an empty dump that looks fine."""
    _, cut = kept(Container(names=names), "postgresql-dump")

    assert problem in cut.findings[0].message


def test_a_pod_that_is_not_there_is_a_finding_of_its_dump() -> None:
    """Nothing is kept, and it is said."""
    scene = Scene()
    application = replace(an_application(), hooks=(replace(a_hook("postgresql-dump"), labels="app=none"),))
    cut = a_cut(scene, thawed=a_thaw())
    result = keep.onto(cut, keep.execute(application, a_record(), cut, scene.ports, until=None))

    assert "nothing is kept of it" in result.findings[0].message


def test_two_hooks_that_keep_the_same_are_told() -> None:
    """One of the two is kept."""
    container = Container(names=said(b"a\n"), dump_a=said(b"x"))
    scene, cut = kept(container, "postgresql-dump", "postgresql-dump")

    assert set(files(scene, cut.kept_tree)) == {"dumps/shop/db-0/a.sql", "dumps/shop/db-0/roles.globals"}
    assert {finding.message for finding in cut.findings} == {"two hooks keep this, and only one is kept"}


def test_the_commit_lays_it_into_the_volume_and_a_restore_finds_it_there() -> None:
    """The cut's own files stay, with theirs beside; folders keep the owner that they have in the volume."""
    scene = Scene()
    scene, cut = kept(Container(overlay=said(a_tar(GOOD))), "postgresql", scene=scene)
    begun = scene.begin()
    tree = scene.tree(pg__PG_VERSION=b"15\n", pg__backup_label=b"old", other=b"kept")
    results = [
        MoverResult(name=f"m-{volume.claim}", run=begun.run, volume=volume, tree=tree, files=1, bytes_total=9, bytes_added=9)
        for volume in (DATA, MORE)
    ]
    done = commit.execute(
        begun,
        discovered=discovered(),
        cuts=[cut],
        thaws=[cut.thawed],
        exports=[an_export(), an_export(MORE)],
        results=results,
        policy=scene.policy,
        ports=scene.ports,
    )
    found = files(scene, done.tree)

    assert {path: content for path, content in found.items() if path.startswith("volumes/shop/data/")} == {
        "volumes/shop/data/pg/PG_VERSION": b"15\n",
        "volumes/shop/data/pg/backup_label": LABEL,
        "volumes/shop/data/other": b"kept",
    }
    assert found["volumes/shop/more/log/000000010000000000000002"] == SEGMENT
    assert found["overlays/shop/data/pg/backup_label"] == LABEL
    assert done.complete


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/data/pg/x", ("data", "pg/x")),
        ("data/pg//x", ("data", "pg/x")),
        ("/wal/x", ("more", "x")),
        ("/sub/x", ("data", "inner/deep/x")),
    ],
)
def test_a_path_is_found_on_its_claim(path: str, where: tuple[str, str]) -> None:
    """By the longest mount, within its sub-path."""
    pod = a_database()
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "d", "mountPath": "/sub", "subPath": "inner/deep"})
    volume, inside = locate(pod, "main", path)

    assert (volume.claim, inside) == where


def test_a_sub_path_that_is_an_expression_is_refused() -> None:
    """It is known only to the node."""
    pod = a_database()
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "d", "mountPath": "/sub", "subPathExpr": "$(POD)"})

    with pytest.raises(HookFailed, match="not known before"):
        locate(pod, "main", "/sub/x")


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.binary(max_size=50), max_size=20), size=st.integers(min_value=1, max_value=70))
def test_a_pipe_gives_what_was_put_in_order(pieces: list[bytes], size: int) -> None:
    """Whatever the pieces are; empty ones are no end."""
    pipe = Pipe(most_bytes=10_000)
    for piece in pieces:
        pipe.put(piece)
    pipe.end()
    out = b""
    while part := pipe.read(size):
        out += part

    assert out == b"".join(pieces)
    assert pipe.read(size) == b""


def test_a_pipe_takes_no_more_than_it_may() -> None:
    """A container cannot fill the repository."""
    pipe = Pipe(most_bytes=10)
    pipe.put(b"x" * 11)

    with pytest.raises(HookFailed, match="more than 10 bytes"):
        pipe.read(100)


def test_a_pipe_that_nobody_reads_stops_its_writer() -> None:
    """A thread that nobody waits for must end."""
    pipe = Pipe(most_bytes=10)
    pipe.close()
    pipe.end()

    with pytest.raises(BrokenPipeError):
        pipe.put(b"x")
