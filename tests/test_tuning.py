"""What is told of a search: by hand, and of one that was played."""

import numpy as np
import pytest

from conftest import tiny
from rigorl import experiment, report, search
from rigorl.analysis.care import on_searches
from rigorl.analysis.tuning import Hunt, tuning
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.search import Standing
from rigorl.spec import Experiment
from rigorl.trial import Failure

HUNT = Hunt(
    states=["finished", "pruned", "finished", "failed", "finished"],
    steps=[40, 10, 40, 15, 40],
    whole=40,
    scores_CS=np.array([[-1.0, 1], [1, 3], [3, 5]]),
    test_S=np.array([2.0, 3, 4, 3]),
)


def test_by_hand() -> None:
    found = tuning(HUNT, 0)
    assert (found.candidates, found.finished, found.pruned, found.failed) == (5, 3, 1, 1)
    assert (found.steps, found.saved) == (145, 30)
    assert found.tuned == 4
    assert found.luck is None, "one was pruned, and survivors scatter less than candidates do"
    whole = tuning(HUNT._replace(states=["finished"] * 3 + ["failed"] * 2), 0)
    assert whole.luck == pytest.approx(0.5)  # a quarter of the lead of 2, as in test_seed_model
    assert found.test is not None
    assert found.gap is not None
    assert (found.test.point, found.gap.point, found.gap.seeds) == (3, 1, 4)
    assert found.test.low is not None
    assert found.gap.high == 4 - found.test.low > 1


def test_what_is_not_known_is_not_said() -> None:
    found = tuning(HUNT._replace(test_S=np.array([]), scores_CS=np.array([[4.0], [1.0]])), 0)
    assert (found.test, found.gap, found.luck, found.tuned) == (None, None, None, 4)


def test_steps_count_up_to_where_a_candidate_came() -> None:
    spec = tiny(
        tasks=[{"name": n, "env": "helpers.worlds:Target-v0"} for n in "ab"],
        budget={"steps": 25, "exam_every": 10, "exam_episodes": 1},
    )
    trials = experiment.plan.trials(spec, "seeker", "test", {}, [0, 1])

    def steps(*standings: Standing) -> int:
        known = {trial.id: s for trial, s in zip(trials, standings, strict=False)}
        return search.judge({}, trials, known, {}).steps

    assert steps() == 0
    assert steps(Standing({0: 1.0}), Standing({0: 1.0, 1: 1.0, 2: 1.0})) == 10 + 25
    assert steps(Standing({3: 1.0}), Standing({5: 1.0})) == 35 + 50
    failure = Failure(trial="", stage=1, step=3, cause="", lasting=True)
    assert steps(Standing({2: 1.0}, failure=failure)) == 28


def test_the_verdict_tells_what_a_search_found_and_spent(searching: Experiment) -> None:
    verdict = experiment.run(searching, InProcess(), Memory(), optuna_ask.ask)
    assert verdict.arms["plain"].tuning is None
    found = verdict.arms["tuned"].tuning
    assert found is not None
    assert found.candidates == 4 == found.finished + found.pruned + found.failed
    assert found.steps + found.saved == 4 * 2 * 2 * 20
    assert found.test is not None
    assert found.test.seeds == 3
    page = report.markdown(verdict)
    assert "best on tuning seeds" in page
    assert f"{found.finished} + {found.pruned} + {found.failed}" in page


def test_searches_of_unequal_budgets_are_said_to_be() -> None:
    (told,) = on_searches({}, {}, {"a": 3000, "b": 1000}, 2)
    assert told.startswith("budgets differ: the search of arm 'a' was given 3,000 steps, ")
    assert "of arm 'b' 1,000; " in told
    assert not list(on_searches({}, {}, {"a": 1000, "b": 1050}, 2))
    assert not list(on_searches({}, {}, {"a": 1000}, 2))
    assert not list(on_searches({}, {}, {}, 2))
