"""Trials of which some belong to a search: Ray Tune, whose actors play one bundle after another.

Tune places the actors, starts them anew when they die and uses them again when a bundle is
settled. It neither chooses nor stops nor saves anything: the agenda says what comes next,
a bundle knows its own bars, and a run finds its own checkpoint by its trial's id.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray import cloudpickle, tune
from ray.tune.search import Searcher

from rigorl.errors import RigorlError
from rigorl.outside.on_ray import placing
from rigorl.outside.on_ray.deaths import Death
from rigorl.outside.on_ray.nodes import nodes, trials_at_once
from rigorl.outside.on_ray.tries import Tries
from rigorl.outside.on_ray.waits import Waits
from rigorl.outside.on_ray.worker import (
    Terms,
    death,
    dismiss,
    encode,
    events,
    hands,
    tell,
)
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.trial import Bundle, Event, Trial

Record = Callable[[Sequence[Trial], Sequence[Event]], None]
ASKED = "TUNE_MAX_PENDING_TRIALS_PG"
"""Actors that Tune asks for before the first of them is there: one, where it is given a searcher,
unless this says more. An actor that is free by then takes the bundle, and that one is ended half
started: trials shorter than its start would be played one after another."""
FEW = 2
"""Of those, at least: an autoscaler is to see that they are wanted."""
NOTHING = {"order": b""}
"""What is played in place of a bundle that was given up: Tune goes on with it."""


class Player(tune.Trainable):  # type: ignore[misc]
    """Ray actor: plays the bundle of its config, a piece of news a step."""

    def setup(self, config: dict[str, Any], terms: Terms) -> None:
        self.terms, self.hands = terms, hands(terms)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another bundle in the same process: torch and MuJoCo are loaded already."""
        self._close()
        order = new_config["order"]
        self.news = tell(order, self.terms, self.hands) if order else None
        return True

    def step(self) -> dict[str, Any]:
        told = next(self.news, None) if self.news else None
        return {"events": encode(told or []), "done": told is None}

    def cleanup(self) -> None:
        self._close()
        dismiss(self.hands)

    def _close(self) -> None:
        news = getattr(self, "news", None)
        if news is not None:
            news.close()


class Ask(Searcher):  # type: ignore[misc]
    """Hands the agenda's bundles to Tune, and what comes of them to the journal.

    An error of the journal cannot be raised through Tune, which would blame the trial. It is
    kept, ends everything (`Enough`), and is raised when Tune is done.
    """

    def __init__(self, agenda: Agenda, record: Record, stop: Stop, waits: Waits) -> None:
        super().__init__(metric="events", mode="max")
        self.agenda, self._record, self.stop, self.waits = agenda, record, stop, waits
        self.playing: dict[str, Bundle] = {}
        self.heard: set[str] = set()
        """Those of them that have said something: Tune asks for more than it can play."""
        self.again: deque[Bundle] = deque()
        """What Tune gave up and we do not: it is handed out under another id."""
        self.error: RigorlError | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            if self.error or self.stop.asked or self.agenda.over:
                return Searcher.FINISHED
            bundle = self.again.popleft() if self.again else self.agenda.take()
        except RigorlError as error:
            self.error = error
            return Searcher.FINISHED
        if bundle is None:
            return None
        self.playing[trial_id] = bundle
        self.waits.ask(bundle)
        return {"order": encode(bundle)}

    def record(self, trials: Sequence[Trial], told: Sequence[Event]) -> None:
        """Record what happened; if the journal refuses, end everything."""
        try:
            self._record(trials, told)
            self.stop.note(told)
        except RigorlError as error:
            self.error = self.error or error

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        bundle, told = self.playing[trial_id], events(result["events"])
        if told:
            self.waits.begin(bundle)
            self.record(bundle.trials, told)
        if not self.stop.asked:
            self.heard.add(trial_id)

    @property
    def enough(self) -> bool:
        """The journal refused something, or a signal asked for the end and it is time."""
        going = [bundle for id_, bundle in self.playing.items() if id_ in self.heard]
        return self.error is not None or self.stop.is_due(going)

    def is_late(self, trial_id: str) -> bool:
        """Say whether this bundle began only when a signal had asked for the end."""
        return self.stop.asked and trial_id not in self.heard

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        del result
        if not error:  # else `Mourner` settles it, who knows the cause
            self.settle(trial_id)

    def put_back(self, trial_id: str) -> None:
        self.again.append(self.playing.pop(trial_id))

    def settle(self, trial_id: str) -> None:
        bundle = self.playing.pop(trial_id)
        self.waits.begin(bundle)
        self.agenda.settle(bundle)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles itself to be restored later. It never is: the journal knows."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""


