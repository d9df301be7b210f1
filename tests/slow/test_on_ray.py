"""Ray keeps the cluster's promises: the same verdict, through deaths and mistakes, by each player."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import ray

from conftest import TINY, tiny
from rigorl import experiment
from rigorl.errors import DivergedError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.journal import at_home
from rigorl.outside.on_ray.cluster import QUIET, RayCluster
from rigorl.outside.on_ray.tries import FAILURES
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.spec import Experiment
from rigorl.trial import Event, Trial, Trouble

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


class Player:
    """A cluster that plays everything in one way, whatever the agenda holds."""

    def __init__(self, searches: bool) -> None:
        self.searches = searches

    def run(self, spec: Experiment, journal: Any, home: Path, stop: Stop | None = None) -> Any:
        class Chosen(RayCluster):
            def play(cluster, agenda: Agenda, record: Any) -> None:  # noqa: N805
                agenda.searches = self.searches
                super().play(agenda, record)

        how = spec.placement
        chosen = Chosen(home, spec.needs, how.strategy, spec.exam, how.crew.size, stop)
        return experiment.run(spec, chosen, journal, optuna_ask.ask)


@pytest.fixture(params=[False, True], ids=["actors", "tune"])
def player(request: pytest.FixtureRequest) -> Player:
    return Player(request.param)


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


def test_ray_and_one_process_agree_on_every_report(
    player: Player, searching: Experiment, tmp_path: Path
) -> None:
    here, there = Memory(), Memory()
    expected = experiment.run(searching, InProcess(tmp_path / "here"), here, optuna_ask.ask)
    assert player.run(searching, there, tmp_path / "there") == expected
    assert encoded(there) == encoded(here)
    assert there.asked == here.asked


def test_exams_on_a_crew_change_nothing_that_is_told(
    searching: Experiment, player: Player, tmp_path: Path
) -> None:
    crew = {"crew": {"cpus": 0.25}}
    spec = changed(searching, budget={"cpus": 0.5}, exam={"crew": 2, "backlog": 3}, placement=crew)
    here, there = Memory(), Memory()
    expected = experiment.run(spec, InProcess(tmp_path / "here"), here, optuna_ask.ask)
    assert player.run(spec, there, tmp_path / "there") == expected
    assert encoded(there) == encoded(here)


def test_learners_that_share_minibatches_on_ray_make_the_same_as_one_in_turns(
    player: Player, tmp_path: Path
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
    player.run(spec, there, tmp_path)
    assert encoded(there) == encoded(here)


def test_ppo_on_ray_is_to_the_bit_ppo_in_this_process(player: Player, tmp_path: Path) -> None:
    spec = tiny(
        arms={"ppo": {"agent": {"name": "ppo", "config": {"n_steps": 32, "epochs": 2}}}},
        tasks=[{"name": "pole", "env": "CartPole-v1"}],
        budget={"steps": 512, "exam_every": 256, "exam_episodes": 2, "num_envs": 4},
    )
    here, there = Memory(), Memory()
    experiment.run(spec, InProcess(), here, optuna_ask.ask)
    player.run(spec, there, tmp_path)
    assert encoded(there) == encoded(here)


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(player: Player, tmp_path: Path) -> None:
    dying = {"die_at": 30, "scar": str(tmp_path / "scar")}
    spec = tiny(
        arms={"x": {"agent": {"name": "helpers.seeker", "config": dying}}},
        budget={"steps": 40, "exam_every": 10, "exam_episodes": 1, "checkpoint_every": 20},
        seeds={"test": [0]},
    )
    died, whole = Told(), Memory()
    verdict = player.run(spec, died, tmp_path / "trials")
    assert (tmp_path / "scar").exists()
    assert len(died.troubles()) == 1
    assert experiment.run(spec, InProcess(), whole, optuna_ask.ask) == verdict
    assert encoded(died) == encoded(whole)


def test_a_bug_and_a_nan_are_named_and_the_others_go_on(player: Player, tmp_path: Path) -> None:
    arms = {
        "buggy": {"agent": {"name": "helpers.seeker", "config": {"raise_at": 3}}},
        "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
        **TINY["arms"],
    }
    journal = Memory()
    verdict = player.run(tiny(arms=arms), journal, tmp_path)
    assert verdict.arms["seeker"].complete
    causes = {mishap.arm: (mishap.cause, mishap.lasting) for mishap in verdict.failures}
    assert causes["buggy"][0].startswith("ZeroDivisionError: a bug at step 3 (helpers/seeker.py:")
    assert causes["buggy"][0].endswith("in _misbehave)")
    assert not causes["buggy"][1]
    assert "loss is nan at step 7" in causes["broken"][0]
    assert causes["broken"][1]


def test_a_worker_that_dies_each_time_is_given_up_and_the_others_go_on(
    player: Player, tmp_path: Path
) -> None:
    dead = {"agent": {"name": "helpers.seeker", "config": {"die_at": 3}}}
    spec = tiny(arms={"dead": dead, **TINY["arms"]}, seeds={"test": [0]})
    journal = Told()
    verdict = player.run(spec, journal, tmp_path)
    assert verdict.arms["seeker"].complete
    (mishap,) = verdict.failures
    assert f"its worker died {FAILURES + 1} times" in mishap.cause
    assert journal.troubles()[0] in mishap.cause
    assert len(journal.troubles()) == FAILURES + 1
    assert not mishap.lasting


def test_an_arm_after_another_finds_its_policies(player: Player, tmp_path: Path) -> None:
    arms = {"placebo": {"after": "seeker", "agent": {"name": "frozen"}}, **TINY["arms"]}
    verdict = player.run(tiny(arms=arms), Memory(), tmp_path)
    assert verdict.arms["placebo"].score == verdict.arms["seeker"].score


def test_a_report_that_differs_ends_the_run(
    player: Player, spec: Experiment, tmp_path: Path
) -> None:
    with closing(at_home(tmp_path)) as journal:
        player.run(spec, journal, tmp_path / "first")
        (trial, *_) = journal.trials("tiny")
        (first, *_) = journal.reports({trial.id})[trial.id]
        lie = msgspec.structs.replace(first, metrics={"loss": 99.0})
    with closing(at_home(tmp_path / "other")) as journal:
        journal.record([trial], [lie])
        with pytest.raises(DivergedError, match=trial.id):
            player.run(spec, journal, tmp_path / "second")
