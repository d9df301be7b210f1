"""One trial: exams when they are due, checkpoints that change nothing, failures that say why."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from socket import gethostname
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from conftest import tiny
from helpers.trials import HALF, encoded, reports, trial, until_saved
from rigorl.contract import Progress
from rigorl.errors import IncompleteResults, StorageError
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone, pulses
from rigorl.run import Run
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.trial import Beat, Bundle, Event, Failure, Report, Start, Trial

ONE = Bundle(trials=(trial(),))


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
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """What happens in a run that nothing interrupts."""
    return list(play(ONE, Alone(), tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("cut", [1, 9, 17, 18, 24, 35, 36, 42, 43, 44, 54, 61, 62, 84, 85, 86])
def test_an_interrupted_run_is_the_uninterrupted_one(
    cut: int, whole: list[Event], tmp_path: Path
) -> None:
    assert len(whole) == 87
    # As if killed: nothing more is saved, and the next event never arrives.
    told = list(islice(play(ONE, Alone(), tmp_path / "cut"), cut))
    again = list(play(ONE, Alone(), tmp_path / "cut"))
    both = {(r.stage, r.step, r.update): r for r in reports(told)}
    assert all(both.get((r.stage, r.step, r.update), r) == r for r in reports(again))
    assert encoded(told + again) == encoded(whole)


def test_a_checkpoint_that_is_not_written_changes_nothing_either(tmp_path: Path) -> None:
    def untimed(storage: Path | None) -> list[Event]:
        events = play(ONE, Alone(), storage)
        return [replace(e, seconds={}) if isinstance(e, Beat) else e for e in events]

    assert untimed(None) == untimed(tmp_path)


def test_it_says_where_it_is_taken_up(tmp_path: Path) -> None:
    first = next(play(ONE, Alone(), tmp_path))
    assert first == Start(trial=trial().id, stage=0, step=0, host=gethostname())
    until_saved(play(ONE, Alone(), tmp_path), 4)
    again, recovered, *_ = play(ONE, Alone(), tmp_path)
    assert again == Start(trial=trial().id, stage=1, step=16, host=gethostname(), rungs=3)
    assert isinstance(recovered, Report)
    assert (recovered.stage, recovered.step) == (0, 40)
    list(play(ONE, Alone(), tmp_path))
    over, *last = play(ONE, Alone(), tmp_path)
    where = [(e.stage, e.step) for e in last if isinstance(e, Report)]
    rungs = 8 - len(where)  # and all others were told before
    assert over == Start(trial=trial().id, stage=2, step=0, host=gethostname(), rungs=rungs)
    assert where == [(1, 10), (1, 20), (1, 30), (1, 40)]


@pytest.mark.parametrize("count", range(1, 6))
def test_whoever_records_may_be_a_checkpoint_behind(
    count: int, whole: list[Event], tmp_path: Path
) -> None:
    """The last two checkpoints are made, and nothing of what came between is known."""
    known = until_saved(play(ONE, Alone(), tmp_path / "known"), count - 1) if count > 1 else []
    until_saved(play(ONE, Alone(), tmp_path / "cut"), count + 1)
    again = list(play(ONE, Alone(), tmp_path / "cut"))
    assert isinstance(again[0], Start)
    assert again[0].rungs <= len([r for r in reports(known) if r.rung is not None])
    assert encoded(known + again) == encoded(whole)


@pytest.mark.parametrize("storage", [False, True])
def test_beats_tell_of_checkpoints_once_all_before_is_told(storage: bool, tmp_path: Path) -> None:
    events = list(play(ONE, Alone(), tmp_path if storage else None))
    saved = [(e.stage, e.step) for e in events if isinstance(e, Beat) and e.saved]
    assert saved == [(0, 16), (0, 32), (1, 0), (1, 16), (1, 32), (2, 0)]
    *_, report, beat = events
    assert isinstance(report, Report)
    assert report.finished
    assert isinstance(beat, Beat)
    assert min(beat.seconds["learn"], beat.seconds["exam"]) > 0
    assert (beat.seconds["checkpoint"] > 0) == storage


def test_one_that_stops_at_a_checkpoint_learns_nothing_twice(tmp_path: Path) -> None:
    before = until_saved(play(ONE, Alone(), tmp_path), 2)
    start, *after = play(ONE, Alone(), tmp_path)
    assert isinstance(start, Start)
    learned = [(e.stage, e.step) for e in before + after if isinstance(e, Beat) and not e.saved]
    assert len(learned) == len(set(learned))


def test_beats_of_checkpoints_are_not_held_back(tmp_path: Path) -> None:
    told = [event for events in pulses(ONE, tmp_path) for event in events]
    assert [e.saved for e in told if isinstance(e, Beat)] == [True] * 6


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


def test_policies_that_are_not_what_was_written_are_refused(tmp_path: Path) -> None:
    first = trial()
    list(play(ONE, Alone(), tmp_path))
    (tmp_path / first.id / "policies" / "constant" / "constant.json").write_bytes(b"0.5")
    with pytest.raises(StorageError, match=f"{first.id} must be as.*constant.json has .*--home"):
        Run(trial(after=first.id), Alone(), tmp_path)


@pytest.mark.parametrize(
    ("config", "kwargs", "cause"),
    [
        ({"nan_at": 13}, {}, "loss is nan at step 13, update 13 of task 'half'"),
        ({}, {"nan_after": 7}, "at most 1 % of the.* but .* did on task 'half'"),
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


def test_episodes_that_diverged_are_counted_over_the_whole_life_however_often_taken_up(
    tmp_path: Path,
) -> None:
    task = replace(HALF, kwargs={"nan_after": 7}, diverged=1.0)
    bundle = Bundle(trials=(trial(tasks=(task,)),))
    whole = list(play(bundle, Alone(), tmp_path / "whole"))
    # The worlds of steps 0-16, 16-32 and 32-40 come apart at their eighth step and all after it;
    # the exams are over before.
    assert [r.metrics["diverged"] for r in reports(whole)] == [3, 9, 9 + 7, 9 + 9 + 1]
    cut = until_saved(play(bundle, Alone(), tmp_path / "cut"), 1)
    assert encoded([*cut, *play(bundle, Alone(), tmp_path / "cut")]) == encoded(whole)


def test_episodes_that_diverged_in_exams_count_as_well() -> None:
    task = replace(HALF, kwargs={"nan_after": 3}, diverged=1.0)
    budget = Budget(steps=10, exam_every=10, exam_episodes=2)
    told = reports(play(Bundle(trials=(trial(tasks=(task,), budget=budget),)), Alone(), None))
    # In learning the fourth step and each after it, in the exam both episodes at their fourth.
    assert told[-1].metrics["diverged"] == 7 + 2


def test_closed_it_goes_on_to_where_that_is_safe_and_forgotten_it_does_not() -> None:
    seen: list[int] = []

    def learner() -> Iterator[Progress]:
        for i in range(1, 9):
            seen.append(i)
            yield Progress(i, i, safe=i % 4 == 0)

    for closed, until in ((True, 4), (False, 2)):
        run = Run(trial(), Alone())
        run._closing = closed
        seen.clear()
        watched = run._watch(learner())
        next(watched)
        next(watched)
        watched.close()
        assert seen[-1] == until


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
