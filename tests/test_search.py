"""Candidates, bars and winners, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny
from rigorl import plan, search
from rigorl.outside import optuna_ask
from rigorl.search import Outcome, Standing
from rigorl.searches import Prune, Search
from rigorl.space import Choice, Integer, Real
from rigorl.spec import Budget
from rigorl.trial import Failure, Report, Score, Trial

SPEC = tiny(
    tasks=[
        {"name": "a", "env": "CartPole-v1", "random": 10, "reference": 20},
        {"name": "b", "env": "CartPole-v1"},
    ],
    seeds={"test": [0, 1]},
)
TRIALS = plan.trials(SPEC, "seeker", "test", {}, SPEC.seeds.test)


def report(trial: Trial, rung: int, a: float, b: float = 99.0, stage: int = 0) -> Report:
    scores = (Score("a", "p", ((a,), (a,))), Score("b", "p", ((b,), (b,))))
    return Report(
        trial=trial.id,
        stage=stage,
        step=rung,
        update=0,
        rung=rung,
        stage_ended=rung == 3,
        finished=rung == 3,
        metrics={},
        scores=scores,
    )


def outcome(state: search.State, *values: float) -> Outcome:
    return Outcome({}, state, dict(enumerate(values)))


def test_value_is_normalised_and_counts_only_tasks_that_were_begun() -> None:
    assert search.value(TRIALS[0], report(TRIALS[0], 0, a=15.0)) == pytest.approx(0.5)
    both = report(TRIALS[0], 2, a=15.0, b=3.0, stage=1)
    assert search.value(TRIALS[0], both) == pytest.approx((0.5 + 3.0) / 2)


def known(*values: dict[int, float], finished: bool = False) -> dict[str, Standing]:
    return {
        trial.id: Standing(reached, finished) for trial, reached in zip(TRIALS, values, strict=True)
    }


def test_a_candidate_is_judged_by_its_mean_over_seeds() -> None:
    both = known({0: 0.5}, {0: 1.5})
    found = search.judge({}, TRIALS, both, {})
    assert (found.state, found.values) == ("open", {0: 1.0})
    assert search.judge({}, TRIALS, both, {0: 1.1}).state == "pruned"
    assert search.judge({}, TRIALS, both, {0: 1.0}).state == "open"


def test_a_rung_that_one_seed_has_not_reached_does_not_count() -> None:
    assert search.judge({}, TRIALS, known({0: -1e9}, {}), {0: 0.0}).state == "open"
    one = {TRIALS[0].id: Standing({0: -1e9})}
    assert search.judge({}, TRIALS, one, {0: 0.0}).state == "open"


def test_a_candidate_that_fails_on_one_seed_has_failed() -> None:
    failure = Failure(trial=TRIALS[1].id, stage=0, step=1, cause="nan", lasting=True)
    both = known({0: 1.0}, {0: 1.0}, finished=True)
    assert search.judge({}, TRIALS, both, {}).state == "finished"
    failed = {failure.trial: both[failure.trial]._replace(failure=failure)}
    assert search.judge({}, TRIALS, both | failed, {}).state == "failed"


def test_what_came_after_a_bar_that_was_missed_does_not_count() -> None:
    """Let on by a later try, it went further, and failed: at the bar that was not known."""
    failure = Failure(trial=TRIALS[1].id, stage=0, step=3, cause="nan", lasting=True)
    both = known({0: 1.0, 1: 9.0}, {0: 1.0, 1: 9.0})
    both[failure.trial] = both[failure.trial]._replace(failure=failure)
    found = search.judge({}, TRIALS, both, {0: math.inf})
    assert (found.state, found.values, found.by_seed) == ("pruned", {0: 1.0}, (1.0, 1.0))
    assert found.curves == ({0: 1.0}, {0: 1.0}), "or bars that rest on it would move"
    assert found.steps == search.judge({}, TRIALS, known({0: 1.0}, {0: 1.0}), {}).steps
    assert search.judge({}, TRIALS, both, {}).state == "failed"


def test_a_bar_that_a_rollout_passed_is_met_at_the_next_exam() -> None:
    both = known({2: 1.0}, {2: 1.0})
    assert search.judge({}, TRIALS, both, {1: math.inf}).state == "open"
    found = search.judge({}, TRIALS, both, dict.fromkeys((1, 2), math.inf))
    assert (found.state, found.value) == ("pruned", 1.0)


def test_bars_by_hand() -> None:
    curves = [{0: 1.0, 1: 4, 2: 7, 3: 9}, {0: 2.0, 1: 3, 2: 8, 3: 9}, {0: 0.0, 1: 5}]
    half = Prune(keep=0.5, grace=0.25)
    assert search.bars(half, curves, 4) == {1: 4, 2: 8}
    assert search.bars(half, curves[:1], 4) == {}
    assert search.bars(None, curves, 4) == {}


def test_the_winner_finished_and_is_the_earliest_of_equals() -> None:
    told = [outcome("pruned", 9), outcome("finished", 1, 5), outcome("finished", 9, 5)]
    assert search.best(told) is told[1]
    assert search.best([outcome("pruned", 9), outcome("failed", 9)]) is None
    assert math.isnan(outcome("failed").value)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(0.05, 0.95))
def test_at_least_the_best_of_earlier_candidates_would_go_on(
    values: list[float], keep: float
) -> None:
    curves = [{0: v, 1: v} for v in values]
    for bar in search.bars(Prune(keep=keep, grace=0.01), curves, 3).values():
        assert bar <= max(values)
        assert sum(v >= bar for v in values) >= keep * len(values)


def test_rungs_count_the_last_one() -> None:
    assert search.rungs(Budget(steps=40, exam_every=10), 2) == 8
    assert search.rungs(Budget(steps=45, exam_every=10), 1) == 5


SPACE = {
    "lr": Real(low=1e-5, high=1e-1, log=True),
    "n": Integer(low=1, high=9),
    "kind": Choice(of=("x", "y")),
}


def test_the_same_question_has_the_same_answer_whoever_asked_before() -> None:
    how = Search(space=SPACE, candidates=20)
    config = {"lr": 1e-3, "n": 2, "kind": "x"}
    told = [Outcome({**config, "n": n}, "finished", {0: float(n)}) for n in range(1, 10)]
    asked = [optuna_ask.ask(how, number, told) for number in (9, 10, 11)]
    assert asked == [optuna_ask.ask(how, number, told) for number in (9, 10, 11)]
    assert len({str(config) for config in asked}) == 3
    assert all(c.keys() == SPACE.keys() and 1e-5 <= c["lr"] <= 1e-1 for c in asked)


def test_every_kind_of_outcome_can_be_told() -> None:
    how = Search(space=SPACE, candidates=20)
    config = {"lr": 1e-3, "n": 2, "kind": "x"}
    told = [
        Outcome(config, "finished", {0: 1.0}),
        Outcome(config, "pruned", {0: 1.0}),
        Outcome(config, "failed", {}),
        Outcome({**config, "lr": 7.0}, "finished", {0: 1.0}),  # outside the space
        Outcome({**config, "lr": None}, "finished", {0: 1.0}),  # off, as it comes
    ]
    assert optuna_ask.ask(how, 4, told)["kind"] in {"x", "y"}
