"""What a sequence of tasks did to an arm: seed by seed, against a placebo, and what transferred."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import TINY, tiny
from rigorl import experiment, plan
from rigorl.analysis import statistics
from rigorl.analysis.lessons import LEVELS, PAIRED, Lessons, Told, Transfer, tell
from rigorl.analysis.statistics import Estimate
from rigorl.analysis.verdict import Verdict, judge
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.spec import Experiment
from rigorl.trial import Report, Score, Trial

ARM = {"agent": {"name": "uniform"}}
ARMS = {"x": ARM, "y": ARM, "calm": {"after": "x", "agent": {"name": "frozen"}}}
HEIR = {"after": "x", "agent": {"name": "uniform"}}
TWO = [{**TINY["tasks"][0], "name": name, "random": 10, "reference": 20} for name in "ab"]
TABLE = {"x": [[15, 0], [20, 0], [12, 14], [18, 16]], "y": [[14, 0], [16, 0], [15, 18], [16, 19]]}
NOISE = [[17, 0], [18, 0], [16, 16], [18, 16]]
"""A placebo that is not quite still: its policies have luck of their own."""
Rows = Sequence[Sequence[float]]


def spec_of(**changes: Any) -> Experiment:
    return tiny(**{"arms": ARMS, "tasks": TWO, "windows": [2, 3], **changes})


def life(trial: Trial, rows: Rows, stretch: int = 1) -> list[Report]:
    """Return two reports a stage; each exam comes 10 steps and as many updates after another."""
    places = [(stage, step) for stage in range(len(trial.tasks)) for step in (10, 20)]
    luck = trial.seed / 10
    return [
        Report(
            trial=trial.id,
            stage=stage,
            step=step,
            update=stretch * (20 * stage + step),
            rung=n,
            stage_ended=step == 20,
            finished=n == len(places) - 1,
            metrics={},
            scores=tuple(
                Score(task.name, "p", ((score + luck,),))
                for task, score in zip(trial.tasks, row, strict=False)
            ),
        )
        for n, ((stage, step), row) in enumerate(zip(places, rows, strict=True))
    ]


def judged(spec: Experiment, alone: Mapping[str, Rows] | None = None, stretch: int = 1) -> Verdict:
    trials = [t for arm in spec.arms for t in plan.trials(spec, arm, "test", {}, spec.seeds.test)]
    told = {t.id: life(t, TABLE.get(t.arm, NOISE), stretch if t.after else 1) for t in trials}
    for trial in [t for arm in spec.arms for t in plan.reference_trials(spec, arm, {})]:
        trials.append(trial)
        if alone:
            told[trial.id] = life(trial, alone[trial.tasks[0].name])
    return judge(spec, {arm: {} for arm in spec.arms}, trials, told, {})


def lessons(verdict: Verdict, arm: str) -> Lessons:
    found = verdict.arms[arm].lessons
    assert found is not None
    return found


def transfer(verdict: Verdict) -> Transfer:
    found = lessons(verdict, "x").transfer
    assert found is not None
    return found


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judged(spec_of())


def point(told: Told) -> float | None:
    return told.mean.point


def test_a_number_is_told_of_each_seed_with_mean_and_iqm() -> None:
    values = [{"a": float(seed**2), "b": 1.0} for seed in range(8)]
    found = tell(values, 3)
    assert found["a"].by_seed == (0, 1, 4, 9, 16, 25, 36, 49)
    assert point(found["a"]) == pytest.approx(17.5)
    assert found["a"].iqm.point == pytest.approx((4 + 9 + 16 + 25) / 4)
    column = np.array([[one["a"]] for one in values])
    for statistic, told in (statistics.means, found["a"].mean), (statistics.iqms, found["a"].iqm):
        assert told == Estimate.of(statistics.interval(column, statistic, 3), 8)


def test_what_a_seed_lacks_has_no_mean_and_is_never_zero() -> None:
    found = tell([{"a": 1.0}, {"a": math.nan}, {"a": 3.0}], 0)["a"]
    assert found.by_seed == (1.0, None, 3.0)
    assert found.mean == found.iqm == Estimate(None, None, None, 2)


def test_means_are_those_that_were_always_told(verdict: Verdict) -> None:
    for arm in verdict.arms.values():
        assert arm.lessons is not None
        assert arm.continual == {name: told.mean for name, told in arm.lessons.measures.items()}
    x = verdict.arms["x"].continual
    assert (x["min_fall"].point, x["wc_fall"].point) == pytest.approx((0.8, 0.4))


def test_the_placebo_stands_beside_its_arm_and_is_taken_from_what_compares(
    verdict: Verdict,
) -> None:
    x, y = lessons(verdict, "x"), lessons(verdict, "y")
    assert y.placebo == {}
    floor = x.placebo["calm"]
    assert floor.aligned
    assert point(floor.measures["min_acc"]) == pytest.approx(0.605)
    depth = floor.excess["gap_depth"]
    assert depth.by_seed == pytest.approx((0.8 - 0.2, 0.8 - 0.2))
    assert point(floor.excess["min_fall"]) == pytest.approx(0.6)
    assert point(floor.excess["wf2"]) == pytest.approx((0.8 - 0.2) / 2)
    assert not LEVELS & floor.excess.keys()
    assert set(floor.measures) - LEVELS == set(floor.excess)
    assert point(floor.raw_excess["a"]["gap_depth"]) == pytest.approx(6.0)
    assert "lowest" not in floor.raw_excess["a"]


def test_an_arm_that_goes_on_learning_is_no_placebo() -> None:
    found = judged(spec_of(arms={**ARMS, "heir": HEIR}))
    assert set(lessons(found, "x").placebo) == {"calm"}


def test_a_placebo_examined_at_other_moments_is_remarked_on(verdict: Verdict) -> None:
    assert not any("placebo" in note for note in verdict.notes)
    found = judged(spec_of(), stretch=3)
    x = lessons(found, "x")
    assert not x.placebo["calm"].aligned
    assert any("placebo 'calm' was examined at other moments than 'x'" in n for n in found.notes)


def test_raw_returns_are_told_a_task_at_a_time(verdict: Verdict) -> None:
    x = lessons(verdict, "x")
    assert x.raw["a"]["lowest"].by_seed == pytest.approx((12, 12.1))
    assert point(x.raw["a"]["gap_area"]) == pytest.approx(10 * 8 / 2 + 10 * (8 + 2) / 2)
    assert x.raw["b"]["lowest"].by_seed == (None, None)


def test_windows_say_what_span_of_updates_they_are(verdict: Verdict) -> None:
    x = lessons(verdict, "x")
    assert (x.windows["2"].median, x.windows["2"].low, x.windows["2"].high) == (10, 10, 10)
    assert x.windows["3"].median == 20
    long = lessons(judged(spec_of(windows=[5])), "x")
    assert (long.windows["5"].median, long.windows["5"].evaluations) == (None, 4)


def test_arms_are_compared_seed_by_seed(verdict: Verdict) -> None:
    pair = next(pair for pair in verdict.pairs if (pair.a, pair.b) == ("x", "y"))
    assert tuple(sorted(pair.paired)) == tuple(sorted(PAIRED))
    assert point(pair.paired["acc"]) == pytest.approx((0.8 + 0.6) / 2 - (0.6 + 0.9) / 2)
    assert point(pair.paired["min_acc"]) == pytest.approx(0.2 - 0.5)
    # luck that both seeds share is no doubt: resampled apart, the interval would have a width
    width = pair.paired["acc"].mean
    assert width.low == pytest.approx(width.high)
    assert pair.difference is not None
    assert pair.difference.low != pytest.approx(pair.difference.high)
    assert pair.paired_raw["a"]["wc_acc"].by_seed == pytest.approx((-3, -3))
    assert pair.paired_raw["b"]["wc_acc"].by_seed == pytest.approx((-3, -3))
    assert point(pair.paired_raw["b"]["min_acc"]) is None


def test_without_a_scale_there_is_raw_and_nothing_else() -> None:
    tasks = [{**TWO[0], "random": "measured"}, TWO[1]]
    x = judged(spec_of(tasks=tasks)).arms["x"]
    assert x.lessons is not None
    assert (x.continual, x.lessons.measures, x.lessons.placebo["calm"].excess) == ({}, {}, {})
    assert point(x.lessons.placebo["calm"].raw_excess["a"]["gap_depth"]) == pytest.approx(6.0)


def test_it_goes_through_json(verdict: Verdict) -> None:
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert b"NaN" not in msgspec.json.encode(verdict)


# Transfer

ALONE = {"a": [[15], [20]], "b": [[10], [12]]}


def test_transfer_asks_for_each_task_alone_once() -> None:
    spec = spec_of(transfer=True)
    trials = plan.reference_trials(spec, "x", {})
    assert [(t.tasks[0].name, t.seed) for t in trials] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert plan.reference_trials(spec, "calm", {}) == []
    assert plan.counts(spec)["x", "scale"] == 4
    assert ("calm", "scale") not in plan.counts(spec)
    tasks = [{**TWO[0], "reference": "x"}, TWO[1]]
    (of_scale,) = {t.id for t in plan.reference_trials(spec_of(tasks=tasks), "x", {}) if not t.seed}
    both = plan.reference_trials(spec_of(tasks=tasks, transfer=True), "x", {})
    assert [t.id for t in both].count(of_scale) == 1


def test_transfer_is_told_by_hand() -> None:
    found = transfer(judged(spec_of(transfer=True), ALONE))
    # b rose from .4 to .6 after a and from 0 to .2 alone, at each seed .01 more
    forward = found.forward
    assert forward["a"].by_seed == pytest.approx((0, 0), abs=1e-12)
    assert forward["b"].by_seed == pytest.approx((0.4 / 0.9, 0.4 / 0.89))
    assert found.mean == forward["b"]
    assert found.gain["b"].by_seed == pytest.approx((4, 4))


def test_transfer_waits_for_single_tasks_and_needs_a_best_score() -> None:
    none = lessons(judged(spec_of(transfer=True)), "x")
    assert none.transfer is None
    raw = [{k: v for k, v in task.items() if k not in {"random", "reference"}} for task in TWO]
    found = transfer(judged(spec_of(transfer=True, tasks=raw), ALONE))
    assert (found.forward, found.mean) == ({}, None)
    assert found.gain["b"].by_seed == pytest.approx((4, 4))


def test_dense_exams_which_only_a_sequence_has_are_left_out() -> None:
    spec = spec_of(arms={"x": ARM}, transfer=True)
    exams, single = plan.trials(spec, "x", "test", {}, (0, 1)), plan.reference_trials(spec, "x", {})
    told = {t.id: life(t, TABLE["x"]) for t in exams}
    told |= {t.id: life(t, ALONE[t.tasks[0].name]) for t in single}
    expected = transfer(judge(spec, {"x": {}}, exams + single, told, {}))
    for trial in exams:
        second = told[trial.id][2]  # of b's own stage
        scores = (Score("a", "p", ((0.0,),)), Score("b", "p", ((99.0,),)))
        dense = msgspec.structs.replace(second, step=3, update=23, rung=None, scores=scores)
        told[trial.id].insert(2, dense)
    assert transfer(judge(spec, {"x": {}}, exams + single, told, {})) == expected


def test_curves_of_other_grids_have_no_transfer() -> None:
    spec = spec_of(transfer=True)
    trials = plan.trials(spec, "x", "test", {}, (0, 1)) + plan.reference_trials(spec, "x", {})
    told = {}
    for trial in trials:
        rows = ALONE[trial.tasks[0].name] if trial.phase == "scale" else TABLE["x"]
        told[trial.id] = life(trial, rows)
        if trial.phase == "scale":
            first = msgspec.structs.replace(told[trial.id][0], step=7)
            told[trial.id][0] = first
    found = lessons(judge(spec, {"x": {}}, trials, told, {}), "x")
    assert found.transfer is None


def test_asking_later_what_transfers_plays_single_tasks_and_nothing_twice(
    tmp_path: Path,
) -> None:
    tasks = [
        {"name": "half", "env": "helpers.worlds:Target-v0", "random": -1, "reference": 0},
        {"name": "less", "env": "helpers.worlds:Target-v0", "kwargs": {"target": 0.3},
         "random": -1, "reference": 0},
    ]  # fmt: skip
    arms: dict[str, Any] = {"walk": {"agent": {"name": "helpers.seeker"}}}
    arms["calm"] = {"after": "walk", "agent": {"name": "frozen", "config": {"pause": 1}}}
    journal = Memory()
    before = experiment.run(
        tiny(arms=arms, tasks=tasks), InProcess(tmp_path), journal, optuna_ask.ask
    )
    played = set(journal.trials)
    spec = tiny(arms=arms, tasks=tasks, transfer=True)
    after = experiment.run(spec, InProcess(tmp_path), journal, optuna_ask.ask)
    added = [trial for id_, trial in journal.trials.items() if id_ not in played]
    assert {(t.arm, t.phase, len(t.tasks)) for t in added} == {("walk", "scale", 1)}
    assert len(added) == 2 * len(spec.seeds.test)
    assert after.arms["walk"].continual == before.arms["walk"].continual
    found = lessons(after, "walk").transfer
    assert found is not None
    assert set(found.forward["half"].by_seed) == {0.0}, "nothing was learned before the first task"
    assert lessons(after, "calm").transfer is None
    excess = lessons(after, "walk").placebo["calm"]
    assert point(excess.measures["gap_depth"]) == 0, "fixed episodes, a policy without luck"
    assert excess.excess["gap_depth"] == lessons(after, "walk").measures["gap_depth"]
