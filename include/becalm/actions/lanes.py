"""The same small work on many things, side by side: each lane takes the next thing when it is free.

A future for each of ten thousand objects costs more than the objects themselves.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], things: Sequence[T], *, lanes: int) -> list[R]:
    """Return what the work made of each thing, in their order. After a failure no lane begins another thing, and the failure is raised."""
    numbers, done, failed = count(), dict[int, R](), list[BaseException]()

    def lane() -> None:
        while not failed and (number := next(numbers)) < len(things):
            try:
                done[number] = work(things[number])
            except BaseException as error:
                failed.append(error)
                raise

    with ThreadPoolExecutor(max_workers=lanes) as pool:
        for future in [pool.submit(lane) for _ in range(min(lanes, len(things)))]:
            future.result()
    return [done[number] for number in range(len(things))]
