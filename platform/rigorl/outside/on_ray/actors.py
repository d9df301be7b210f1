"""Trials without a search: actors of ours, each of which plays one bundle after another.

An actor streams what happens. The driver waits for all of them at once, records all that has
come in one transaction, and hands out the next bundles. Actors are asked for as long as there
is work for them; bundles wait for them in the driver, and go to the first that is free.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from rigorl.outside.on_ray import placing
from rigorl.outside.on_ray.nodes import nodes, trials_at_once
from rigorl.outside.on_ray.tries import Tries
from rigorl.outside.on_ray.waits import Waits
from rigorl.outside.on_ray.worker import Terms, death, encode, events, hands, is_saved, tell
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.trial import Bundle, Event, Trial

Record = Callable[[Sequence[Trial], Sequence[Event]], None]
AHEAD = 16
"""So many pieces of news may wait for the driver before an actor pauses."""
FEW, MANY = 8, 64
"""Actors that are asked for though there is no room: an autoscaler is to see that they are
wanted. As many as there are already, within these bounds."""
IDLE = 10.0
"""Seconds without work after which an actor is let go."""
LOOK = 1.0
"""Seconds between two looks at what is free."""
DOUBT = 3.0
"""Seconds that an actor may be out of reach. A node that lives says sooner who died there."""
TURN = 0.2
"""Seconds between two looks at signals."""


class Player:
    """Ray actor: plays the bundles it is given, and tells what happens as it comes."""

    def __init__(self, terms: Terms) -> None:
        self.terms, self.hands = terms, hands(terms)
        self.news: Iterator[list[Event]] = iter(())

    def play(self, order: bytes) -> Iterator[bytes]:
        """Play the bundle of *order*, or go on with what was begun, up to a checkpoint."""
        if order:
            self.news = tell(order, self.terms, self.hands)
        for told in self.news:
            yield encode(told)
            if is_saved(told):
                return


class Worker:
    """An actor, from the asking on. `news` is what to wait for: itself, or what it tells."""

    def __init__(self, actor: Any, group: Any) -> None:
        self.actor, self.group = actor, group
        self.news = actor.__ray_ready__.remote()
        self.then: Any = None
        """What it tells after that."""
        self.is_ready = self.heard = self.told = False
        self.bundle: Bundle | None = None
        self.doubt: RayError | None = None
        """Why it may be dead: it could not be reached."""
        self.since = time.monotonic()
        """The last time that it had something to do."""

    @property
    def is_free(self) -> bool:
        return self.is_ready and self.bundle is None

    def take(self, bundle: Bundle) -> None:
        self.bundle, self.heard, self.told = bundle, False, False
        self.news, self.then = self._play(encode(bundle)), self._play(b"")

    def go_on(self) -> bool:
        """Let it play on, for what it told is recorded. Say whether it told anything.

        It knows one checkpoint ahead that it may, and so is never further ahead of the journal:
        a checkpoint carries the reports since the one before the last.
        """
        told, self.told = self.told, False
        if told:
            self.news, self.then = self.then, self._play(b"")
        return told

    def _play(self, order: bytes) -> Any:
        stream = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        return self.actor.play.options(**stream).remote(order)

    def rest(self) -> None:
        self.bundle, self.news, self.then = None, None, None
        self.since = time.monotonic()

    def is_doubtful(self, error: RayError) -> bool:
        """Say whether it may be alive, or dead with all of its node: ask again for a while."""
        now = time.monotonic()
        if not isinstance(error, ActorUnavailableError):
            return False
        if self.doubt is None:
            self.doubt, self.since = error, now
        self.news = self.then = None
        return now - self.since < DOUBT

    def ask_again(self) -> None:
        self.news = self.actor.__ray_ready__.remote()

    def end(self) -> None:
        ray.kill(self.actor)
        placing.give_back(self.group)


class News:
    """What came in one turn: recorded all at once."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.events: list[Event] = []
        self.settled: list[Bundle] = []

    def add(self, trials: Sequence[Trial], told: Sequence[Event]) -> None:
        self.trials += trials
        self.events += told


