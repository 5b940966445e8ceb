"""The contract of a cluster, of pods: what runs in them, what a command in them does, and what they say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from becalm.errors import NotFound
from becalm.kube.base import ExecResult
from becalm.kube.kinds import POD, SECRET
from becalm.testing.contracts.cluster_subject import Subject  # noqa: TC001  (pytest reads the annotations of its tests)

ALL_BYTES = bytes(range(256))


def run(subject: Subject, namespace: str, *command: str, stdin: bytes = b"", timeout_seconds: float = 30) -> ExecResult:
    """Run a command in the container `main` of the pod `p`."""
    return subject.cluster.exec(namespace, "p", container="main", command=command, stdin=stdin, timeout_seconds=timeout_seconds)


class PodContract:
    """What pods do."""

    def test_a_pod_that_ends_tells_how(self, subject: Subject, namespace: str) -> None:
        """Its phase, its exit code, and the last word it left."""
        subject.pod(namespace, "good", "printf 'all is well' > /dev/termination-log")
        subject.pod(namespace, "bad", "exit 3")
        good, bad = subject.in_phase(namespace, "good", "Succeeded"), subject.in_phase(namespace, "bad", "Failed")
        (well,), (ill,) = ([entry["state"]["terminated"] for entry in pod["status"]["containerStatuses"]] for pod in (good, bad))

        assert (well["exitCode"], well["message"]) == (0, "all is well")
        assert (ill["exitCode"], ill["reason"]) == (3, "Error")

    def test_a_pod_sees_its_environment_and_its_secret(self, subject: Subject, namespace: str) -> None:
        """Values as they are written, keys of Secrets and ConfigMaps as variables and as files."""
        subject.create(SECRET, {"metadata": {"name": "keys", "namespace": namespace}, "stringData": {"password": "a b$c"}})
        subject.config_map(namespace, "settings", colour="blue")
        reference = {"valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}}
        setting = {"valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}
        container = {
            "name": "main",
            "image": subject.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", 'printf "%s|%s|%s|" "$PLAIN" "$PASSWORD" "$COLOUR"; cat /var/run/becalm/password'],
            "env": [{"name": "PLAIN", "value": '{"a": "$$x"}'}, {"name": "PASSWORD", **reference}, {"name": "COLOUR", **setting}],
            "volumeMounts": [{"name": "keys", "mountPath": "/var/run/becalm", "readOnly": True}],
        }
        subject.pod(namespace, "p", containers=[container], volumes=[{"name": "keys", "secret": {"secretName": "keys"}}])
        subject.in_phase(namespace, "p", "Succeeded")

        assert b"\n".join(subject.cluster.logs(namespace, "p")) == b'{"a": "$x"}|a b$c|blue|a b$c'

    def test_a_deleted_pod_ends_within_its_grace(self, subject: Subject, namespace: str) -> None:
        """Even if its process does not listen."""
        subject.pod(namespace, "p", "trap '' TERM; while :; do sleep 0.2; done")
        subject.running(namespace, "p")
        subject.cluster.delete(POD, "p", namespace=namespace, grace_seconds=1)

        assert subject.eventually(lambda: subject.is_gone(POD, "p", namespace), seconds=20)

    def test_logs_are_lines(self, subject: Subject, namespace: str) -> None:
        """Of a container that ended, and of one that is followed to its end."""
        subject.pod(namespace, "p", "echo one; sleep 1; echo two >&2; printf three")
        subject.in_phase(namespace, "p", "Running", "Succeeded")
        followed = list(subject.cluster.logs(namespace, "p", container="main", follow=True))
        subject.in_phase(namespace, "p", "Succeeded")

        assert followed == [b"one", b"two", b"three"]
        assert list(subject.cluster.logs(namespace, "p")) == [b"one", b"two", b"three"]

    def test_logs_of_a_pod_that_is_not_there_are_not_found(self, subject: Subject, namespace: str) -> None:
        """As with any object."""
        with pytest.raises(NotFound):
            list(subject.cluster.logs(namespace, "absent"))


class ExecContract:
    """What a command in a container does."""

    @pytest.fixture
    def place(self, subject: Subject, namespace: str) -> str:
        """A namespace with a running pod `p`."""
        subject.pod(namespace, "p")
        subject.running(namespace, "p")
        return namespace

    def test_output_errors_and_code_come_apart(self, subject: Subject, place: str) -> None:
        """And a code of zero means success only when the command said so."""
        result = run(subject, place, "sh", "-c", "echo out; echo err >&2; exit 3")
        killed = run(subject, place, "sh", "-c", "kill -9 $$")

        assert result == ExecResult(stdout=b"out\n", stderr=b"err\n", exit_code=3)
        assert run(subject, place, "true") == ExecResult(stdout=b"", stderr=b"", exit_code=0)
        assert killed.exit_code == 137

    def test_no_shell_touches_the_words(self, subject: Subject, place: str) -> None:
        """Spaces, quotes, dollars and newlines arrive as they were given."""
        words = ["a b", "$HOME", "'\"`", "x\ny", "", "*", "ü", "a&b=c#d%e+f"]
        result = run(subject, place, "sh", "-c", 'for word in "$@"; do printf "%s|" "$word"; done', "sh", *words)

        assert result.stdout.decode() == "".join(f"{word}|" for word in words)

    def test_input_is_given_and_closed(self, subject: Subject, place: str) -> None:
        """Every byte, also many; the command sees the end of it."""
        data = ALL_BYTES * 2000

        assert run(subject, place, "cat", stdin=data) == ExecResult(stdout=data, stderr=b"", exit_code=0)

    def test_without_input_there_is_nothing_to_wait_for(self, subject: Subject, place: str) -> None:
        """A command that reads meets the end at once."""
        assert run(subject, place, "cat", timeout_seconds=10).exit_code == 0

    def test_much_output_comes_whole(self, subject: Subject, place: str) -> None:
        """Three megabytes, none lost at the end."""
        result = run(subject, place, "head", "-c", "3000000", "/dev/zero")

        assert (result.exit_code, len(result.stdout)) == (0, 3_000_000)

    def test_output_that_is_handed_on_is_not_kept(self, subject: Subject, place: str) -> None:
        """More than would be kept, in order, with errors and the code apart."""
        pieces: list[bytes] = []
        script = "head -c 8000000 /dev/zero; printf end; echo err >&2; exit 3"
        result = subject.cluster.exec(place, "p", container="main", command=["sh", "-c", script], timeout_seconds=60, out=pieces.append)
        output = b"".join(pieces)

        assert (len(output), output[-4:]) == (8_000_003, b"\0end")
        assert result == ExecResult(stdout=b"", stderr=b"err\n", exit_code=3)

    def test_whoever_takes_output_may_refuse_it(self, subject: Subject, place: str) -> None:
        """Then what became of the command is unknown."""

        def refuse(piece: bytes) -> None:
            raise BrokenPipeError(len(piece))

        result = subject.cluster.exec(place, "p", container="main", command=["head", "-c", "9000000", "/dev/zero"], out=refuse)

        assert result == ExecResult(stdout=b"", stderr=b"", exit_code=None)

    def test_output_without_end_is_cut_and_said(self, subject: Subject, place: str) -> None:
        """A hundred megabytes do not fill the memory; the code still comes."""
        result = run(subject, place, "sh", "-c", "head -c 100000000 /dev/zero; exit 4", timeout_seconds=120)

        assert result.exit_code == 4
        assert len(result.stdout) < 5_000_000
        assert b"bytes of output were dropped" in result.stderr

    def test_a_command_that_is_not_there_fails_as_in_a_shell(self, subject: Subject, place: str) -> None:
        """Code 127, and the reason: it certainly did not run."""
        result = run(subject, place, "no-such-command")

        assert result.exit_code == 127
        assert b"no-such-command" in result.stderr

    def test_a_command_that_hangs_ends_as_unknown(self, subject: Subject, place: str) -> None:
        """At the end of its time, with what it said so far."""
        began = subject.clock.monotonic()
        result = run(subject, place, "sh", "-c", "echo begun; sleep 30", timeout_seconds=2)
        lasted = subject.clock.monotonic() - began

        assert result == ExecResult(stdout=b"begun\n", stderr=b"", exit_code=None)
        assert lasted < 4

    def test_what_a_command_leaves_behind_lives_on(self, subject: Subject, place: str) -> None:
        """A process that let go of the stream neither holds the command up nor dies with it."""
        subject.shell(place, "p", "rm -f mark; (sleep 1; echo done > mark) >/dev/null 2>&1 </dev/null & exit 0")

        assert subject.eventually(lambda: subject.shell(place, "p", "cat mark 2>/dev/null || true") == b"done\n", seconds=10)

    def test_commands_run_side_by_side(self, subject: Subject, place: str) -> None:
        """From several threads at once."""
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda number: run(subject, place, "sh", "-c", f"sleep 0.3; echo {number}"), range(8)))

        assert [result.stdout for result in results] == [f"{number}\n".encode() for number in range(8)]
        assert {result.exit_code for result in results} == {0}

    def test_a_pod_or_container_that_is_not_there_is_not_found(self, subject: Subject, place: str) -> None:
        """So that nobody waits for it, and nobody counts it as frozen."""
        with pytest.raises(NotFound):
            subject.cluster.exec(place, "absent", container="main", command=["true"])
        with pytest.raises(NotFound):
            subject.cluster.exec(place, "p", container="absent", command=["true"])

    def test_a_container_that_has_ended_is_not_found(self, subject: Subject, namespace: str) -> None:
        """It runs nothing any more."""
        subject.pod(namespace, "p", "true")
        subject.in_phase(namespace, "p", "Succeeded")

        with pytest.raises(NotFound):
            run(subject, namespace, "true")

    def test_a_container_that_dies_takes_the_command_along(self, subject: Subject, place: str) -> None:
        """Its end is a failure or unknown, never a success."""
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(run, subject, place, "sleep", "20", timeout_seconds=15)
            subject.clock.sleep(0.5)
            subject.cluster.delete(POD, "p", namespace=place, grace_seconds=0)
            result = waiting.result()

        assert result.exit_code != 0
