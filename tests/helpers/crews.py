"""Crews without Ray: processes or threads of this machine, one that is late, one that fails."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from rigorl.errors import TrialFailed


class Pool:
    """As many members as *executor* has workers. Where the work is, is the executor's business."""

    def __init__(self, size: int, executor: Executor) -> None:
        self.size, self.executor = size, executor
        self.items: list[Any] = []
        """All that was ever asked for ..."""
        self.futures: list[Future[Any]] = []
        """... and what became of it."""

    def share(self, value: Any) -> Any:
        return value

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        self.items.append(item)
        self.futures.append(self.executor.submit(function, item))
        return self.futures[-1]

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.executor.map(function, items)

    def close(self) -> None:
        self.executor.shutdown(cancel_futures=True)


def processes(size: int) -> Pool:
    """Return a crew of fresh interpreters, as Ray's actors are: nothing is inherited."""
    spawn = multiprocessing.get_context("spawn")
    return Pool(size, ProcessPoolExecutor(size, mp_context=spawn))


def threads(size: int) -> Pool:
    """Return a crew in this process: they meet as processes do, and are there at once."""
    return Pool(size, ThreadPoolExecutor(size))


class Tardy(Future):  # type: ignore[type-arg]
    """Done when somebody insists, and no sooner."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work

    def result(self, timeout: float | None = None) -> Any:
        return self.work()


class Late:
    """Does nothing until a result is waited for."""

    size = 1

    def share(self, value: Any) -> Any:
        return value

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        return Tardy(lambda: function(item))

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


class Failing(Late):
    """As *crew*, but exam number *at* ends in nonsense."""

    def __init__(self, crew: Any, at: int) -> None:
        self.crew, self.at, self.size = crew, at, crew.size
        self.count = 0

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        self.count += 1
        if self.count == self.at:
            return self.crew.submit(_fail, item)  # type: ignore[no-any-return]
        return self.crew.submit(function, item)  # type: ignore[no-any-return]


class Hiding(Failing):
    """So that nobody knows before a result is waited for."""

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        if self.count + 1 == self.at:
            self.count += 1
            return Tardy(lambda: _fail(item))
        return super().submit(function, item)


def _fail(item: Any) -> Any:
    raise TrialFailed(f"actions must be finite, but are not on task {item.task.name!r}")
