"""How far a study is, counted from what the journal knows."""

import io
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from conftest import tiny
from rigorl import experiment, plan
from rigorl.outside import live, optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, State
from rigorl.spec import Experiment
from rigorl.trial import Failure, Trial


def state(trial: Trial, step: int = 0, age: float = 0.0, **changes: Any) -> State:
    at = int((time.time() - age) * 1000)
    parts: dict[str, Any] = {"stage": 0, "finished": False, "failure": None}
    return State(**{**parts, "trial": trial, "step": step, "at": at, **changes})


@pytest.fixture
def trials(searching: Experiment) -> list[Trial]:
    return plan.trials(searching, "plain", "test", {}, searching.seeds.test)


def test_what_is_not_begun_is_counted_too(searching: Experiment) -> None:
    found = live.counts(searching, [])
    assert {what: count.planned for what, count in found.items()} == plan.counts(searching)
    assert all(count.left == 1.0 and count.share == 0.0 for count in found.values())


def test_finished_running_failed_and_ended_are_told_apart(
    searching: Experiment, trials: list[Trial]
) -> None:
    a, b, c = trials
    failure = Failure(trial=c.id, stage=0, step=10, cause="x", lasting=True)
    states = [state(a, finished=True), state(b, 10), state(c, 10, failure=failure)]
    count = live.counts(searching, states)["plain", "test"]
    assert (count.finished, count.running, count.failed) == (1, 1, 1)
    assert count.share == pytest.approx((40 + 10 + 10) / 120)
    assert count.left == pytest.approx(1 - 1 / 3 - (40 + 10) / 120)


def test_a_trial_without_a_sign_of_life_makes_no_more_steps(
    searching: Experiment, trials: list[Trial]
) -> None:
    states = [state(trials[0], 10, age=10 * live.FRESH)]
    count = live.counts(searching, states)["plain", "test"]
    assert count.running == 0
    assert count.left == pytest.approx(2 / 3)


def test_trials_of_an_earlier_version_of_the_spec_do_not_count(searching: Experiment) -> None:
    old = plan.trials(searching, "plain", "test", {}, (77,))
    assert live.counts(searching, [state(old[0], finished=True)])["plain", "test"].finished == 0


def test_what_a_member_of_a_population_was_before_is_not_counted_twice(
    searching: Experiment,
) -> None:
    arm = searching.arms["tuned"]
    how = replace(arm.search, sampler="pbt", generation=4, prune=None, every=2)
    spec = replace(searching, arms={"tuned": replace(arm, search=how)})
    was, is_ = (
        plan.trials(spec, "tuned", "tune", {"tuned": {"schedule": [[20, change]]}}, (10,))[0]
        for change in ({}, {"rate": 0.5})
    )
    count = live.counts(spec, [state(was, 20), state(is_, finished=True)])["tuned", "tune"]
    assert count.share == pytest.approx((20 + 20) / (4 * 2 * 40))
    exam = replace(is_, phase="test", seed=0)
    assert live.counts(spec, [state(exam, finished=True)])["tuned", "test"].share == 1 / 3


def test_alarms_are_counted_by_arm_and_the_last_ones_told(tmp_path: Path) -> None:
    spec = tiny(
        tasks=[
            {"name": "a", "env": "helpers.worlds:Target-v0", "random": -5, "reference": 0},
            {"name": "b", "env": "helpers.worlds:Target-v0", "kwargs": {"target": -0.5}},
        ],
        budget={"steps": 20, "exam_every": 5, "exam_episodes": 1},
        alarm={"drop": 0.2, "within": 2, "then": "stop"},
    )
    with closing(SqlJournal(f"sqlite:///{tmp_path}/journal.db")) as journal:
        progress = live.Progress(spec, journal)
        assert "alarms" not in progress._line()
        journal.begin(spec, {})
        experiment.run(spec, InProcess(), journal, optuna_ask.ask)
        line = progress._line()
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(progress._table())
        told = console.export_text()
    assert "seeker test 0/2; alarms 2, the last: seeker, test seed 1: a fell by 0.4" in line
    assert re.search(r"│ seeker │ test  │ 0/2  │ 0 +│ 0 +│ 65%   │ +│ 2 +│ 2 +│", told), told
    assert told.count("seed 0: a fell by 0.4") == told.count("seed 1: a fell by 0.4") == 1
