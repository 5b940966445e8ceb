"""Trying again, commands with unknown outcomes, and what a stream's verdict means."""

from __future__ import annotations

from typing import Any

import pytest

from becalm.errors import AccessDenied, AlreadyExists, BecalmError, ClusterUnavailable, NotFound, Throttled
from becalm.kube.base import ExecResult, Verb, owned_by
from becalm.kube.channels import exit_code_of, never_began
from becalm.kube.exec import MOST_OUTPUT_BYTES, End, Outcome, run
from becalm.kube.kinds import CONFIG_MAP
from becalm.kube.wrappers import RetryingCluster
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster

ONE = {"metadata": {"name": "one", "namespace": "shop", "labels": owned_by("p", "r1", "x")}}


def a_cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return cluster


class LosesReplies(FakeCluster):
    """A cluster whose first reply to a write is lost after the write was done."""

    lost = False

    def apply(self, *args: Any, **options: Any) -> Any:
        """Write, and lose the reply once."""
        made = super().apply(*args, **options)
        return self._lose(made)

    def delete(self, *args: Any, **options: Any) -> Any:
        """Delete, and lose the reply once."""
        return self._lose(super().delete(*args, **options))

    def _lose(self, reply: Any) -> Any:
        if not self.lost:
            self.lost = True
            raise ClusterUnavailable("the connection broke")
        return reply


def a_losing_cluster() -> LosesReplies:
    cluster = LosesReplies()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return cluster


class TestRetrying:
    """What may be tried again is."""

    def test_a_short_absence_is_not_noticed(self) -> None:
        """The pauses grow."""
        cluster, clock = a_cluster(), FakeClock()
        cluster.put({"apiVersion": "v1", "kind": "ConfigMap", **ONE})
        cluster.fail(ClusterUnavailable("away"), times=3)

        assert RetryingCluster(cluster, clock).get(CONFIG_MAP, "one", namespace="shop")["metadata"]["name"] == "one"
        assert clock.slept == [0.25, 1.0, 4.0]

    def test_the_servers_own_wish_decides_the_pause(self) -> None:
        """Within reason."""
        cluster, clock = a_cluster(), FakeClock()
        cluster.fail(Throttled("patience", delay_seconds=7), times=1)
        cluster.fail(Throttled("patience", delay_seconds=7000), times=1)
        RetryingCluster(cluster, clock).discover()

        assert clock.slept == [7, 30]

    def test_a_long_absence_is_an_error(self) -> None:
        """The last one."""
        cluster, clock = a_cluster(), FakeClock()
        cluster.fail(ClusterUnavailable("away"))

        with pytest.raises(ClusterUnavailable):
            RetryingCluster(cluster, clock, attempts=3).list(CONFIG_MAP)
        assert len(cluster.calls) == 3

    @pytest.mark.parametrize("error", [AccessDenied("no"), NotFound("no")])
    def test_what_waiting_does_not_mend_is_not_tried_again(self, error: BecalmError) -> None:
        """It is raised at once."""
        cluster, clock = a_cluster(), FakeClock()
        cluster.fail(error)

        with pytest.raises(type(error)):
            RetryingCluster(cluster, clock).get(CONFIG_MAP, "one", namespace="shop")
        assert len(cluster.calls) == 1

    def test_a_create_whose_reply_was_lost_meets_its_own_object(self) -> None:
        """By the label of the run: one object, and no error."""
        cluster = a_losing_cluster()
        made = RetryingCluster(cluster, FakeClock()).apply(CONFIG_MAP, ONE, verb=Verb.CREATE)

        assert made["metadata"]["labels"] == ONE["metadata"]["labels"]
        assert len(cluster.all("configmaps")) == 1

    def test_a_create_that_meets_anothers_object_is_an_error(self) -> None:
        """Also on a second try."""
        cluster, clock = a_cluster(), FakeClock()
        cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**ONE["metadata"], "labels": owned_by("p", "r2", "x")}})
        cluster.fail(ClusterUnavailable("away"), verb="create", times=1)

        with pytest.raises(AlreadyExists):
            RetryingCluster(cluster, clock).apply(CONFIG_MAP, ONE, verb=Verb.CREATE)

    def test_a_create_with_a_generated_name_is_tried_once(self) -> None:
        """Twice would make two."""
        cluster = a_losing_cluster()

        with pytest.raises(ClusterUnavailable):
            RetryingCluster(cluster, FakeClock()).apply(
                CONFIG_MAP, {"metadata": {"generateName": "x-", "namespace": "shop"}}, verb=Verb.CREATE
            )
        assert len(cluster.all("configmaps")) == 1

    def test_a_delete_whose_reply_was_lost_did_delete(self) -> None:
        """So it says that something was there."""
        cluster = a_losing_cluster()
        cluster.put({"apiVersion": "v1", "kind": "ConfigMap", **ONE})

        assert RetryingCluster(cluster, FakeClock()).delete(CONFIG_MAP, "one", namespace="shop") is True
        assert not cluster.all("configmaps")

    def test_a_command_is_never_repeated(self) -> None:
        """It may have run."""
        cluster = a_cluster()
        cluster.fail(ClusterUnavailable("away"), verb="exec")

        with pytest.raises(ClusterUnavailable):
            RetryingCluster(cluster, FakeClock()).exec("shop", "p", container="c", command=["freeze"])
        assert len(cluster.recorded("exec")) == 1