class Mourner(tune.Callback):  # type: ignore[misc]
    """Records why workers died, and says when a bundle is given up; and what waits for room."""

    def __init__(self, ask: Ask, terms: Terms) -> None:
        self.ask, self.terms, self.tries = ask, terms, Tries()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """See whether to try again, as Tune is about to do, whoever is to blame."""
        del iteration, trials
        if self._mourn(trial):
            self.ask.waits.ask(self.ask.playing[trial.trial_id])
        else:
            trial.set_config(NOTHING)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """See whether to try again what Tune does not: a worker died between two bundles."""
        del iteration, trials
        if self._mourn(trial):
            self.ask.put_back(trial.trial_id)
        else:
            self.ask.settle(trial.trial_id)

    def _mourn(self, trial: Any) -> bool:
        """Record what the worker of *trial* died of; return whether its bundle is tried again."""
        bundle = self.ask.playing[trial.trial_id]
        again, told = self.tries.mourn(bundle, _death(trial, self.terms, bundle))
        self.ask.record(bundle.trials, told)
        return again

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        del iteration, trials
        waiting, told = self.ask.waits.news()
        if told:
            self.ask.record(waiting, told)


class Enough(tune.Stopper):  # type: ignore[misc]
    """Stops everything when there is enough."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        del result
        return self.ask.enough or self.ask.is_late(trial_id)

    def stop_all(self) -> bool:
        return self.ask.enough


def play(agenda: Agenda, record: Record, terms: Terms, stop: Stop) -> None:
    """Play all of *agenda*, or until a signal asked for the end and it is time."""
    with _room(terms.storage) as room:
        _play(agenda, record, terms, stop, room)


@contextmanager
def _room(storage: str) -> Iterator[str]:
    """Lend room for what Tune writes and nobody reads: not in a bucket, where it would cost."""
    if "://" not in storage:
        yield storage
        return
    with TemporaryDirectory(prefix="rigorl-tune-") as room:
        yield room


def _play(agenda: Agenda, record: Record, terms: Terms, stop: Stop, writes: str) -> None:
    ask = Ask(agenda, record, stop, Waits(terms.needs, terms.strategy))
    room = tune.PlacementGroupFactory(**placing.group_of(terms.needs, terms.strategy))
    fit = trials_at_once(terms.needs, terms.strategy, nodes(), free=True)
    os.environ[ASKED] = str(max(FEW, fit))
    player = tune.with_parameters(Player, terms=terms)
    tune.Tuner(
        tune.with_resources(player, room),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=writes,
            callbacks=[Mourner(ask, terms)],
            failure_config=tune.FailureConfig(max_failures=-1),  # `Tries` counts
            stop=Enough(ask),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
        tune_config=tune.TuneConfig(
            search_alg=ask,
            num_samples=-1,  # the agenda says when it is over
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
    ).fit()
    if ask.error:
        raise ask.error


def _name(trial: Any) -> str:
    return f"bundle_{trial.trial_id}"


def _death(trial: Any, terms: Terms, bundle: Bundle) -> Death:
    """Return what Tune wrote down here; `get_pickled_error` looks where it may take it later."""
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file or "").read_bytes())
    except OSError:
        return Death("its worker died")
    return death(error, terms, bundle)
