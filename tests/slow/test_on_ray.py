"""Ray keeps the cluster's promises: the same verdict, through deaths and mistakes."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import ray

from conftest import TINY, tiny
from helpers.placed import places
from rigorl import experiment
from rigorl.errors import DivergedError, SpecError, Stopped
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.journal import at_home
from rigorl.outside.on_ray.cluster import QUIET, RayCluster, check_room
from rigorl.outside.on_ray.tries import FAILURES
from rigorl.outside.on_ray.worker import Terms
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.resources import Needs
from rigorl.spec import Experiment
from rigorl.trial import Beat, Bundle, Event, Report, Trial, Trouble

pytestmark = pytest.mark.filterwarnings("default")
GRAVITY = (("earth", 9.8), ("jupiter", 24.8))


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for the whole file; its workers can import the tests' helpers."""
    os.environ.update(QUIET)
    root = Path(__file__).parents[2]
    paths = [str(root / "platform"), str(root / "tests")]
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": env},
    )
    yield
    ray.shutdown()


def play(spec: Experiment, journal: Any, home: Path, stop: Stop | None = None) -> Any:
    how = spec.placement
    cluster = RayCluster(home, spec.needs, how.strategy, spec.exam, how.crew.size, stop)
    return experiment.run(spec, cluster, journal, optuna_ask.ask)


def changed(spec: Experiment, **parts: Any) -> Experiment:
    """Return *spec* with keys added to some of its parts."""
    raw = msgspec.to_builtins(spec)
    return msgspec.convert({**raw, **{k: {**raw[k], **v} for k, v in parts.items()}}, Experiment)


