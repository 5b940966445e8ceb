"""One queue of things to look at, and one task that looks at them: the loop of every controller. It rests while nothing happens."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

LOG = logging.getLogger("becalm.sandbox")

_RETRY_SECONDS = 1.0


class Worker:
    """Looks once at each thing that was added, however often it was added meanwhile; one that fails is looked at again later."""

    def __init__(self, name: str, look: Callable[..., Awaitable[None] | None]) -> None:
        """Keep the function that looks; begin with `start`."""
        self._name = name
        self._look = look
        self._waiting: dict[Hashable, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End at once."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def add(self, key: Hashable) -> None:
        """Ask for a look."""
        self._waiting[key] = None
        self._wake.set()

    def add_after(self, key: Hashable, seconds: float) -> None:
        """Ask for a look at a later time."""
        asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                try:
                    done = self._look(key)
                    if inspect.isawaitable(done):
                        await done
                except Exception:
                    LOG.exception("%s could not deal with %s", self._name, key)
                    self.add_after(key, _RETRY_SECONDS)


class Tasks:
    """Background tasks under their keys, at most one for each."""

    def __init__(self) -> None:
        """Hold none."""
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Say whether that task runs."""
        return key in self._tasks

    def run(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task unless it runs already."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._guarded(key, work))

    async def finish(self) -> None:
        """Wait for the ends of all."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def stop(self) -> None:
        """Cancel all, and wait for their ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            LOG.exception("task %s failed", key)
        finally:
            self._tasks.pop(key, None)
