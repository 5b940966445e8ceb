"""A volume that lost its files: the point is kept and marked, is no good one, and pushes no good one out."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.run_scenes import DATA, Scene, a_cut, a_thaw, an_export, discovered

from becalm.actions import anomalies, commit, run
from becalm.actions.handover import Committed
from becalm.catalog.points import find, last_good, points
from becalm.errors import PartialCapture
from becalm.model import MoverResult, RecoveryPoint
from becalm.policy.retention import plan
from becalm.policy.spec import Retention
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup
from becalm.testing.builders import a_policy, days
from becalm.testing.fake_clock import NOON
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def scene() -> Scene:
    return Scene()


def protect(scene: Scene, run_id: str, files: int) -> Committed:
    """Make a point of one volume that holds so many files, a day after the last."""
    scene.clock.advance(86_400)
    begun = scene.begin(run_id)
    tree = scene.tree(**{f"file{number}": b"x" for number in range(min(files, 3))})
    committed = commit.execute(
        begun,
        discovered=discovered("shop"),
        cuts=[a_cut(scene, "shop", DATA, began=scene.clock.now(), ended=scene.clock.now())],
        thaws=[a_thaw("shop")],
        exports=[an_export(DATA)],
        results=[MoverResult(name="m", run=begun.run, volume=DATA, tree=tree, files=files)],
        policy=scene.policy,
        ports=scene.ports,
    )
    scene.finish(begun, committed=committed)
    return committed


def shown(scene: Scene) -> list[RecoveryPoint]:
    return points(open_repository(scene.store, PASSWORD), "shop")


def test_an_empty_volume_that_was_not_empty_is_an_anomaly(scene: Scene) -> None:
    """It is kept, marked and described; `latest` still means the point before it."""
    first, second = protect(scene, "first", 7), protect(scene, "second", 0)
    found = shown(scene)
    repository = open_repository(scene.store, PASSWORD)
    told = orjson.loads(b"".join(repository.read_file(lookup(repository, second.tree, "recovery-point.json"))))

    assert [(point.id, point.complete, point.anomalous, point.good) for point in found] == [
        (first.point, True, False, True),
        (second.point, True, True, False),
    ]
    assert [(item["where"], item["severity"]) for item in told["anomalies"]] == [("volumes/shop/data", "error")]
    assert f"is empty and held 7 files in the last good recovery point {first.point[:8]}" in told["anomalies"][0]["message"]
    assert find(found, "latest", now=scene.clock.now()).id == first.point


def test_a_run_with_an_anomaly_fails_and_says_so(scene: Scene) -> None:
    """Nobody would look at a run that succeeded."""
    protect(scene, "first", 7)
    begun = scene.begin("second")
    verdict = scene.finish(begun, committed=protect(scene, "second", 0))
    with pytest.raises(PartialCapture, match="is empty and held 7 files"):
        run.demand(verdict)

    assert verdict.point


def test_it_stays_an_anomaly_until_somebody_says_that_it_is_meant(scene: Scene) -> None:
    """The measure is the last good point. A run that ignores anomalies makes a new one."""
    protect(scene, "first", 7)
    again = [protect(scene, f"again {number}", 0).anomalies for number in range(2)]
    scene.policy = a_policy(volumes={"anomalies": "ignore"})
    meant = protect(scene, "meant", 0)
    scene.policy = a_policy()
    after = protect(scene, "after", 0)
    last = last_good(shown(scene))

    assert [len(found) for found in again] == [1, 1]
    assert (meant.anomalies, after.anomalies) == ((), ())
    assert last is not None
    assert last.id == after.point


def test_the_next_run_is_compared_with_and_grows_from_the_last_good_point(scene: Scene) -> None:
    """When the files are back, everything is good again, and they are found unchanged."""
    first = protect(scene, "first", 7)
    protect(scene, "second", 0)
    begun = scene.begin("third")
    scene.finish(begun)
    third = protect(scene, "fourth", 7)

    assert begun.parent == first.point
    assert third.anomalies == ()


def test_anomalies_push_no_good_point_out_of_retention(scene: Scene) -> None:
    """However many there are; and they go by themselves once there is a good one after them."""
    good = [protect(scene, f"good {number}", 7).point for number in range(3)]
    bad = [protect(scene, f"bad {number}", 0).point for number in range(4)]
    rules = Retention.model_validate({"last": 2, "daily": 2})
    kept = {decision.point.id for decision in plan(shown(scene), rules, scene.clock.now()) if decision.keep}
    protect(scene, "good again", 7)
    later = {decision.point.id: decision for decision in plan(shown(scene), rules, scene.clock.now())}

    assert kept == {*good[1:], *bad}
    assert not any(later[point].keep for point in bad)
    assert later[bad[0]].reasons == ("anomalous, and older than the last good point",)


@pytest.mark.parametrize(
    ("had", "has", "anomalous"),
    [
        (0, 0, False),
        (1, 0, True),
        (5, 1, False),
        (100, 1, False),
        (101, 1, True),
        (101, 2, False),
        (10_000, 99, True),
        (10_000, 100, False),
    ],
)
def test_the_rule(had: int, has: int, anomalous: bool) -> None:
    """Empty and not so before; or fewer than one in a hundred of more than a hundred."""
    found = anomalies.compare([MoverResult(name="m", run="r", volume=DATA, files=has)], {DATA: had}, point="f" * 64)

    assert bool(found) is anomalous


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_growing_is_never_an_anomaly(had: int, more: int) -> None:
    """Nor is a volume of which nothing is known."""
    result = MoverResult(name="m", run="r", volume=DATA, files=had + more)

    assert anomalies.compare([result], {DATA: had}, point="") == ()
    assert anomalies.compare([result], {}, point="") == ()


@pytest.mark.parametrize("said", [b"no json", b"{}", b'{"volumes": 7}', b'{"volumes": [7]}', b'{"volumes": [{"tree": "x"}]}'])
def test_a_point_that_does_not_describe_its_volumes_compares_with_nothing(scene: Scene, said: bytes) -> None:
    """A backup is never lost for a comparison."""
    scene.point(cut=NOON - days(1), says=said)

    assert protect(scene, "first", 0).anomalies == ()


def test_what_was_marked_reads_back(scene: Scene) -> None:
    """By the snapshot's tags alone, whatever else they say."""
    protect(scene, "first", 7)
    marked = protect(scene, "second", 0)

    assert {point.id: point.anomalous for point in shown(scene)}[marked.point]
