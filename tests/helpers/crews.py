"""Crews as bad as a crew may be: as late as possible, or in any order; and one that fails."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rigorl.errors import TrialFailed


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


class Threads(Late):
    """Works while the caller does, and ends in any order."""

    def __init__(self, size: int) -> None:
        self.size, self.pool = size, ThreadPoolExecutor(size)

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        return self.pool.submit(function, item)


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


def _fail(item: Any) -> Any:
    raise TrialFailed(f"actions must be finite, but are not on task {item.task.name!r}")