class Actors:
    """The actors that play trials on *terms*; to be closed.

    *spare*: how many may be asked for beyond what there is room for; None: as a cluster that
    grows wants it.
    """

    def __init__(self, terms: Terms, stop: Stop, spare: int | None = None) -> None:
        self.terms, self.stop, self.spare = terms, stop, spare
        self.workers: list[Worker] = []
        self.line: deque[Bundle] = deque()
        """Bundles that wait for an actor."""
        self.tries, self.waits = Tries(), Waits(terms.needs, terms.strategy)
        self._fit, self._looked = 0, -LOOK

    def play(self, agenda: Agenda, record: Record) -> None:
        """Play until all is settled, or a signal asked for the end and it is time."""
        while not self.stop.is_due([w.bundle for w in self.workers if w.bundle and w.heard]):
            if not self.stop.asked:
                self._employ(agenda)
                self._let_go()
            if agenda.over:
                return
            news = self._hear()
            if not self.stop.asked:
                self._employ(agenda)  # nobody waits for the journal
            news.add(*self.waits.news())
            if news.events:
                record(news.trials, news.events)
                self.stop.note(news.events)
            for bundle in news.settled:
                agenda.settle(bundle)

    def close(self) -> None:
        """End all of them. What they have is saved, or it is played again."""
        while self.workers:
            self.workers.pop().end()

    def _employ(self, agenda: Agenda) -> None:
        self._ask(agenda)
        for worker in self.workers:
            if not self.line:
                return
            if worker.is_free:
                worker.take(self.line.popleft())

    def _ask(self, agenda: Agenda) -> None:
        """Take bundles as long as there is hope for actors, and ask for these."""
        free = sum(worker.is_free for worker in self.workers)
        coming = sum(not worker.is_ready for worker in self.workers)
        while True:
            idle = free + coming - len(self.line)
            if idle <= 0 and not self._hopes(coming):
                return
            if idle < 0:
                self._hire()
                coming += 1
                continue
            bundle = agenda.take()
            if bundle is None:
                return
            self._wait(bundle)

    def _wait(self, bundle: Bundle, *, again: bool = False) -> None:
        (self.line.appendleft if again else self.line.append)(bundle)
        self.waits.ask(bundle)

    def _hopes(self, coming: int) -> bool:
        """Say whether one more actor may be asked for."""
        alive = len(self.workers) - coming
        spare = min(MANY, max(FEW, alive)) if self.spare is None else self.spare
        if coming < spare:
            return True
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            needs, strategy = self.terms.needs, self.terms.strategy
            self._fit = trials_at_once(needs, strategy, nodes(), free=True)
        return coming < self._fit + spare

    def _hire(self) -> None:
        options, group = placing.options(self.terms.needs, self.terms.strategy)
        maker = ray.remote(Player).options(max_restarts=0, **options)
        self.workers.append(Worker(maker.remote(self.terms), group))

    def _let_go(self) -> None:
        """End actors that are not needed: those not yet there, and those that wait for long."""
        surplus = sum(not w.is_ready for w in self.workers) - len(self.line)
        now = time.monotonic()
        for worker in list(reversed(self.workers)):
            if not worker.is_ready and surplus > 0:
                surplus -= 1
            elif not worker.is_free or now - worker.since < IDLE:
                continue
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.end()

    def _hear(self) -> News:
        """Wait until there is news, and return all that there is."""
        news = News()
        for worker in self.workers:
            if worker.doubt and worker.news is None:
                worker.ask_again()
        by_news = {worker.news: worker for worker in self.workers if worker.news is not None}
        waiting = list(by_news)
        if not waiting:
            time.sleep(TURN)
            return news
        ray.wait(waiting, timeout=TURN)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for one in ready:
            worker = by_news[one]
            try:
                self._listen(worker, news)
            except RayError as error:
                if not worker.is_doubtful(error):
                    self._mourn(worker, error, news)
        return news

    def _listen(self, worker: Worker, news: News) -> None:
        """Take one thing that *worker* has to say. Raises `RayError` if it is dead."""
        bundle = worker.bundle
        if worker.doubt:
            ray.get(worker.news)
            raise worker.doubt  # it lives, but what it was playing is lost
        if bundle is None:
            ray.get(worker.news)
            worker.is_ready = True
            worker.rest()
            return
        try:
            told = events(ray.get(next(worker.news)))
        except StopIteration:
            if not worker.go_on():
                news.settled.append(bundle)
                worker.rest()
            return
        worker.told = True
        if not self.stop.asked:
            worker.heard = True
        self.waits.begin(bundle)
        news.add(bundle.trials, told)

    def _mourn(self, worker: Worker, error: RayError, news: News) -> None:
        """Let a dead actor go, and see what becomes of its bundle."""
        bundle = worker.bundle
        if not worker.is_ready and self.line:  # it never came to life: blame who was to be next
            bundle = self.line.popleft()
        self._end(worker)
        if bundle is None:
            return
        again, told = self.tries.mourn(bundle, death(error, self.terms, bundle))
        news.add(bundle.trials, told)
        if again:
            self._wait(bundle, again=True)
        else:
            self.waits.begin(bundle)
            news.settled.append(bundle)
