"""One trial: exams when they are due, checkpoints that change nothing, failures that say why."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import tiny
from rigorl.errors import IncompleteResults
from rigorl.outside.in_process import Alone
from rigorl.run import Run, play
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.trial import Bundle, Event, Failure, Report, Trial

HALF = TaskSpec(name="half", env="helpers.worlds:Target-v0", kwargs={"target": 0.5})
MINUS = TaskSpec(name="minus", env="helpers.worlds:Target-v0", kwargs={"target": -0.5})


def trial(seed: int = 0, config: dict[str, Any] | None = None, **changes: Any) -> Trial:
    parts: dict[str, Any] = {
        "experiment": "tiny",
        "arm": "seeker",
        "phase": "test",
        "agent": AgentSpec(name="helpers.seeker", config=config or {}),
        "tasks": (HALF, MINUS),
        "budget": Budget(steps=40, exam_every=10, exam_episodes=2, checkpoint_every=15),
        "seed": seed,
    }
    return Trial(**{**parts, **changes})


def reports(events: Iterator[Event]) -> list[Report]:
    return [event for event in events if isinstance(event, Report)]


def test_exams_come_on_time_and_at_the_end_of_each_task() -> None:
    told = reports(play(Bundle(trials=(trial(),)), Alone(), None))
    where = [(r.stage, r.step, r.rung, r.stage_ended) for r in told]
    assert where == [
        (0, 10, 0, False), (0, 20, 1, False), (0, 30, 2, False), (0, 40, 3, True),
        (1, 10, 4, False), (1, 20, 5, False), (1, 30, 6, False), (1, 40, 7, True),
    ]  # fmt: skip
    assert [r.finished for r in told] == [False] * 7 + [True]
    assert {score.task for score in told[0].scores} == {"half", "minus"}


def test_exams_are_dense_after_a_switch_only_and_even_where_it_is_not_safe() -> None:
    budget = Budget(steps=40, exam_every=40, exam_episodes=1, dense=(1, 2, 5))
    told = reports(play(Bundle(trials=(trial(budget=budget),)), Alone(), None))
    where = [(r.stage, r.update - 40 * r.stage, r.rung) for r in told]
    assert where == [(0, 40, 0), (1, 1, None), (1, 2, None), (1, 5, None), (1, 40, 1)]


def test_a_yield_that_passes_several_exams_is_examined_once() -> None:
    told = reports(play(Bundle(trials=(trial(config={"every": 25}),)), Alone(), None))
    assert [(r.step, r.rung) for r in told if r.stage == 0] == [(25, 1), (40, 3)]


def test_exam_seeds_depend_on_trial_and_task_alone() -> None:
    noisy = TaskSpec(name="half", env="helpers.worlds:Target-v0", kwargs={"noise": 1.0})
    still = {"rate": 0.0, "noise": 0.0}
    told = reports(play(Bundle(trials=(trial(config=still, tasks=(noisy,)),)), Alone(), None))
    assert len({r.scores for r in told}) == 1


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    """What a run that nothing interrupts reports."""
    told = reports(play(Bundle(trials=(trial(),)), Alone(), None))
    return [msgspec.msgpack.encode(report) for report in told]


@pytest.mark.parametrize("cut", [1, 8, 15, 22, 29, 38, 39, 40, 50, 64, 78, 79])
def test_an_interrupted_run_is_the_uninterrupted_one(
    cut: int, whole: list[bytes], tmp_path: Path
) -> None:
    told: dict[Any, Report] = {}
    for attempt in range(2):
        events = play(Bundle(trials=(trial(),)), Alone(), tmp_path)
        for i, event in enumerate(events):
            if attempt == 0 and i == cut:
                break  # as if killed: nothing more is saved, and this event never arrived
            if isinstance(event, Report):
                key = event.stage, event.step, event.update
                assert told.setdefault(key, event) == event
        else:
            break
    assert [msgspec.msgpack.encode(report) for report in told.values()] == whole


def test_a_checkpoint_that_is_not_written_changes_nothing_either(tmp_path: Path) -> None:
    assert list(play(Bundle(trials=(trial(),)), Alone(), None)) == list(
        play(Bundle(trials=(trial(),)), Alone(), tmp_path)
    )


def test_final_policies_are_kept_and_given_on(tmp_path: Path) -> None:
    first = trial()
    list(play(Bundle(trials=(first,)), Alone(), tmp_path))
    frozen = AgentSpec(name="frozen", config={"pause": 10})
    second = trial(agent=frozen, after=first.id)
    told = reports(play(Bundle(trials=(second,)), Alone(), tmp_path))
    whole = reports(play(Bundle(trials=(first,)), Alone(), None))
    assert {r.scores for r in told} == {whole[-1].scores}


def test_policies_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(IncompleteResults, match="play that one first"):
        Run(trial(after="0123456789abcdef"), Alone(), tmp_path)


@pytest.mark.parametrize(
    ("config", "kwargs", "cause"),
    [
        ({"nan_at": 13}, {}, "loss is nan at step 13, update 13 of task 'half'"),
        ({}, {"nan_after": 7}, "reward must be finite.*after step 7 of task 'half'"),
    ],
)
def test_nonsense_fails_the_trial_with_step_and_cause(
    config: dict[str, Any], kwargs: dict[str, Any], cause: str
) -> None:
    task = msgspec.structs.replace(HALF, kwargs=kwargs)
    *_, last = play(Bundle(trials=(trial(config=config, tasks=(task,)),)), Alone(), None)
    assert isinstance(last, Failure)
    assert last.lasting
    assert re.search(cause, last.cause)


def test_a_bug_in_an_agent_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug at step 3"):
        list(play(Bundle(trials=(trial(config={"raise_at": 3}),)), Alone(), None))


def test_a_bundle_stops_at_the_first_bar_that_its_mean_misses() -> None:
    trials = (trial(0), trial(1))
    low, high = {0: -1e9, 2: 1e9}, {0: 1e9}
    for bars, rungs in ((low, {0, 1, 2}), (high, {0})):
        told = reports(play(Bundle(trials=trials, bars=bars), Alone(), None))
        assert {r.rung for r in told} == rungs
        assert {r.trial for r in told} == {t.id for t in trials}


def test_seeds_of_a_bundle_go_in_lockstep() -> None:
    told = reports(play(Bundle(trials=(trial(0), trial(1))), Alone(), None))
    assert [r.rung for r in told] == sorted(r.rung for r in told if r.rung is not None)


def test_an_id_survives_the_wire() -> None:
    spec = tiny(tasks=[{"name": "a", "env": "CartPole-v1", "physics": {"length": 1}}])
    one = trial(tasks=spec.tasks, config={"rate": 0.1})
    assert msgspec.json.decode(msgspec.json.encode(one), type=Trial).id == one.id
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Trial).id == one.id
