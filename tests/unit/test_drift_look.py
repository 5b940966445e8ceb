"""Looks at a policy's drift, one after another: told once and only when it changes, let be until a day, and beside the code in the point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.git_scenes import Code
from tests.unit.run_scenes import Scene
from tests.unit.test_infrastructure import ask_for
from tests.unit.test_infrastructure import run as make_point
from typer.testing import CliRunner

from becalm.actions import drift_look
from becalm.actions.drift_look import Looked
from becalm.actions.drift_record import acknowledge
from becalm.actions.handover import Ports, Settings
from becalm.actions.watch import Message
from becalm.catalog import drift as catalog
from becalm.catalog import ledger
from becalm.cli.app import app
from becalm.errors import NotFound, PointMissing, PolicyError, UsageError
from becalm.policy.drifting import Drift, DriftSource
from becalm.policy.load import load
from becalm.policy.spec import ProtectionPolicy
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.testing.builders import a_policy
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.manifests import a_map, a_namespace, a_secret
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

WHERE = "configmaps/shop/settings"


@dataclass
class Desk:
    """A saved namespace, a cluster that holds the same, and who was told what."""

    clock: FakeClock = field(default_factory=FakeClock)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    policy: ProtectionPolicy = field(default_factory=a_policy)
    sent: list[Message] = field(default_factory=list)
    deaf: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        objects = (a_namespace(), a_map(), a_secret(key="YQ=="))
        self.cluster.put(*objects)
        save_point(self.store, objects, kinds=DEFAULT_KINDS, cut=self.clock.now())

    @property
    def ports(self) -> Ports:
        """The outer world."""
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=Settings(cluster_name="test"))

    def send(self, message: Message) -> Mapping[str, str]:
        """Take a message, as far as those whom it is for can hear."""
        self.sent.append(message)
        return {name: why for name, why in self.deaf.items() if name in message.to}

    def look(self, *notify: str) -> Looked:
        """Look, an hour after the look before."""
        self.sent.clear()
        self.clock.advance(3600)
        return drift_look.look(self.policy, self.ports, notify=notify or ("chat",), send=self.send, search="")

    def record(self) -> catalog.DriftRecord:
        """Read what the looks left."""
        found, _ = catalog.load(open_repository(self.store, PASSWORD))
        assert found is not None
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_what_was_just_saved_has_not_drifted(desk: Desk) -> None:
    """Nobody is told anything; the look is remembered."""
    looked = desk.look()

    assert (looked.report.drifts, desk.sent) == ((), [])
    assert [(one.compared, one.high, one.medium, one.low) for one in desk.record().looks] == [(3, 0, 0, 0)]


def test_a_drift_is_told_once_again_when_it_changes_and_when_it_is_over(desk: Desk) -> None:
    """What lasts unchanged keeps its time, and nobody hears of it twice."""
    told: list[list[bool]] = []
    since = []
    for level in ("2", "2", "2"):
        desk.cluster.put(a_map(level=level))
        desk.look()
        told.append([message.ended for message in desk.sent])
        since.append(desk.record().open[0].since)
    desk.cluster.put(a_map(level="2"), a_secret(key="Yg=="))
    desk.look()
    other = [message.subject for message in desk.sent]
    desk.cluster.put(a_map(), a_secret(key="YQ=="))
    desk.look()

    assert (told, len(set(since))) == ([[False], [], []], 1)
    assert ["1 newly drifted" in subject for subject in other] == [True]
    assert [(message.ended, "2 no longer drifted" in message.subject) for message in desk.sent] == [(True, True)]
    assert (desk.record().open, desk.record().over) == ((), ())


def test_the_weightiest_stand_first_and_no_secret_is_in_it(desk: Desk) -> None:
    """Neither in the record nor in a message."""
    desk.cluster.put(a_map(level="2"), a_secret(key="Yg=="))
    desk.look()
    text = str(desk.record()) + "".join(message.text for message in desk.sent)

    assert [one.what for one in desk.record().open] == ["high changed", "medium changed"]
    assert ("Yg==" in text, "YQ==" in text, "data.key" in text) == (False, False, True)


def test_whoever_was_not_reached_is_told_at_the_next_look(desk: Desk) -> None:
    """And nobody else is told again."""
    desk.cluster.put(a_map(level="2"))
    desk.deaf["mail"] = "it is down"
    first = desk.look("chat", "mail")
    desk.deaf.clear()
    desk.look("chat", "mail")

    assert first.errors == ("mail was not told: it is down",)
    assert [message.to for message in desk.sent] == [("mail",)]


def test_an_acknowledged_drift_is_quiet_until_its_day_and_as_long_as_it_is_the_same(desk: Desk) -> None:
    """After the day it is open, and told."""
    desk.cluster.put(a_map(level="2"))
    desk.look()
    where = desk.record().open[0].where
    repository = open_repository(desk.store, PASSWORD)
    record, etag = catalog.load(repository)
    made = acknowledge(record, [where], until=desk.clock.now() + timedelta(hours=5), who="anna", note="a trial")
    catalog.save(repository, made, etag)
    desk.look()
    quiet = desk.record()
    desk.clock.advance(5 * 3600)
    desk.look()

    assert ([one.where for one in quiet.quiet], quiet.open) == ([where], ())
    assert [(one.who, one.note) for one in quiet.acknowledged] == [("anna", "a trial")]
    assert [one.where for one in desk.record().open] == [where]
    assert [message.ended for message in desk.sent] == [False]


def test_only_what_is_open_is_acknowledged(desk: Desk) -> None:
    """With what is."""
    with pytest.raises(UsageError, match="nobody has looked"):
        acknowledge(None, [WHERE], until=desk.clock.now(), who="anna", note="")
    desk.look()
    with pytest.raises(UsageError, match="did not drift"):
        acknowledge(desk.record(), [WHERE], until=desk.clock.now(), who="anna", note="")


def test_without_a_good_point_there_is_nothing_to_compare_with(desk: Desk) -> None:
    """That is an error, and no peace."""
    desk.policy = a_policy(name="other")

    with pytest.raises(PointMissing):
        desk.look()


def test_the_policy_says_what_may_differ(desk: Desk) -> None:
    """By its own rules, each with a reason."""
    lines = "  drift:\n    schedule: '@daily'\n    ignore: [{kinds: [ConfigMap], because: a robot sets it}]\n"
    desk.policy = load(POLICY + lines, source="p")
    desk.cluster.put(a_map(level="2"))
    looked = desk.look()

    assert looked.report.drifts == ()
    assert "a robot sets it" in [one.because for one in looked.report.ignored]


def test_what_is_declared_is_the_code_in_the_point(tmp_path: Path) -> None:
    """At the revision of then: nobody asks the server now. A folder that is not there, or leads out of it, is refused."""
    code = Code.begun(tmp_path / "code")
    (code.folder / "deploy").mkdir()
    code.commit({"deploy/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: shop}\ndata: {level: '7'}\n"})
    scene = Scene()
    scene.cluster.put(a_map(level="8"))
    ask_for(scene, code.url)
    make_point(scene)
    code.folder.rename(tmp_path / "elsewhere")

    def look(path: str) -> Looked:
        source = DriftSource.model_construct(repository="code", path=path)
        section = Drift.model_construct(schedule="@daily", declared=(source,), default_namespace="default", ignore=())
        policy = scene.policy.model_copy(update={"spec": scene.policy.spec.model_copy(update={"drift": section})})
        return drift_look.look(policy, replace(scene.ports), notify=(), send=lambda _: {}, search="")

    found = look("deploy").report
    (drift,) = [one for one in found.drifts if one.ref.resource == "configmaps"]

    assert found.declared == 1
    assert [(one.path, one.declared, one.running) for one in drift.fields if one.path.startswith("data")] == [("data.level", "7", "8")]
    for path in ("none", "../.."):
        with pytest.raises(NotFound):
            look(path)


def test_a_person_acknowledges_at_a_terminal(desk: Desk, tmp_path: Path) -> None:
    """It stands in the ledger; a day that is over is refused."""
    desk.cluster.put(a_map(level="2"))
    desk.look()
    where = desk.record().open[0].where
    bucket = open_store(f"file://{tmp_path / 'bucket' / 'shop'}", {}, create=True)
    for info in desk.store.list(""):
        bucket.put(info.key, desk.store.get(info.key))
    (tmp_path / "shop.yaml").write_text(POLICY.replace("s3://backups/test", f"file://{tmp_path / 'bucket'}"))
    day = (bucket.now() + timedelta(days=30)).date().isoformat()

    def say(*words: str) -> Any:
        return CliRunner(env={"BECALM_PASSWORD": PASSWORD}).invoke(app, ["acknowledge", str(tmp_path / "shop.yaml"), *words])

    def listed(*words: str) -> Any:
        return CliRunner(env={"BECALM_PASSWORD": PASSWORD}).invoke(app, ["drifts", str(tmp_path / "shop.yaml"), *words])

    before = listed()
    done = say(where, "--until", day, "--note", "a trial")
    late = say(where, "--until", "2020-01-01")
    repository = open_repository(bucket, PASSWORD)
    record, _ = catalog.load(repository)

    after = listed()

    assert done.exit_code == 0, done.output
    assert (before.exit_code, after.exit_code) == (1, 0)
    assert "1 open, 0 acknowledged" in before.output
    assert "a trial" in after.output
    assert isinstance(late.exception, UsageError)
    assert record
    assert ([one.where for one in record.acknowledged], record.open) == ([where], ())
    assert [ledger.entry(repository, number).kind.value for number in ledger.numbers(repository)] == ["acknowledged"]


POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {name: shop}
spec:
  select: {namespaces: [shop]}
  target: {url: "s3://backups/test", password: "env:BECALM_PASSWORD"}
"""


@pytest.mark.parametrize(
    "lines",
    [
        "  drift: {schedule: '@daily', declared: [{repository: infra}]}\n",
        "  infrastructure: {repositories: [{url: 'https://h/infra'}]}\n  drift: {schedule: '@daily', declared: [{repository: infra, path: ../x}]}\n",
        "  drift: {schedule: '@daily', ignore: [{because: everything}]}\n",
        "  drift: {declared: []}\n",
    ],
    ids=["code that is not there", "a path that leads out", "everything", "no schedule"],
)
def test_a_section_that_cannot_be_followed_is_refused(lines: str) -> None:
    """When the policy is read."""
    with pytest.raises(PolicyError):
        load(POLICY + lines, source="p")
