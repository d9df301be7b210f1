"""When a fall is an alarm: cases worked by hand, and what must hold of all curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conftest import tiny
from helpers.trials import HALF, MINUS, trial
from rigorl import cli, plan
from rigorl.alarms import AlarmSpec, Fall, Watched
from rigorl.analysis.alarm import (
    ROLLED_BACK,
    ROLLED_BACK_TO,
    Moment,
    Raised,
    alarms,
    looked,
    scores,
    words,
)
from rigorl.analysis.continual import windowed_forgetting
from rigorl.growth import differences
from rigorl.spec import Experiment
from rigorl.trial import Report, Score

TASKS = tuple(replace(task, random=-100.0, reference=100.0) for task in (HALF, MINUS))
THREE = (*TASKS, replace(TASKS[0], name="third"))
TWO = [
    {"name": name, "env": "helpers.worlds:Target-v0", "random": -2.5, "reference": 0}
    for name in ("half", "less")
]


def told(
    *stages: Sequence[float | Sequence[float]], metrics: dict[int, dict[str, float]] | None = None
) -> list[Report]:
    """Return reports, an exam after another, of the score on the first task, or on several."""
    one, made, n = trial(tasks=THREE), [], 0
    for stage, rows in enumerate(stages):
        for step, score in enumerate(rows, 1):
            several = [score] if isinstance(score, float) else list(score)
            n += 1
            made.append(
                Report(
                    trial=one.id,
                    stage=stage,
                    step=step,
                    update=n,
                    rung=n - 1,
                    stage_ended=False,
                    finished=False,
                    metrics=(metrics or {}).get(n - 1, {}),
                    scores=tuple(
                        Score(task.name, "p", ((200 * x - 100,),))
                        for task, x in zip(THREE, several, strict=False)
                    ),
                )
            )
    return made


def found(reports: Sequence[Report], drop: float = 0.3, within: int = 3) -> list[Raised]:
    return alarms(trial(tasks=THREE), reports, AlarmSpec(drop=drop, within=within))


def summed(raised: Sequence[Raised]) -> list[tuple[str, int, float, float]]:
    return [(one.task, one.at.update, round(one.before, 9), round(one.score, 9)) for one in raised]


def test_a_fall_after_it_was_learned_counts_from_the_score_when_learned() -> None:
    assert summed(found(told([0.9, 0.2, 0.8], [0.5]))) == [("half", 4, 0.8, 0.5)]


def test_what_falls_while_it_is_learned_is_no_alarm() -> None:
    assert found(told([0.9, 0.1, 0.9, 0.1])) == []


def test_a_fall_by_just_so_much_is_one_whatever_floats_say() -> None:
    assert 0.7 - 0.4 < 0.3
    assert summed(found(told([0.7], [0.4]))) == [("half", 2, 0.7, 0.4)]
    assert found(told([0.7], [0.401])) == []


def test_a_slow_fall_is_one_if_the_window_is_long_enough() -> None:
    slow = told([0.9], [0.8, 0.7, 0.6, 0.5])
    assert found(slow, within=3) == []
    assert summed(found(slow, within=4)) == [("half", 4, 0.9, 0.6)]


def test_of_equal_scores_the_later_one_is_where_it_began_to_fall() -> None:
    one = trial(tasks=THREE)
    watch: Mapping[str, Watched] = {}
    fallen: list[Fall] = []
    for n, report in enumerate(told([0.9], [0.8, 0.9, 0.5])):
        seen = scores(one, report)
        watch, fallen = looked(one, watch, report, seen, AlarmSpec(drop=0.3, within=9), str(n))
    assert [(fall.since.number, fall.since.checkpoint) for fall in fallen] == [(3, "2")]


def test_each_further_fall_is_one_more_and_what_stays_low_is_none() -> None:
    falls = summed(found(told([0.9], [0.5, 0.5, 0.5, 0.1])))
    assert falls == [("half", 2, 0.9, 0.5), ("half", 5, 0.5, 0.1)]


def test_the_task_being_learned_is_not_watched_and_all_earlier_ones_are() -> None:
    both = told([0.9], [(0.9, 0.8)], [(0.5, 0.4, 0.9), (0.5, 0.4, 0.1)])
    assert summed(found(both)) == [("half", 3, 0.9, 0.5), ("minus", 3, 0.8, 0.4)]


def test_recovered_is_what_has_come_back_to_95_percent() -> None:
    (one,) = found(told([1.0], [0.4, 0.3, 0.94, 0.95, 0.9]))
    assert (one.lowest, one.recovered) == (pytest.approx(0.3), Moment(1, 4, 5))
    assert words(one).endswith("lowest 0.3, recovered by update 5")
    (one,) = found(told([1.0], [0.4, 0.3]))
    assert (one.lowest, one.recovered) == (pytest.approx(0.3), None)


def test_a_small_fall_is_not_over_at_once() -> None:
    (one,) = found(told([1.0], [0.97, 0.97]), drop=0.02)
    assert one.recovered is None


def test_of_a_negative_score_less_is_more() -> None:
    (one,) = found(told([-0.5], [-1.0, -0.6, -0.52]))
    assert (one.drop, one.recovered) == (pytest.approx(0.5), Moment(1, 3, 4))


def test_a_task_that_was_not_examined_did_not_fall() -> None:
    missing = told([0.9], [0.9, 0.9, 0.5])
    missing[1] = replace(missing[1], scores=())
    assert summed(found(missing, within=2)) == [("half", 4, 0.9, 0.5)]


def test_after_a_roll_back_the_window_is_that_of_the_checkpoint() -> None:
    """It went back to where it had seen three exams: 0.2 is no level of its life any more."""
    alarm = AlarmSpec(drop=0.3, within=3, then="roll_back")
    back = {ROLLED_BACK: 1.0, ROLLED_BACK_TO: 3.0}
    not_yet = {ROLLED_BACK: 0.0, ROLLED_BACK_TO: 0.0}
    metrics = {n: not_yet if n < 5 else back for n in range(8)}
    reports = told([0.9], [0.85, 0.8, 0.2, 0.1, 0.55, 0.5, 0.5], metrics=metrics)
    one = trial(tasks=THREE, alarm=alarm)
    raised = alarms(one, reports, alarm)
    # Without the checkpoint's 0.85 in the window, 0.55 would be a rise from 0.1.
    assert summed(raised) == [("half", 4, 0.85, 0.2), ("half", 6, 0.85, 0.55)]
    assert [one.outcome for one in raised] == ["rolled back", "marked"]
    # And again, to the checkpoint that it made when it went back.
    metrics |= {n: {ROLLED_BACK: 2.0, ROLLED_BACK_TO: 5.0} for n in (7, 8)}
    again = told([0.9], [0.85, 0.8, 0.2, 0.1, 0.84, 0.5, 0.55, 0.5], metrics=metrics)
    raised = alarms(one, again, alarm)
    assert summed(raised)[1:] == [("half", 7, 0.84, 0.5), ("half", 8, 0.85, 0.55)]
    assert [one.outcome for one in raised] == ["rolled back", "rolled back", "marked"]


curves = st.lists(st.integers(-20, 20).map(lambda x: x / 10), min_size=1, max_size=30)
windows, drops = st.integers(2, 12), st.sampled_from([0.05, 0.15, 0.35, 0.75])


@given(score=st.floats(-2, 2), count=st.integers(1, 30), within=windows, drop=drops)
@settings(deadline=None)
def test_what_does_not_change_raises_none(
    score: float, count: int, within: int, drop: float
) -> None:
    assert found(told([score], [score] * count), drop, within) == []


@given(curve=curves, more=curves, within=windows, drop=drops)
@settings(deadline=None)
def test_evaluations_that_come_later_take_none_away(
    curve: list[float], more: list[float], within: int, drop: float
) -> None:
    before = summed(found(told([0.5], curve), drop, within))
    after = summed(found(told([0.5], [*curve, *more]), drop, within))
    assert after[: len(before)] == before


@given(curve=curves, within=windows, drop=drops)
@settings(deadline=None)
def test_there_is_one_exactly_where_windowed_forgetting_comes_to_as_much(
    curve: list[float], within: int, drop: float
) -> None:
    fell = windowed_forgetting(np.array([[0.5, *curve]]), within)
    assert bool(found(told([0.5], curve), drop, within)) == (fell >= drop)


@given(curve=curves, within=windows, drop=drops)
@settings(deadline=None)
def test_each_is_a_fall_and_none_comes_back_before_it(
    curve: list[float], within: int, drop: float
) -> None:
    for one in found(told([0.5], curve), drop, within):
        assert one.drop >= drop - 1e-9
        assert one.lowest <= one.score < one.before
        assert one.recovered is None or one.recovered.update > one.at.update


def asking(alarm: Any, **changes: Any) -> Experiment:
    budget = {"steps": 20, "exam_every": 10, "exam_episodes": 1, "dense": [1, 3]}
    return tiny(**{"tasks": TWO, "budget": budget, "alarm": alarm, **changes})


@pytest.mark.parametrize(
    ("alarm", "changes", "said"),
    [
        ({"drop": 0.3, "within": 5}, {}, "within is 5 and after a switch there are 4 exams"),
        ({"drop": 0.3, "within": 2}, {"tasks": TWO[:1]}, "there is one task only"),
        ({"drop": 0.3, "within": 2}, {"tasks": [{**TWO[0], "random": "measured"}, TWO[1]]}, "half"),
        ({"drop": 0.0, "within": 2}, {}, "float` > 0.0"),
        ({"drop": float("nan"), "within": 2}, {}, "float` > 0.0"),
        ({"drop": 1.1, "within": 2}, {}, "<= 1.0"),
        ({"drop": 0.3, "within": 1}, {}, "int` >= 2"),
        ({"drop": 0.3, "within": 2, "then": "weep"}, {}, "'weep'"),
        ({"drop": 0.3, "within": 2, "times": 2}, {}, "times must count roll-backs"),
        ({"drop": 0.3, "within": 2, "then": "stop", "times": 2}, {}, "but then is 'stop'"),
        ({"drop": 0.3, "within": 2, "then": "roll_back", "times": 0}, {}, "int` >= 1"),
    ],
)
def test_what_cannot_be_is_refused(alarm: Any, changes: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        asking(alarm, **changes)
    assert said in str(error.value)


def test_check_says_the_law_the_way_out_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(__file__).parents[1] / "experiments" / "continual" / "alarm.yaml"
    assert cli.main(["check", str(shipped)]) == 0
    for change, law in {
        "alarm.within=100": "lower within or budget.exam_every, or add to budget.dense",
        "alarm.then=weep": "docs/yaml.md names them - at `$.alarm.then`",
        "alarm.drop=-1": "at `$.alarm.drop`",
        "alarm.dorp=1": "did you mean 'drop'?",
    }.items():
        assert cli.main(["check", str(shipped), "--set", change]) == 2
        assert law in capsys.readouterr().err


def test_of_the_last_task_no_scale_is_asked_for() -> None:
    bare = {key: TWO[1][key] for key in ("name", "env")}
    assert asking({"drop": 0.3, "within": 2}, tasks=[TWO[0], bare]).alarm


def test_one_that_only_marks_is_no_part_of_a_trial_and_may_change() -> None:
    without = asking(None)
    marks, other = asking({"drop": 0.3, "within": 2}), asking({"drop": 0.1, "within": 3})
    stops = asking({"drop": 0.3, "within": 2, "then": "stop"})
    ids = [
        [one.id for one in plan.trials(spec, "seeker", "test", {}, (0, 1))]
        for spec in (without, marks, other, stops)
    ]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert differences(without, marks) == differences(marks, other) == []
    assert differences(marks, without) == []
    assert differences(marks, stops)
    assert differences(stops, marks)
    assert differences(stops, without)
