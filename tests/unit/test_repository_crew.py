"""A crew: messages there and back, files and slots that both sides see, and no end of a worker that nobody hears of."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pytest

from becalm.errors import BecalmError, Damaged, MoverFailed
from becalm.repository.crew import Crew


class Heard:
    """What came back."""

    def __init__(self) -> None:
        self.messages: queue.Queue[tuple[int, Any]] = queue.Queue()
        self.failures: queue.Queue[BecalmError] = queue.Queue()

    def crew(self, **more: int) -> Crew:
        """Start one that is heard here."""
        return Crew(
            "becalm.testing.echo_worker:Echo",
            "setup",
            receive=lambda worker, message: self.messages.put((worker, message)),
            failed=self.failures.put,
            **{"workers": 2, **more},
        )


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_messages_go_to_the_worker_they_are_for_in_order(heard: Heard) -> None:
    crew = heard.crew()
    for number in range(200):
        crew.send(number % 2, number)
    came = [heard.messages.get(timeout=20) for _ in range(200)]
    crew.close()

    assert {worker: [said[1] for who, said in came if who == worker] for worker in (0, 1)} == {
        0: list(range(0, 200, 2)),
        1: list(range(1, 200, 2)),
    }


def test_files_and_slots_are_seen_on_both_sides_and_large_messages_pass_both_ways(heard: Heard, tmp_path: Path) -> None:
    """Far more than a socket holds, in both directions at once."""
    (tmp_path / "file").write_bytes(b"content")
    crew = heard.crew(slots=1, slot_bytes=4096)
    with (tmp_path / "file").open("rb") as file:
        crew.send(0, (0, b"bytes"), [file.fileno()] * 3)
    for _ in range(20):
        crew.send(1, b"x" * (1 << 20))
    came = [heard.messages.get(timeout=20) for _ in range(21)]
    seen = bytes(crew.slots[0][:5])
    crew.close()

    assert (0, ("setup", (0, b"bytes"), [b"content"] * 3)) in came
    assert seen == b"bytes"
    assert sum(len(said[1]) for worker, said in came if worker == 1) == 20 << 20


def test_what_a_worker_raises_is_raised_here_with_place_and_remedy(heard: Heard) -> None:
    crew = heard.crew()
    crew.send(0, "raise")
    failure = heard.failures.get(timeout=20)
    crew.close()

    assert isinstance(failure, Damaged)
    assert (failure.message, failure.where, failure.hint) == ("broken", "here", "mend it")


def test_a_worker_that_dies_is_heard_of(heard: Heard) -> None:
    crew = heard.crew()
    crew.send(1, "die")
    failure = heard.failures.get(timeout=20)
    crew.close()

    assert isinstance(failure, MoverFailed)
    assert "signal 9" in failure.message


def test_workers_end_with_the_crew_even_in_the_middle_of_their_work(heard: Heard) -> None:
    crew = heard.crew()
    for _ in range(50):
        crew.send(0, b"x" * (1 << 20))
    crew.close()
    crew.close()

    assert heard.failures.empty()
