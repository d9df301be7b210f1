"""Curves and verdicts from made-up reports: nothing is played here."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import TINY, tiny
from rigorl import plan
from rigorl.analysis.curves import Curve, final_ST, normalise
from rigorl.analysis.statistics import Estimate, iqm, probability_of_improvement
from rigorl.analysis.verdict import Verdict, judge
from rigorl.errors import IncompleteResults
from rigorl.spec import Experiment
from rigorl.trial import Failure, Report, Score, Trial

ARM = {"agent": {"name": "uniform"}}
TWO = [{**TINY["tasks"][0], "name": name, "random": 10, "reference": 20} for name in "ab"]
SPEC = tiny(arms={"x": ARM, "y": ARM}, tasks=TWO, seeds={"test": [0, 1, 2, 3, 4]}, windows=[2])
MEASURED = [{**TWO[0], "random": "measured", "reference": "x"}, TWO[1]]
CHOSEN: dict[str, dict[str, Any]] = {"x": {}, "y": {}}
Reports = Mapping[str, Sequence[Report]]


def report(trial: Trial, place: tuple[int, int], scores: Sequence[float], last: bool) -> Report:
    stage, step = place
    return Report(
        trial=trial.id,
        stage=stage,
        step=step,
        update=10 * (20 * stage + step),
        rung=None,
        stage_ended=step == trial.budget.steps,
        finished=last,
        metrics={},
        scores=tuple(
            Score(task.name, "p", ((x - 1,), (x + 1,)))
            for task, x in zip(trial.tasks, scores, strict=True)
        ),
    )


def life(trial: Trial, rows: Sequence[Sequence[float]], finished: bool = True) -> list[Report]:
    """Return two reports a stage, with *rows* of scores, one value a task."""
    places = [(stage, step) for stage in range(len(trial.tasks)) for step in (10, 20)]
    told = list(zip(places, rows, strict=False))
    return [report(trial, at, row, finished and at == told[-1][0]) for at, row in told]


def rows(trial: Trial) -> list[list[float]]:
    """Return scores in the life of x; y earns 3 less on each task. Seeds differ a little."""
    luck = trial.seed / 10 - (3 if trial.arm == "y" else 0)
    table = [[15, 0], [20, 0], [12, 14], [18, 16]]
    return [[x + luck for x in row[: len(trial.tasks)]] for row in table]


def examined(spec: Experiment) -> list[Trial]:
    return [t for arm in spec.arms for t in plan.trials(spec, arm, "test", {}, spec.seeds.test)]


def reports_of(
    trials: Sequence[Trial], of: Callable[[Trial], list[list[float]]] = rows
) -> dict[str, list[Report]]:
    return {trial.id: life(trial, of(trial)) for trial in trials}


def failure(trial: Trial) -> Failure:
    cause = "loss must be finite, but is nan"
    return Failure(trial=trial.id, stage=1, step=7, cause=cause, lasting=True)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    trials = examined(SPEC)
    return judge(SPEC, CHOSEN, trials, reports_of(trials), {})


# Curves


def test_a_curve_is_the_reports_as_arrays() -> None:
    trial = examined(SPEC)[0]
    curve = Curve.of(trial, life(trial, rows(trial)))
    assert curve.tasks == ("a", "b")
    assert curve.scores_TN.tolist() == [[15, 20, 12, 18], [0, 0, 14, 16]]
    assert curve.total_step_N.tolist() == [10, 20, 30, 40]
    assert curve.update_N.tolist() == [100, 200, 300, 400]
    assert curve.learned_at_T.tolist() == [1, 3]
    begun = [[0.5, 1.0, 0.2, 0.8], [math.nan, math.nan, 0.4, 0.6]]
    np.testing.assert_allclose(curve.begun_TN, begun)
    found = curve.continual((2,))
    assert found["forg"] == pytest.approx(0.2)
    assert found["min_acc"] == pytest.approx(0.2)
    assert found["wf2"] == pytest.approx((0.8 + 0) / 2)


def test_a_curve_of_a_part_is_part_of_the_curve() -> None:
    trial = examined(SPEC)[0]
    told = life(trial, rows(trial))
    for count in range(1, 5):
        part, whole = Curve.of(trial, told[:count]), Curve.of(trial, told).upto(count)
        assert msgspec.to_builtins(part.continual((2,))) == pytest.approx(
            whole.continual((2,)), nan_ok=True
        )
        assert part.learned_at_T.tolist() == whole.learned_at_T.tolist()


def test_a_curve_may_be_put_on_other_scales() -> None:
    trial = examined(SPEC)[0]
    curve = Curve.of(trial, life(trial, rows(trial))).scaled({"b": (0.0, 2.0)})
    assert curve.normalised_TN[:, -1] == pytest.approx([0.8, 8.0])
    assert curve.scores_TN[:, -1].tolist() == [18, 16]


def test_policies_count_alike_and_objectives_after_the_first_do_not() -> None:
    trial = examined(tiny())[0]
    scores = (
        Score("half", "one", ((1.0, 99.0), (3.0, 99.0))),
        Score("half", "two", ((8.0, 99.0),)),
    )
    told = msgspec.structs.replace(life(trial, [[0.0]])[0], scores=scores)
    assert Curve.of(trial, [told]).scores_TN.tolist() == [[5.0]]


def test_scores_are_never_clipped() -> None:
    assert normalise(np.array([5.0, 10.0, 25.0]), 10, 20).tolist() == [-0.5, 0.0, 1.5]


def test_a_hole_is_named() -> None:
    trials = examined(SPEC)
    told = reports_of(trials)
    told[trials[1].id][-1] = msgspec.structs.replace(told[trials[1].id][-1], scores=())
    with pytest.raises(IncompleteResults, match=r"arm 'x' lacks a, b for seed 1; run the"):
        final_ST(trials[:2], told)
    del told[trials[0].id][-1]
    with pytest.raises(IncompleteResults, match="for seed 0"):
        final_ST(trials[:2], told)
    with pytest.raises(IncompleteResults, match=r"a curve needs a report.*arm 'x', seed 0"):
        Curve.of(trials[0], [])


# Verdicts


def test_a_verdict_has_the_numbers(verdict: Verdict) -> None:
    x = verdict.arms["x"]
    assert x.complete
    assert (x.seeds, x.missing, x.failures) == ((0, 1, 2, 3, 4), (), ())
    assert x.returns["a"].point == pytest.approx(18.2)
    final_x = np.array([[0.8, 0.6]] * 5) + np.arange(5)[:, None] / 100
    assert x.score is not None
    assert x.score.iqm.point == pytest.approx(iqm(final_x))
    assert x.score.mean.point == pytest.approx(0.72)
    assert x.score.iqm.low is not None
    assert x.score.iqm.low < x.score.iqm.point < x.score.iqm.high  # type: ignore[operator]
    assert x.continual["acc"].point == pytest.approx(0.72)
    assert x.continual["forg"].point == pytest.approx(0.2)
    assert x.continual["wf2"].seeds == 5


def test_a_number_that_a_seed_lacks_is_none_and_says_so(verdict: Verdict) -> None:
    assert verdict.arms["x"].continual["recovery_updates"] == Estimate(None, None, None, 0)


def test_arms_are_compared_in_pairs(verdict: Verdict) -> None:
    (pair,) = verdict.pairs
    assert (pair.a, pair.b) == ("x", "y")
    assert pair.improvement.point == probability_of_improvement([[1.0]], [[0.0]]) == 1
    assert pair.difference is not None
    assert pair.difference.point == pytest.approx(0.3)


def test_a_verdict_is_a_function_of_its_reports(verdict: Verdict) -> None:
    trials = examined(SPEC)[::-1]
    again = judge(SPEC, dict(reversed(CHOSEN.items())), trials, reports_of(trials), {})
    assert again == verdict
    assert msgspec.json.encode(again) == msgspec.json.encode(verdict)


def test_a_verdict_goes_through_json(verdict: Verdict) -> None:
    text = msgspec.json.encode(verdict)
    assert msgspec.json.decode(text, type=Verdict) == verdict


def test_an_arm_that_is_added_changes_nothing_for_the_others(verdict: Verdict) -> None:
    spec = tiny(arms={"z": ARM, "x": ARM, "y": ARM}, tasks=TWO, seeds={"test": [*range(5)]})
    spec = msgspec.structs.replace(spec, windows=(2,))
    trials = examined(spec)
    more = judge(spec, {**CHOSEN, "z": {}}, trials, reports_of(trials), {})
    assert more.arms["x"] == verdict.arms["x"]
    assert more.pairs[-1] == verdict.pairs[0]
    assert len(more.pairs) == 3


def test_an_arm_with_a_hole_gets_no_score() -> None:
    trials = examined(SPEC)
    told = reports_of(trials)
    told[trials[2].id] = life(trials[2], rows(trials[2])[:3], finished=False)
    told[trials[3].id] = []
    found = judge(SPEC, CHOSEN, trials, told, {trials[2].id: failure(trials[2])})
    x = found.arms["x"]
    assert not x.complete
    assert (x.seeds, x.missing) == ((0, 1, 4), (2, 3))
    assert (x.returns, x.score, x.continual) == ({}, None, {})
    (mishap,) = x.failures
    assert (mishap.seed, mishap.task, mishap.stage, mishap.step) == (2, "b", 1, 7)
    assert mishap.cause == "loss must be finite, but is nan"
    assert found.failures == (mishap,)
    assert found.pairs == ()
    assert found.arms["y"].complete
    assert any("seeds [2, 3] are missing" in note for note in found.notes)


def test_a_failure_that_was_mended_is_forgotten() -> None:
    trials = examined(SPEC)
    found = judge(SPEC, CHOSEN, trials, reports_of(trials), {trials[0].id: failure(trials[0])})
    assert found.arms["x"].complete
    assert found.failures == ()


def test_an_arm_without_a_winner_is_listed() -> None:
    trials = [t for t in examined(SPEC) if t.arm == "x"]
    found = judge(SPEC, {"x": {}}, trials, reports_of(trials), {})
    assert found.arms["y"].config is None
    assert found.arms["y"].missing == (0, 1, 2, 3, 4)
    assert any("'y' has no winner" in note for note in found.notes)


# Scales


def measured() -> tuple[Experiment, list[Trial], list[Trial]]:
    spec = msgspec.structs.replace(tiny(arms={"x": ARM, "y": ARM}, tasks=MEASURED), windows=(2,))
    scale = plan.random_trials(spec) + plan.reference_trials(spec, "x", {"high": 1})
    return spec, examined(spec), scale


def scale_rows(trial: Trial) -> list[list[float]]:
    end = 10.0 if trial.arm == "uniform" else 30.0
    return [[0.0], [end + trial.seed]]


def test_scales_are_measured() -> None:
    spec, trials, scale = measured()
    assert len(scale) == 4
    told = reports_of(trials) | reports_of(scale, scale_rows)
    chosen = {"x": {"high": 1}, "y": {}}
    found = judge(spec, chosen, trials + scale, told, {})
    assert found.scales["a"].kind == "measured"
    assert found.scales["a"].ends == (10.5, 30.5)
    assert (found.scales["b"].kind, found.scales["b"].ends) == ("given", (10, 20))
    x = found.arms["x"].score
    assert x is not None
    assert x.mean.point == pytest.approx(((18.05 - 10.5) / 20 + (16.05 - 10) / 10) / 2)


def test_a_scale_that_could_not_be_measured_takes_the_scores_with_it() -> None:
    spec, trials, scale = measured()
    told = reports_of(trials) | reports_of(scale[:-1], scale_rows)
    lost = failure(scale[-1])
    found = judge(spec, {"x": {"high": 1}, "y": {}}, trials + scale, told, {lost.trial: lost})
    x = found.arms["x"]
    assert x.complete
    assert x.returns["a"].point == pytest.approx(18.05)
    assert (x.score, x.continual) == (None, {})
    assert found.scales["a"].kind == "missing"
    assert found.scales["a"].ends is None
    assert any("'x', which lacks seeds [1]" in note for note in found.notes)
    assert [m.cause for m in found.scale_failures] == [lost.cause]
    assert found.failures == found.scale_failures
    (pair,) = found.pairs  # who earns more needs no scale
    assert (pair.improvement.point, pair.difference) == (1.0, None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found


def test_a_scale_without_length_is_missing() -> None:
    spec, trials, scale = measured()
    told = reports_of(trials) | reports_of(scale, lambda _: [[0.0], [10.0]])
    found = judge(spec, {"x": {"high": 1}, "y": {}}, trials + scale, told, {})
    assert found.scales["a"].kind == "missing"
    assert any("both measured as 10.0" in note for note in found.notes)


def test_a_scale_upside_down_is_remarked_on() -> None:
    tasks = [{**TWO[0], "random": 20, "reference": 10}]
    spec = tiny(arms={"x": ARM, "y": ARM}, tasks=tasks)
    trials = examined(spec)
    found = judge(spec, CHOSEN, trials, reports_of(trials), {})
    assert any("upside down" in note for note in found.notes)
    assert found.pairs[0].improvement.point == 1  # more return is still more


def test_raw_returns_are_used_and_remarked_on() -> None:
    raw = [{**TINY["tasks"][0], "name": name} for name in "ab"]
    spec = tiny(arms={"x": ARM}, tasks=raw)
    trials = examined(spec)
    found = judge(spec, {"x": {}}, trials, reports_of(trials), {})
    assert found.scales["a"].kind == "raw"
    score = found.arms["x"].score
    assert score is not None
    assert score.mean.point == pytest.approx(17.05)
    assert any("raw returns of a, b are averaged" in note for note in found.notes)
    assert any("only 2 test seeds" in note for note in found.notes)


def test_one_task_has_no_continual_numbers_and_no_remark_on_raw_returns() -> None:
    spec = tiny(seeds={"test": [*range(5)]})
    trials = examined(spec)
    found = judge(spec, {"seeker": {}}, trials, reports_of(trials), {})
    assert found.arms["seeker"].continual == {}
    assert found.notes == ()


def test_nothing_played_is_a_verdict_too() -> None:
    found = judge(SPEC, CHOSEN, examined(SPEC), {}, {})
    assert not any(arm.complete for arm in found.arms.values())
    assert found.pairs == ()
