"""A crew on Ray: actors that work for one trial, from inside the trial's own process.

Each member has a thread in the trial's process, which hands it one item after another; so the
members are busy while the learner computes, and a result depends on its item alone. A member
that dies is replaced where it was, and its item goes first in the line.
"""

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Self, TypeVar, cast

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rigorl.outside.on_ray.deaths import Death, cause
from rigorl.outside.on_ray.items import TRIES, Job, ask, deserted, died, tell
from rigorl.outside.on_ray.parcel import Reply, Shared, pack, work
from rigorl.resources import Needs

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
V = TypeVar("V")
AHEAD = 4
"""Items for each member that may be on their way: one is worked on, others wait for their turn."""
SMALL = 2**16
"""Bytes of a shared value that travel with each item: below what Ray itself carries in a call
(100 kB), and a millisecond cheaper than its object store, on either side."""
SEATED = 120.0
"""Seconds that a member may take to start. One whose node was lost waits for another in vain,
where none has room: then its trial gives its room up, and waits in line, where it says why."""
TURN = 0.0005
"""Seconds after which Python lets another thread have its turn. With 0.005, as it comes, a member
waits 10 ms for its next item while the learner is busy in Python."""
PATIENCE = 5.0
"""Seconds that `close` waits for the threads."""


class Member:
    """Ray actor: works on one item at a time."""

    def work(self, order: bytes, *shared: bytes) -> bytes:
        return work(order, *shared)


