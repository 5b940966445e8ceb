"""Which member of a replicated database is frozen: the one that says it writes; none, two, or one that is silent is a hook that did not run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.actions.handover import HookOrigin, HookPlan
from becalm.actions.members import Role, choose, decide
from becalm.actions.pods import Place, Resolved
from becalm.kube.base import ExecResult
from becalm.policy.blueprints import BlueprintName
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_namespace, a_pod

COMMAND = HookPlan(name="h", origin=HookOrigin.POLICY, namespace="shop", labels="app=db", freeze=("/f",), thaw=("/t",))
POSTGRESQL = HookPlan(name="h", origin=HookOrigin.POLICY, namespace="shop", labels="app=db", use=BlueprintName.POSTGRESQL)


def standing(hook: HookPlan, count: int) -> Resolved:
    return Resolved(places=tuple(Place(hook=hook, pod=f"db-{number}", uid=str(number), container="main") for number in range(count)))


def asked(codes: Sequence[int | None], hook: HookPlan = POSTGRESQL) -> tuple[Resolved, FakeCluster]:
    """Return what is chosen where the members' probes end with these codes."""
    cluster = FakeCluster()
    cluster.put(a_namespace("shop"), *(a_pod(f"db-{number}") for number in range(len(codes))))

    def answer(namespace: str, pod: str, **rest: object) -> ExecResult:
        del namespace, rest
        return ExecResult(stdout=b"", stderr=b"cannot connect", exit_code=codes[int(pod.removeprefix("db-"))])

    cluster.run_command = answer
    return choose(standing(hook, len(codes)), cluster, FakeClock()), cluster


def test_the_primary_alone_is_frozen() -> None:
    """The others are left out with the reason: their volumes follow."""
    found, _ = asked([1, 0, 1])

    assert [place.pod for place in found.places] == ["db-1"]
    assert found.missing == ()
    assert [item.what for item in found.left_out] == ["pods/shop/db-0 (main)", "pods/shop/db-2 (main)"]


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        ([1, 1], "no member says that it writes: db-0, db-1"),
        ([0, 0], "2 members say that they write: db-0, db-1"),
        ([0, 2], "it is unknown whether this member writes: exit code 2: cannot connect"),
        ([127, 0], "it is unknown whether this member writes: exit code 127"),
        ([None, 1], "it is unknown whether this member writes"),
    ],
)
def test_where_it_is_not_certain_who_writes_the_hook_is_missed(codes: list[int | None], problem: str) -> None:
    """Frozen in the wrong place a database promises nothing; each case has its sentence."""
    found, _ = asked(codes)

    assert problem in " ".join(str(miss) for miss in found.missing)
    assert len(found.missing) == 1


def test_hooks_of_commands_run_in_every_member_and_nobody_is_asked() -> None:
    """Only a recipe knows a probe."""
    found, cluster = asked([1, 1], COMMAND)

    assert [place.pod for place in found.places] == ["db-0", "db-1"]
    assert cluster.recorded("exec") == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(Role), min_size=1, max_size=5))
def test_one_place_and_no_doubt_or_a_reason(roles: list[Role]) -> None:
    """Whatever members say: exactly one that writes and none in doubt gives one place and no complaint; everything else complains."""
    found = decide(standing(POSTGRESQL, len(roles)), [(role, "why") for role in roles])
    certain = roles.count(Role.WRITES) == 1 and Role.UNKNOWN not in roles

    assert bool(found.missing) is not certain
    assert len(found.places) == (1 if roles.count(Role.WRITES) == 1 else 0)
    assert len(found.left_out) == roles.count(Role.FOLLOWS)
