"""Ray Tune as a cluster: one actor plays one bundle after another.

Tune places the actors, starts them anew when they die and uses them again when a bundle is
settled. It neither chooses nor stops nor saves anything: the agenda says what comes next,
a bundle knows its own bars, and a run finds its own checkpoint by its trial's id.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import ray
from ray import tune
from ray.tune.search import Searcher

from rigorl.checkpoint import try_out
from rigorl.errors import RigorlError, SpecError
from rigorl.outside import bucket
from rigorl.outside.in_process import pulses
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.trial import Bundle, Event, Failure, Trial

Record = Callable[[Sequence[Trial], Sequence[Event]], None]
FAILURES = 2
"""How often a bundle whose worker died is tried again before it counts as failed."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal logs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the front door handles signals
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # nothing of Tune's own state is ever restored
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # stdout is for results
}


class Player(tune.Trainable):  # type: ignore[misc]
    """Ray actor: plays the bundle of its config, a pulse a step."""

    def setup(self, config: dict[str, Any], storage: str) -> None:
        self.storage = storage
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another bundle in the same process: torch and MuJoCo are loaded already."""
        self.cleanup()
        bundle = msgspec.msgpack.decode(new_config["bundle"], type=Bundle)
        self.bundle = bundle
        self.pulses = pulses(bundle, self.storage)
        return True

    def step(self) -> dict[str, Any]:
        events: list[Event] | None
        try:
            events = next(self.pulses, None)
        except Exception as error:  # noqa: BLE001  a mistake ends its own bundle and no other
            events = [_failure(self.bundle, f"{type(error).__name__}: {error}")]
        return {"events": msgspec.msgpack.encode(events or []), "done": events is None}

    def cleanup(self) -> None:
        if hasattr(self, "pulses"):
            self.pulses.close()


class Ask(Searcher):  # type: ignore[misc]
    """Hands the agenda's bundles to Tune, and what comes of them to the journal.

    An error of the journal cannot be raised through Tune, which would blame the trial. It is
    kept, ends everything (`Enough`), and is raised when Tune is done.
    """

    def __init__(self, agenda: Agenda, record: Record, stop: Stop) -> None:
        super().__init__(metric="events", mode="max")
        self.agenda, self.record, self.stop = agenda, record, stop
        self.playing: dict[str, Bundle] = {}
        self.heard: set[str] = set()
        """Those of them that have said something: Tune asks for one more than it can play."""
        self.error: RigorlError | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            if self.error or self.stop.asked or self.agenda.over:
                return Searcher.FINISHED
            bundle = self.agenda.take()
        except RigorlError as error:
            self.error = error
            return Searcher.FINISHED
        if bundle is None:
            return None
        self.playing[trial_id] = bundle
        return {"bundle": msgspec.msgpack.encode(bundle)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        events = msgspec.msgpack.decode(result["events"], type=list[Event])
        try:
            self.record(self.playing[trial_id].trials, events)
            self.stop.note(events)
            if not self.stop.asked:
                self.heard.add(trial_id)
        except RigorlError as error:
            self.error = self.error or error

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
            self.agenda.settle(self.playing.pop(trial_id))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles itself to be restored later. It never is: the journal knows."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""


class Mourner(tune.Callback):  # type: ignore[misc]
    """Records why a worker died for good."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        del iteration, trials
        bundle = self.ask.playing.pop(trial.trial_id)
        cause = (
            f"its worker died {FAILURES + 1} times; it ran out of memory, or native code crashed "
            "(Ray's logs say which)"
        )
        try:
            self.ask.record(bundle.trials, [_failure(bundle, cause)])
        except RigorlError as error:
            self.ask.error = self.ask.error or error
        finally:
            self.ask.agenda.settle(bundle)


class Enough(tune.Stopper):  # type: ignore[misc]
    """Stops everything when there is enough."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        del result
        return self.ask.enough or self.ask.is_late(trial_id)

    def stop_all(self) -> bool:
        return self.ask.enough


class RayTune:
    """A cluster: the one that RAY_ADDRESS names, or else this machine, started on demand."""

    def __init__(
        self,
        storage: Path | str,
        cpus: float = 1.0,
        gpus: float = 0.0,
        stop: Stop | None = None,
    ) -> None:
        self.storage, self.stop = bucket.located(storage), stop or Stop()
        self.resources = {"cpu": cpus, "gpu": gpus}

    def play(self, agenda: Agenda, record: Record) -> None:
        if agenda.over:
            return  # Ray need not start for nothing
        try_out(bucket.opened(self.storage, bucket.AT_FIRST))
        ours = _connect()
        ask = Ask(agenda, record, self.stop)
        try:
            if ours:
                self._check_room()
            with _room(self.storage) as room:
                self._fit(ask, room)
        finally:
            if ours:
                ray.shutdown()
        if ask.error:
            raise ask.error
        self.stop.end()

    def _check_room(self) -> None:
        """Refuse what would wait for ever. A cluster may grow; this machine does not."""
        there = ray.cluster_resources()
        for key, name in (("cpu", "CPU"), ("gpu", "GPU")):
            if self.resources[key] > there.get(name, 0):
                raise SpecError(
                    f"{key}s must be at most what this machine has, but {self.resources[key]:g} "
                    f"are asked for and {there.get(name, 0):g} are there; ask for less, or set "
                    "RAY_ADDRESS to a cluster that has them",
                    f"$.budget.{key}s",
                )

    def _fit(self, ask: Ask, room: str) -> None:
        player = tune.with_parameters(Player, storage=self.storage)
        tune.Tuner(
            tune.with_resources(player, self.resources),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=room,
                callbacks=[Mourner(ask)],
                failure_config=tune.FailureConfig(max_failures=FAILURES),
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


def _connect() -> bool:
    """Join the cluster at RAY_ADDRESS, or start one here. Return whether it is ours to end."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            **here,
        )
    except ConnectionError as error:
        raise SpecError(
            f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}; "
            "start it, or unset RAY_ADDRESS to use this machine"
        ) from error
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
    return True


@contextmanager
def _room(storage: str) -> Iterator[str]:
    """Lend room for what Tune writes and nobody reads: not in a bucket, where it would cost."""
    if "://" not in storage:
        yield storage
        return
    with TemporaryDirectory(prefix="rigorl-tune-") as room:
        yield room


def _name(trial: Any) -> str:
    return f"bundle_{trial.trial_id}"


def _failure(bundle: Bundle, cause: str) -> Failure:
    return Failure(trial=bundle.id, stage=0, step=0, cause=cause, lasting=False)


def resources() -> dict[str, float]:
    """Return what Ray would have to work with here."""
    ours = _connect()
    try:
        found: dict[str, float] = ray.cluster_resources()
        return found
    finally:
        if ours:
            ray.shutdown()