class RayCrew:
    """Keeps `Crew` with *size* actors. Inside a placement group, *first_bundle* is the first's.

    Without a group, or a number, they sit wherever their *needs* are met. They start at the first
    use, and end with `close`, as does all that is still on its way. Unless *bounded*, `submit`
    never waits: exams are bounded by their backlog.
    """

    def __init__(
        self, size: int, needs: Needs, first_bundle: int | None = None, *, bounded: bool = True
    ) -> None:
        if size < 1:
            raise ValueError(f"a crew on Ray must have members, but size is {size}; use Alone")
        self.size, self.needs, self.first_bundle = size, needs, first_bundle
        self._most = AHEAD * size if bounded else sys.maxsize
        self._group = None if first_bundle is None else ray.util.get_current_placement_group()
        lock = threading.RLock()
        self._work, self._room = threading.Condition(lock), threading.Condition(lock)
        self._line: deque[Job] = deque()
        self._open: set[Job] = set()
        self._members: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._serving = size
        self._over: Exception | None = None
        self._deaths: deque[tuple[float, Death]] = deque(maxlen=64)
        self._known: dict[int, Shared] = {}
        self._held: weakref.WeakValueDictionary[int, Shared] = weakref.WeakValueDictionary()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self, value: V) -> V:
        """Keep *value*, packed, for as long as it, or an item with it, lives."""
        key = id(value)
        stand = self._known.get(key) or self._held.get(key)
        if stand is None:
            packed = pack(value).order
            content = packed if len(packed) <= SMALL else ray.put(packed)
            try:
                gone = weakref.finalize(value, self._known.pop, key, None)
            except TypeError:  # a tuple, a dict: it lives as long as what stands for it
                stand = self._held[key] = Shared(content, value)
            else:
                gone.atexit = False
                stand = self._known[key] = Shared(content)
        return cast("V", stand)

    def submit(self, function: Callable[[I], R], item: I) -> "Future[R]":
        job = Job(pack((function, item)))
        with self._room:
            self._begin()
            self._room.wait_for(lambda: self._over or len(self._open) < self._most)
            if self._over:
                raise self._over
            self._open.add(job)
            self._line.append(job)
            self._work.notify()
        return job.future

    def map(self, function: Callable[[I], R], items: Iterable[I]) -> Iterator[R]:
        """Yield in the order of *items*, and take no more of these than can be worked on soon."""
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(self.submit(function, item))
                if len(ahead) >= AHEAD * self.size:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()

    def deaths(self, seconds: float) -> list[Death]:
        """Return what members died of in the last *seconds*, the first one first."""
        since = time.monotonic() - seconds
        return [death for at, death in tuple(self._deaths) if at > since]

    def close(self) -> None:
        """Cancel what is on its way and end the members."""
        for job in self._end(RuntimeError("a crew must be open to take an item, but is closed")):
            job.future.cancel()
            job.future.set_running_or_notify_cancel()
        for member in self._members:
            ray.kill(member)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._known.clear()

    def _begin(self) -> None:
        """Start all members, if this has not been done; a thread each waits for them."""
        if self._over or self._members:
            return
        sys.setswitchinterval(min(TURN, sys.getswitchinterval()))
        self._members = [self._hire(seat) for seat in range(self.size)]
        for seat in range(self.size):
            thread = threading.Thread(
                target=self._serve, args=(seat,), name=f"crew-{seat}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _end(self, why: Exception) -> set[Job]:
        """Take no more items; return those that were on their way."""
        with self._room:
            self._over = self._over or why
            left, self._open = self._open, set()
            self._line.clear()
            self._work.notify_all()
            self._room.notify_all()
        return left

    def _hire(self, seat: int) -> Any:
        needs = self.needs
        options: dict[str, Any] = {
            "num_cpus": needs.cpus,
            "num_gpus": needs.gpus,
            "memory": needs.memory or None,
            "resources": dict(needs.resources),
            "max_restarts": 0,  # a member that dies is replaced here
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},  # as has the learner
        }
        if self._group and self.first_bundle is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._group, self.first_bundle + seat
            )
        else:
            options["scheduling_strategy"] = "DEFAULT"  # not in a group that its parent is in
            options["label_selector"] = dict(needs.labels)
        return ray.remote(Member).options(**options).remote()

    def _serve(self, seat: int) -> None:
        """Keep somebody on *seat* and hand over items, until the crew is over. A thread's life."""
        failed: list[Death] = []
        try:
            while len(failed) < TRIES and not self._over:
                member = self._members[seat]
                try:
                    ray.get(member.__ray_ready__.remote(), timeout=SEATED)
                except RayError as error:
                    failed.append(self._note(error))
                else:
                    failed.clear()
                    self._employ(member)
                self._replace(seat)
        finally:
            self._leave(failed)

    def _employ(self, member: Any) -> None:
        """Hand over items until *member* dies or the crew is over."""
        while (job := self._take()) is not None:
            try:
                reply = ask(member, job)
            except RayError as error:
                self._mourn(job, error)
                return
            except Exception as error:  # noqa: BLE001  whatever it is, somebody waits for an answer
                reply = Reply(None, error)
            self._settle(job, reply)

    def _take(self) -> Job | None:
        """Return the next item that is still wanted; wait for one; None: the crew is over."""
        while True:
            with self._work:
                self._work.wait_for(lambda: self._over or self._line)
                if self._over:
                    return None
                job = self._line.popleft()
            if not job.future.cancelled():
                return job
            self._settle(job, Reply(None))

    def _settle(self, job: Job, reply: Reply) -> None:
        with self._room:
            if job not in self._open:
                return  # the crew was closed meanwhile
            self._open.remove(job)
            self._room.notify()
        tell(job, reply)

    def _mourn(self, job: Job, error: RayError) -> None:
        """Put *job* first in the line again, unless too many have died of it."""
        job.deaths.append(self._note(error))
        if job.is_given_up:
            self._settle(job, Reply(None, died(job.deaths)))
            return
        with self._work:
            if job in self._open:
                self._line.appendleft(job)
                self._work.notify()

    def _note(self, error: RayError) -> Death:
        death = cause(error)
        if isinstance(error, GetTimeoutError):
            death = Death(f"it was not there after {SEATED:g} s; maybe no node has room for it")
        self._deaths.append((time.monotonic(), death))
        return death

    def _replace(self, seat: int) -> None:
        with self._work:
            if not self._over:
                ray.kill(self._members[seat])  # it may live on where it cannot be reached
                self._members[seat] = self._hire(seat)

    def _leave(self, failed: list[Death]) -> None:
        """Give the seat up; nobody is left to work if it was the last one."""
        with self._work:
            self._serving -= 1
            if self._serving or self._over:
                return
        error = deserted(failed)
        for job in self._end(error):
            tell(job, Reply(None, error))