class Told(Memory):
    """A journal that keeps every event."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        super().record(trials, events)
        self.events += events

    def troubles(self) -> list[str]:
        return [event.cause for event in self.events if isinstance(event, Trouble)]


def encoded(journal: Memory) -> dict[str, bytes]:
    return {
        trial: msgspec.msgpack.encode([told[key] for key in sorted(told)])
        for trial, told in journal.told.items()
    }


def test_ray_and_one_process_agree_on_every_report(searching: Experiment, tmp_path: Path) -> None:
    here, there = Memory(), Memory()
    expected = experiment.run(searching, InProcess(tmp_path / "here"), here, optuna_ask.ask)
    assert play(searching, there, tmp_path / "there") == expected
    assert encoded(there) == encoded(here)
    assert there.asked == here.asked


@pytest.mark.parametrize("way", ["hyperband", "racing", "both"])
def test_ray_and_one_process_prune_alike(way: str, tmp_path: Path) -> None:
    """A bundle comes back with other bars, and the seeds of a candidate one after another."""
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
    prune = {"kind": way, "grace": 0.2, "eta": 2}
    how = {"space": space, "candidates": 8, "prune": prune, "repeats": 2}
    spec = tiny(
        arms={"x": {"agent": {"name": "helpers.seeker"}, "search": how}},
        tasks=[{"name": "half", "env": "helpers.worlds:Target-v0", "kwargs": {"noise": 0.01}}],
        budget={"steps": 25, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 10},
        seeds={"tune": [10, 11, 12, 13, 14], "test": [0]},
    )
    here, there = Memory(), Memory()
    expected = experiment.run(spec, InProcess(tmp_path / "here"), here, optuna_ask.ask)
    tuned = expected.arms["x"].tuning
    assert tuned is not None
    assert tuned.pruned
    assert play(spec, there, tmp_path / "there") == expected
    assert encoded(there) == encoded(here)
    assert there.asked == here.asked


def test_exams_on_a_crew_change_nothing_that_is_told(searching: Experiment, tmp_path: Path) -> None:
    crew = {"crew": {"cpus": 0.25}}
    spec = changed(searching, budget={"cpus": 0.5}, exam={"crew": 2, "backlog": 3}, placement=crew)
    here, there = Memory(), Memory()
    expected = experiment.run(spec, InProcess(tmp_path / "here"), here, optuna_ask.ask)
    assert play(spec, there, tmp_path / "there") == expected
    assert encoded(there) == encoded(here)


def test_learners_that_share_minibatches_on_ray_make_the_same_as_one_in_turns(
    tmp_path: Path,
) -> None:
    config = {"n_steps": 32, "epochs": 2, "learners": 3}
    spec = tiny(
        arms={"ppo": {"agent": {"name": "ppo", "config": config}}},
        tasks=[{"name": n, "env": "CartPole-v1", "physics": {"gravity": g}} for n, g in GRAVITY],
        budget={"steps": 512, "exam_every": 256, "exam_episodes": 2, "num_envs": 4, "cpus": 0.5, "dense": [1, 3]},
        placement={"strategy": "SPREAD", "crew": {"size": 2, "cpus": 0.25}},
        exam={"crew": 1},
    )  # fmt: skip
    here, there = Memory(), Memory()
    experiment.run(spec, InProcess(), here, optuna_ask.ask)
    play(spec, there, tmp_path)
    assert encoded(there) == encoded(here)


class Killed(Exception):  # noqa: N818
    pass


class Late(Memory):
    """A journal that takes its time with the first report, and whose driver then dies."""

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        if any(isinstance(event, Report) for event in events) and not self.told:
            time.sleep(2.0)
            raise Killed
        super().record(trials, events)


def test_what_was_told_while_the_driver_was_late_is_not_lost_with_it(tmp_path: Path) -> None:
    budget = {"steps": 200, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 5}
    agent = {"name": "helpers.seeker", "config": {"pause": 0.01}}
    spec = tiny(arms={"x": {"agent": agent}}, budget=budget, seeds={"test": [0]})
    late, again, whole = Late(), Memory(), Memory()
    with pytest.raises(Killed):
        play(spec, late, tmp_path)
    assert list(tmp_path.glob("*/checkpoint-*")), "it was ahead"
    play(spec, again, tmp_path)
    experiment.run(spec, InProcess(), whole, optuna_ask.ask)
    assert encoded(again) == encoded(whole)


def test_trials_that_are_shorter_than_the_start_of_a_worker_have_more_than_one(
    tmp_path: Path,
) -> None:
    words = tmp_path / "words"
    words.mkdir()
    agent = {"name": "helpers.placed", "config": {"folder": str(words), "pause": 0.02}}
    spec = tiny(arms={"x": {"agent": agent}}, seeds={"test": list(range(12))})
    play(spec, Memory(), tmp_path / "trials")
    assert len({place.process for place in places(words)}) > 1


def test_ppo_on_ray_is_to_the_bit_ppo_in_this_process(tmp_path: Path) -> None:
    spec = tiny(
        arms={"ppo": {"agent": {"name": "ppo", "config": {"n_steps": 32, "epochs": 2}}}},
        tasks=[{"name": "pole", "env": "CartPole-v1"}],
        budget={"steps": 512, "exam_every": 256, "exam_episodes": 2, "num_envs": 4},
    )
    here, there = Memory(), Memory()
    experiment.run(spec, InProcess(), here, optuna_ask.ask)
    play(spec, there, tmp_path)
    assert encoded(there) == encoded(here)


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    dying = {"die_at": 30, "scar": str(tmp_path / "scar")}
    spec = tiny(
        arms={"x": {"agent": {"name": "helpers.seeker", "config": dying}}},
        budget={"steps": 40, "exam_every": 10, "exam_episodes": 1, "checkpoint_every": 20},
        seeds={"test": [0]},
    )
    died, whole = Told(), Memory()
    verdict = play(spec, died, tmp_path / "trials")
    assert (tmp_path / "scar").exists()
    (trouble,) = died.troubles()
    assert trouble.startswith("it was killed from outside on ")
    assert experiment.run(spec, InProcess(), whole, optuna_ask.ask) == verdict
    assert encoded(died) == encoded(whole)


def test_a_worker_that_dies_between_two_bundles_costs_neither(tmp_path: Path) -> None:
    class Killer(RayCluster):
        def play(self, agenda: Agenda, record: Any) -> None:
            settle = agenda.settle

            def killing(bundle: Bundle) -> None:
                settle(bundle)
                agenda.settle = settle
                for one in psutil.Process().children(recursive=True):
                    if "".join(one.cmdline()).startswith("ray::Player"):
                        one.kill()

            agenda.settle = killing  # type: ignore[method-assign]
            super().play(agenda, record)

    spec = tiny(seeds={"test": [0, 1, 2, 3]})
    disturbed, whole = Told(), Memory()
    verdict = experiment.run(spec, Killer(tmp_path), disturbed, optuna_ask.ask)
    assert not verdict.failures
    assert any("it was killed from outside" in words for words in disturbed.troubles())
    experiment.run(spec, InProcess(), whole, optuna_ask.ask)
    assert encoded(disturbed) == encoded(whole)


class Killing(Told):
    """A journal at whose first beat the member of a crew that is ours is killed."""

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        super().record(trials, events)
        if (
            any(isinstance(event, Beat) and event.update for event in events)
            and not self.troubles()
        ):
            ours = psutil.Process().children(recursive=True)
            for member in (p for p in ours if "".join(p.cmdline()).startswith("ray::Member")):
                member.kill()


def test_a_learner_that_is_killed_beside_others_is_named_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    """The leader notices a broken connection, and its crew a little later why."""
    config = {"n_steps": 64, "epochs": 200, "minibatch": 16, "learners": 2}
    spec = tiny(
        arms={"ppo": {"agent": {"name": "ppo", "config": config}}},
        tasks=[{"name": "pole", "env": "CartPole-v1"}],
        budget={"steps": 512, "exam_every": 256, "exam_episodes": 1, "num_envs": 4, "cpus": 0.5},
        seeds={"test": [0]},
        placement={"crew": {"size": 1, "cpus": 0.25}},
    )
    disturbed, whole = Killing(), Memory()
    play(spec, disturbed, tmp_path)
    (trouble,) = disturbed.troubles()
    assert trouble.startswith("a member of its crew is gone: it was killed from outside on ")
    assert "; so all learners of a trial must be heard" in trouble
    experiment.run(spec, InProcess(), whole, optuna_ask.ask)
    assert encoded(disturbed) == encoded(whole)


def test_a_bug_and_a_nan_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    arms = {
        "buggy": {"agent": {"name": "helpers.seeker", "config": {"raise_at": 3}}},
        "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
        **TINY["arms"],
    }
    journal = Memory()
    verdict = play(tiny(arms=arms), journal, tmp_path)
    assert verdict.arms["seeker"].complete
    causes = {mishap.arm: (mishap.cause, mishap.lasting) for mishap in verdict.failures}
    assert causes["buggy"][0].startswith("ZeroDivisionError: a bug at step 3 (helpers/seeker.py:")
    assert causes["buggy"][0].endswith("in _misbehave)")
    assert not causes["buggy"][1]
    assert "loss is nan at step 7" in causes["broken"][0]
    assert causes["broken"][1]


def test_a_worker_that_dies_each_time_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    dead = {"agent": {"name": "helpers.seeker", "config": {"die_at": 3}}}
    spec = tiny(arms={"dead": dead, **TINY["arms"]}, seeds={"test": [0]})
    journal = Told()
    verdict = play(spec, journal, tmp_path)
    assert verdict.arms["seeker"].complete
    (mishap,) = verdict.failures
    assert f"its worker died {FAILURES + 1} times" in mishap.cause
    assert journal.troubles()[0] in mishap.cause
    assert len(journal.troubles()) == FAILURES + 1
    assert not mishap.lasting


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"needs": (Needs(3),)}, r"cpus .* 3 are asked for and 2 are there.*budget.cpus"),
        ({"needs": (Needs(1, gpus=0.5),)}, r"gpus .* 0.5 are asked for and 0 are.*budget.gpus"),
        ({"needs": (Needs(memory=2**50),)}, r"memory .* 1.05e\+06 GiB are.*learner.memory"),
        ({"needs": (Needs(resources={"arm": 1}),)}, r"arm .* and 0 are there.*learner.resources"),
        ({"needs": (Needs(labels={"room": "a"}),)}, r"room: a is asked for .* none such"),
        (
            {"needs": (Needs(1), Needs(1), Needs(1)), "crew": 2},
            r"3 are asked for by a learner and 2 others of its trial and 2 .*placement.crew",
        ),
        ({"needs": (Needs(1), Needs(1)), "strategy": "STRICT_SPREAD"}, "this machine is one node"),
    ],
)
def test_what_this_machine_never_has_is_refused(terms: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        check_room(Terms(tmp_path, **terms))


def test_an_arm_after_another_finds_its_policies(tmp_path: Path) -> None:
    arms = {"placebo": {"after": "seeker", "agent": {"name": "frozen"}}, **TINY["arms"]}
    verdict = play(tiny(arms=arms), Memory(), tmp_path)
    assert verdict.arms["placebo"].score == verdict.arms["seeker"].score


def test_a_report_that_differs_ends_the_run(spec: Experiment, tmp_path: Path) -> None:
    with closing(at_home(tmp_path)) as journal:
        play(spec, journal, tmp_path / "first")
        (trial, *_) = journal.trials("tiny")
        (first, *_) = journal.reports({trial.id})[trial.id]
        lie = msgspec.structs.replace(first, metrics={"loss": 99.0})
    with closing(at_home(tmp_path / "other")) as journal:
        journal.record([trial], [lie])
        with pytest.raises(DivergedError, match=trial.id):
            play(spec, journal, tmp_path / "second")


class Signalling(Told):
    """A journal at whose first report a signal comes, and then one more after so many seconds."""

    def __init__(self, again: float | None = None) -> None:
        super().__init__()
        self.again, self.at = again, 0.0

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        super().record(trials, events)
        if not self.at and any(isinstance(event, Report) for event in events):
            self.at = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            if self.again is not None:
                threading.Timer(self.again, os.kill, (os.getpid(), signal.SIGTERM)).start()


def slow_study(steps: int, checkpoint_every: int) -> Experiment:
    budget = {
        "steps": steps,
        "exam_every": 5,
        "exam_episodes": 1,
        "checkpoint_every": checkpoint_every,
    }
    agent = {"name": "helpers.seeker", "config": {"pause": 0.05}}
    return tiny(arms={"x": {"agent": agent}}, budget=budget, seeds={"test": [0, 1, 2]})


def stopped(spec: Experiment, journal: Memory, home: Path) -> None:
    stop = Stop()
    with stop.listening(), pytest.raises(Stopped) as caught, stop.gently():
        play(spec, journal, home, stop)
    assert caught.value.signal == signal.SIGTERM


def test_a_stop_waits_for_checkpoints_and_the_study_goes_on(tmp_path: Path) -> None:
    spec, journal, whole = slow_study(60, 20), Signalling(), Memory()
    stopped(spec, journal, tmp_path)
    last = {event.trial: event for event in journal.events if isinstance(event, Report | Beat)}
    assert all(isinstance(event, Beat) and event.saved for event in last.values())
    assert not any(isinstance(e, Report) and e.finished for e in journal.events)
    verdict = play(spec, journal, tmp_path)
    assert verdict == experiment.run(spec, InProcess(), whole, optuna_ask.ask)
    assert encoded(journal) == encoded(whole)


def test_the_second_signal_is_obeyed_at_once(tmp_path: Path) -> None:
    journal = Signalling(again=0.5)
    stopped(slow_study(600, 600), journal, tmp_path)
    assert time.monotonic() - journal.at < 15, "it waited for the end of its patience"
