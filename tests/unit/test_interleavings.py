"""Interleavings: the harness finds a pruner that does harm, and none of the engine's own casts dangles. `make prove` plays 100,000."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from becalm.errors import StoreUnavailable
from becalm.storage.base import ObjectStore
from becalm.testing.casts import CARELESS, CASTS
from becalm.testing.interleaver import Cast, Theatre, by_lot, following, shrink, sleepers
from becalm.testing.worlds import World


@pytest.mark.parametrize("careless", CARELESS, ids=lambda cast: cast.name)
def test_whoever_is_careless_is_found_out(careless: Cast) -> None:
    """Some order of the calls shows it; the order is shrunk to a few moves, and shows it again and again."""
    world = careless.world()
    with Theatre() as theatre:
        plays = (theatre.play(careless, world, following(schedule)) for schedule in islice(sleepers(2), 59, None, 60))
        found = next(played for played in plays if played.problem)
        shorter = shrink(theatre, careless, world, found.schedule[: found.chosen], attempts=40)
        again = [bool(theatre.play(careless, world, following(shorter)).problem) for _ in range(3)]

    assert "Damaged" in found.problem
    assert 0 < len(shorter) < found.chosen
    assert again == [True] * 3


@pytest.mark.parametrize("cast", CASTS, ids=lambda cast: cast.name)
def test_nothing_dangles_in_any_order(cast: Cast) -> None:
    """Writers, prunes, and those that sleep through their lease: what is visible is whole."""
    world = cast.world()
    with Theatre() as theatre:
        problems = [theatre.play(cast, world, by_lot(Random(seed))).problem for seed in range(4)]

    assert problems == [""] * 4


def nothing(world: World) -> None:
    """Prepare, or judge, nothing."""


def test_actors_move_as_the_schedule_says() -> None:
    """One call each; a move that its actor cannot make is left out; a killed one does nothing more."""
    seen: list[str] = []

    def actor(name: str) -> object:
        def act(world: World, store: ObjectStore) -> None:
            for number in range(3):
                store.put(f"{name}/{number}", b"")
                seen.append(f"{name}{number}")

        return act

    cast = Cast(name="three", prepare=nothing, actors=(actor("a"), actor("b"), actor("c")), judge=nothing)  # type: ignore[arg-type]
    with Theatre() as theatre:
        played = theatre.play(cast, cast.world(), following((1, 0, ~2, 2, 1, 1, 1, 0)))

    assert seen == ["b0", "a0", "b1", "b2", "a1", "a2"]
    assert [type(error).__name__ for error in played.errors] == ["NoneType", "NoneType", "Crash"]
    assert played.problem == ""


def test_an_error_that_is_not_becalms_is_a_problem() -> None:
    """A refusal of the engine is an end like any other; a bare exception is not."""

    def refused(world: World, store: ObjectStore) -> None:
        raise StoreUnavailable("not now")

    def broken(world: World, store: ObjectStore) -> None:
        raise KeyError("a slip")

    with Theatre() as theatre:
        problems = [
            theatre.play(Cast(name="one", prepare=nothing, actors=(act,), judge=nothing), World(), following(())).problem
            for act in (refused, broken)
        ]

    assert problems[0] == ""
    assert "KeyError" in problems[1]


def test_each_actor_sleeps_at_each_call() -> None:
    """No schedule comes twice, and every actor is the one who sleeps first."""
    schedules = list(sleepers(3, calls=4, long=9))

    assert len(schedules) == len(set(schedules)) == 6 * 4 * 4 * 2
    assert {schedule[0] for schedule in schedules} == {0, 1, 2}
