"""Runs of a policy's graph in Airflow, with tasks that do nothing but what a test says: what runs, what does not, and how the run ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow import settings
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException
from airflow.utils.session import create_session
from sqlalchemy import select

from becalm.actions.handover import (
    Application,
    Begun,
    Committed,
    Cut,
    Discovered,
    Exported,
    FreezeRecord,
    Pruned,
    Thawed,
    Trigger,
    Verdict,
)
from becalm.airflow.dag import policy_dag
from becalm.airflow.form import read_form
from becalm.airflow.handed import DISCOVERED, EXPORTED, POLICY, RETURN, VERDICT, Handed
from becalm.airflow.operators import OPERATORS
from becalm.airflow.task import ApplicationOperator, BecalmOperator, demand, go_on
from becalm.errors import PartialCapture, PermanentError
from becalm.model import Consistency, Direction, MoverResult, MoverSpec, VolumeRef, VolumeUse, payload
from becalm.policy.load import load_file

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
APPLICATIONS = ("blog", "shop", "wiki")
REPOSITORY = Path(__file__).parents[2]

# Airflow runs inside this process, and its dependencies warn of their own next versions; our own warnings stay errors.
pytestmark = [pytest.mark.airflow, pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings("error:::becalm")]


@dataclass(slots=True)
class Scene:
    """What goes wrong in a run, and what was done in it."""

    failing: set[tuple[str, str]] = field(default_factory=set)
    """Task and application (or nothing)."""
    skipped: str = ""
    volumes: bool = True
    done: list[tuple[str, str]] = field(default_factory=list)

    def do(self, task: str, which: str = "") -> None:
        """Note that a task did its work, or fail it for good."""
        if (task, which) in self.failing:
            raise PermanentError(f"{task} was told to fail")
        self.done.append((task, which))

    def who(self, task: str) -> set[str]:
        """Return the applications that a task was done for."""
        return {which for name, which in self.done if name == task}


def deck(scene: Scene) -> dict[str, type[BecalmOperator]]:
    """Return operators of the same classes whose verbs are the scene's."""

    class Begin(OPERATORS["begin"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            read_form(context["dag_run"].conf or {}, dict(context["params"]), context["dag_run"].run_after)
            scene.do("begin")
            policy = self.load_policy()
            begun = Begun(
                policy="shop",
                policy_digest=policy.digest,
                run_id="r",
                run="0123456789",
                trigger=Trigger.MANUAL,
                started=NOON,
                skipped=scene.skipped,
            )
            handed.push(POLICY, policy.model_dump(mode="json", by_alias=True, exclude_none=True))
            if begun.skipped:
                handed.push(RETURN, payload(begun))
                raise AirflowSkipException(begun.skipped)
            return payload(begun)

    class Discover(OPERATORS["discover"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            scene.do("discover")
            self.load_policy(demand(handed.begun()))
            found = Discovered(applications=tuple(Application(name=name, namespaces=(name,)) for name in APPLICATIONS))
            handed.push(DISCOVERED, payload(found))
            return [payload(application) for application in found.applications]

    class Quiesce(OPERATORS["quiesce"]):  # type: ignore[misc]
        def protect(self, application: Application, handed: Handed, begun: Begun) -> Any:
            scene.do("quiesce", application.name)
            return payload(FreezeRecord(application=application.name, began=NOON))

    class Snapshot(OPERATORS["snapshot"]):  # type: ignore[misc]
        def protect(self, application: Application, handed: Handed, begun: Begun) -> Any:
            assert demand(handed.here(FreezeRecord, "protect.quiesce")).application == application.name
            scene.do("snapshot", application.name)
            return payload(Cut(application=application.name, began=NOON, ended=NOON, revision="7"))

    class Thaw(OPERATORS["thaw"]):  # type: ignore[misc]
        def protect(self, application: Application, handed: Handed, begun: Begun) -> Any:
            assert demand(handed.policy()).name == "shop"
            cut = handed.here(Cut, "protect.snapshot")
            assert cut is None or cut.application == application.name
            scene.do("thaw", application.name)
            return payload(Thawed(application=application.name, consistency=Consistency.CRASH))

    class Export(OPERATORS["export"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            go_on(handed)
            names = [cut.application for cut in handed.cuts()]
            if not names:
                raise PermanentError("no application was cut")
            scene.do("export")
            volumes = [VolumeRef(namespace=name, claim="data") for name in names] if scene.volumes else []
            handed.push(EXPORTED, [payload(Exported(volume=volume, use=VolumeUse.SNAPSHOT)) for volume in volumes])
            return [payload(a_spec(volume)) for volume in volumes]

    class Upload(OPERATORS["upload"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            volume = VolumeRef(**self.spec["volume"])
            scene.do("upload", volume.namespace)
            return payload(MoverResult(name="m", run="0123456789", volume=volume, tree="t"))

    class Commit(OPERATORS["commit"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            go_on(handed)
            cuts = {cut.application for cut in handed.cuts()}
            thaws = {thawed.application for thawed in handed.thaws()}
            if not cuts:
                raise PermanentError("there is nothing to commit")
            scene.do("commit")
            scene.done += [("committed", name) for name in cuts] + [("labelled", name) for name in thaws]
            return payload(Committed(point="p" * 64, tree="t", complete=True, consistency=Consistency.CRASH))

    class Prune(OPERATORS["prune"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            scene.do("prune")
            return payload(Pruned(kept=1))

    class Finish(OPERATORS["finish"]):  # type: ignore[misc]
        def act(self, context: Context, handed: Handed) -> Any:
            scene.do("finish")
            reasons = tuple(handed.failures()) + (() if handed.committed() else ("nothing was committed",))
            handed.push(VERDICT, payload(Verdict(run="0123456789", ok=not reasons, reasons=reasons)))
            scene.done += [("reason", reason) for reason in reasons]
            if reasons:
                raise PartialCapture("; ".join(reasons))

    made = (Begin, Discover, Quiesce, Snapshot, Thaw, Export, Upload, Commit, Prune, Finish)
    assert issubclass(Thaw, ApplicationOperator)
    return {cls.__name__.lower(): cls for cls in made}


def a_spec(volume: VolumeRef) -> MoverSpec:
    return MoverSpec(
        name=f"m-{volume.namespace}",
        run="0123456789",
        direction=Direction.BACK_UP,
        volume=volume,
        namespace="becalm",
        claim="c",
        repository="file:///r",
        secret="s",
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    state: str
    states: dict[str, str]
    """Each task, with the number of its application behind a colon, to its state."""

    def of(self, task: str) -> set[str]:
        """Return the states of a task's instances."""
        return {state for name, state in self.states.items() if name.split(":")[0] == task}


@pytest.fixture
def play(database: Path, policy_text: Callable[..., str]) -> Callable[..., Ended]:
    """What runs a policy's graph to its end, in this process."""
    home = database.parent
    (home / "policies" / "shop.yaml").write_text(policy_text())
    shutil.copy(REPOSITORY / "dags" / "becalm_policies.py", home / "dags")
    settings.configure_orm()

    def run(scene: Scene, **conf: Any) -> Ended:
        file = home / "policies" / "shop.yaml"
        dag = policy_dag(load_file(file), file=file, operators=deck(scene))
        ended = dag.test(run_after=datetime.now(UTC), logical_date=None, run_conf=conf or None)
        states = {f"{ti.task_id}:{ti.map_index}" if ti.map_index >= 0 else ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
        return Ended(str(ended.state), states)

    return run


def test_a_run_in_which_all_goes_well(play: Callable[..., Ended]) -> None:
    """Every application is frozen, cut and thawed, every volume uploaded, and one point is committed."""
    scene = Scene()
    ended = play(scene)

    assert ended.state == "success"
    assert set(ended.states.values()) == {"success"}
    for task in ("quiesce", "snapshot", "thaw", "upload", "committed", "labelled"):
        assert scene.who(task) == set(APPLICATIONS)


def test_a_run_without_volumes(play: Callable[..., Ended]) -> None:
    """Objects alone are a recovery point: the upload is skipped, and the run succeeds."""
    scene = Scene(volumes=False)
    ended = play(scene)

    assert (ended.state, ended.of("upload")) == ("success", {"skipped"})
    assert ("commit", "") in scene.done


@pytest.mark.parametrize("task", ["quiesce", "snapshot"])
def test_an_application_that_fails_does_not_stop_the_others(play: Callable[..., Ended], task: str) -> None:
    """The others are cut, thawed, exported, uploaded and committed; the run fails and says what failed."""
    scene = Scene(failing={(task, "shop")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("committed") == scene.who("upload") == {"blog", "wiki"}
    assert scene.who("thaw") == (set(APPLICATIONS) if task == "snapshot" else {"blog", "wiki"})
    assert any(f"protect.{task}_1" in reason and "failed" in reason for reason in scene.who("reason"))


def test_a_thaw_that_cannot_be_confirmed_fails_the_run_and_stops_nothing(play: Callable[..., Ended]) -> None:
    """The point is committed; the verdict is not good."""
    scene = Scene(failing={("thaw", "wiki")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("committed") == set(APPLICATIONS)
    assert scene.who("labelled") == {"blog", "shop"}
    assert ended.of("finish") == {"failed"}


def test_a_volume_that_fails_does_not_stop_the_others(play: Callable[..., Ended]) -> None:
    """The point is committed without it, and the run fails."""
    scene = Scene(failing={("upload", "blog")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("upload") == {"shop", "wiki"}
    assert ("commit", "") in scene.done
    assert any("upload_0: failed" in reason for reason in scene.who("reason"))


@pytest.mark.parametrize("task", ["export", "commit", "prune", "finish"])
def test_a_later_task_that_fails_fails_the_run_after_all_is_thawed(play: Callable[..., Ended], task: str) -> None:
    """Nobody stays frozen, finish runs, and the run never ends as a success."""
    scene = Scene(failing={(task, "")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("thaw") == set(APPLICATIONS)
    assert ended.of("finish") == {"failed"}


def test_a_failing_discovery_captures_nothing_and_cleans_up(play: Callable[..., Ended]) -> None:
    """Nothing is frozen; finish lets the lease go."""
    scene = Scene(failing={("discover", "")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("quiesce") == set()
    assert ("commit", "") not in scene.done
    assert ("finish", "") in scene.done


def test_a_run_that_cannot_begin_captures_nothing(play: Callable[..., Ended]) -> None:
    """There is no lease to let go of, so finish does not run."""
    scene = Scene(failing={("begin", "")})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.done == []


def test_a_slot_that_is_answered_skips_the_run(play: Callable[..., Ended]) -> None:
    """Every task is skipped, also those that otherwise run whatever happened, and no alarm is raised."""
    scene = Scene(skipped="the slot is answered")
    ended = play(scene)

    assert ended.state == "success"
    assert set(ended.states.values()) == {"skipped"}
    assert scene.done == [("begin", "")]


def test_every_application_failing_commits_nothing(play: Callable[..., Ended]) -> None:
    """An empty recovery point is never written."""
    scene = Scene(failing={("snapshot", name) for name in APPLICATIONS})
    ended = play(scene)

    assert ended.state == "failed"
    assert scene.who("thaw") == set(APPLICATIONS)
    assert ("commit", "") not in scene.done


def test_a_word_that_the_form_does_not_know_is_refused(play: Callable[..., Ended]) -> None:
    """Airflow accepts unknown keys; begin does not."""
    scene = Scene()
    ended = play(scene, slott="2026-01-31T12:00:00Z")

    assert (ended.state, ended.of("begin"), scene.done) == ("failed", {"failed"}, [])


def test_names_of_applications_stand_beside_their_tasks(play: Callable[..., Ended]) -> None:
    """What a person sees in place of a number."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    play(Scene(failing={("thaw", "shop")}))
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance._rendered_map_index).where(
                TaskInstance.start_date > before, TaskInstance.map_index >= 0
            )
        )
        names = {(task, name) for task, name in rows if task.startswith("protect.")}

    assert names == {(f"protect.{task}", name) for task in ("quiesce", "snapshot", "thaw") for name in APPLICATIONS}