class TestCommand:
    """What is known of a command."""

    def outcome(self, result: ExecResult | BecalmError, *, lasts: float = 0.0) -> Outcome:
        """Run a command that ends like that."""
        cluster, clock = a_cluster(), FakeClock()
        container = {"name": "c"}
        pod = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": [container]}, "status": {"phase": "Running"}}
        cluster.put({"apiVersion": "v1", "kind": "Pod", **pod})

        def command(*_: Any, **__: Any) -> ExecResult:
            clock.advance(lasts)
            if isinstance(result, BecalmError):
                raise result
            return result

        cluster.run_command = command
        return run(cluster, clock, namespace="shop", pod="p", container="c", command=["freeze"], timeout_seconds=5)

    @pytest.mark.parametrize(
        ("result", "lasts", "end", "reason"),
        [
            (ExecResult(stdout=b"ok", stderr=b"", exit_code=0), 1, End.DONE, ""),
            (ExecResult(stdout=b"", stderr=b"no such table\n", exit_code=2), 1, End.FAILED, "exit code 2: no such table"),
            (ExecResult(stdout=b"", stderr=b"", exit_code=None), 5, End.UNKNOWN, "no answer within 5 s"),
            (ExecResult(stdout=b"", stderr=b"", exit_code=None), 1, End.UNKNOWN, "the stream ended before the command's exit code came"),
            (ClusterUnavailable("away"), 1, End.UNKNOWN, "away"),
        ],
    )
    def test_an_outcome_is_done_failed_or_unknown(self, result: Any, lasts: float, end: End, reason: str) -> None:
        """With one line that says why; and the two moments between which it happened."""
        found = self.outcome(result, lasts=lasts)

        assert (found.end, found.reason, found.done) == (end, reason, end is End.DONE)
        assert (found.answered - found.asked).total_seconds() == lasts

    @pytest.mark.parametrize("error", [NotFound("no such pod"), AccessDenied("no")])
    def test_what_was_certainly_not_started_is_an_error(self, error: BecalmError) -> None:
        """Not an outcome."""
        with pytest.raises(type(error)):
            self.outcome(error)

    def test_much_output_is_cut(self) -> None:
        """And says by how much."""
        found = self.outcome(ExecResult(stdout=b"x" * (MOST_OUTPUT_BYTES + 7), stderr=b"", exit_code=0))

        assert found.stdout == b"x" * MOST_OUTPUT_BYTES + b"\n(7 bytes more)"


@pytest.mark.parametrize(
    ("verdict", "code", "certain"),
    [
        ({"status": "Success"}, 0, False),
        ({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}, 3, False),
        ({"status": "Failure", "message": 'unable to start container process: exec: "x": executable file not found'}, 127, False),
        ({"status": "Failure", "message": 'unable to start container process: exec: "x": permission denied'}, 126, False),
        ({"status": "Failure", "code": 500, "message": "Internal error occurred: the connection was lost"}, None, False),
        ({"status": "Failure", "code": 500, "message": 'unable to upgrade connection: container not found ("c")'}, None, True),
        ({"status": "Failure", "code": 404, "message": "pod does not exist"}, None, True),
        ({}, None, False),
    ],
)
def test_a_verdict_is_a_code_or_unknown(verdict: Any, code: int | None, certain: bool) -> None:
    """Only what is certain is said to be."""
    assert (exit_code_of(verdict), never_began(verdict)) == (code, certain)
