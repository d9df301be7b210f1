"""Threads that do small jobs together with the one who asks.

Worth it only for jobs that let go of the interpreter (the GIL), as MuJoCo's do.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

Job = Callable[[], object]


class Hands:
    """The caller's own hand, and `threads - 1` more. They end with `close`, or the process."""

    def __init__(self, threads: int) -> None:
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._asked = [SimpleQueue[Iterator[Job] | None]() for _ in range(threads - 1)]
        for asked in self._asked:
            thread = threading.Thread(target=_help, args=(asked, self._done), daemon=True)
            thread.start()

    def do(self, jobs: Iterable[Job]) -> None:
        """Do *jobs*, in any order, and return when all are done.

        Each hand takes the next one that is left: jobs may differ in length.
        """
        left = iter(jobs)
        for asked in self._asked:
            asked.put(left)
        try:
            for job in left:
                job()
        finally:
            errors = [self._done.get() for _ in self._asked]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Send the threads home, without waiting for them.

        Python closes what it forgets as it ends, when no other thread runs any more.
        """
        for asked in self._asked:
            asked.put(None)
        self._asked.clear()


def _help(
    asked: SimpleQueue[Iterator[Job] | None], done: SimpleQueue[BaseException | None]
) -> None:
    while (left := asked.get()) is not None:
        error = None
        try:
            for job in left:
                job()
        except BaseException as caught:  # noqa: BLE001  it is the caller's
            error = caught
        done.put(error)
